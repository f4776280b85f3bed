"""On the driver, once: tasks, the three pools, prompts and items.

Nothing here knows a model. It must not import `evomerge.evaluation.score`, and imports neither torch nor transformers
by itself.
"""

from evomerge.evaluation.prepare._item_list import prepare_items, read_items
from evomerge.evaluation.prepare._loader import TaskLoader
from evomerge.evaluation.prepare._options import read_options, unused_names
from evomerge.evaluation.prepare._task import measure_of
from evomerge.evaluation.prepare._token_cost import count_tokens

__all__ = [
    "TaskLoader",
    "count_tokens",
    "measure_of",
    "prepare_items",
    "read_items",
    "read_options",
    "unused_names",
]
