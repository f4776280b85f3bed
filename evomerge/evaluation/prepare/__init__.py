"""On the driver, once: tasks, the three pools, prompts and items.

Nothing here knows a model. It must not import `evomerge.evaluation.score`, and imports neither torch nor transformers
by itself.
"""

from evomerge.evaluation.prepare._clusters import clusters_of
from evomerge.evaluation.prepare._group import is_group, read_group, read_task
from evomerge.evaluation.prepare._identity import callable_digest, plain
from evomerge.evaluation.prepare._index import TaskIndex, built_in_entries, scan_folder
from evomerge.evaluation.prepare._item_list import prepare_items, read_items
from evomerge.evaluation.prepare._loader import TaskLoader
from evomerge.evaluation.prepare._options import LM_EVAL_MODEL_OPTIONS, read_options, unused_names
from evomerge.evaluation.prepare._survey import TaskVerdict, survey
from evomerge.evaluation.prepare._task import measure_of
from evomerge.evaluation.prepare._token_cost import count_tokens

__all__ = [
    "LM_EVAL_MODEL_OPTIONS",
    "TaskIndex",
    "TaskLoader",
    "TaskVerdict",
    "built_in_entries",
    "callable_digest",
    "clusters_of",
    "count_tokens",
    "is_group",
    "measure_of",
    "plain",
    "prepare_items",
    "read_group",
    "read_items",
    "read_options",
    "read_task",
    "scan_folder",
    "survey",
    "unused_names",
]
