"""Generated answers: what is asked (`Prompt`), what comes back (`Answer`), and who writes it (`Generator`).

Tasks, stop strings and metrics are the caller's; weights and caches are a generator's. Imports torch. It must not
import `evomerge.evaluation.prepare`, nor anything of tasks.
"""

from evomerge.evaluation.generation._cache import repeated
from evomerge.evaluation.generation._protocol import Answer, Generator, OutsideGenerator, Prompt
from evomerge.evaluation.generation._texts import generated_answers
from evomerge.evaluation.generation._transformers import TransformersGenerator

__all__ = [
    "Answer",
    "Generator",
    "OutsideGenerator",
    "Prompt",
    "TransformersGenerator",
    "generated_answers",
    "repeated",
]
