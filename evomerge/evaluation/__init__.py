"""From a live language model to scores per item.

    prepared = prepare_tasks([TaskRequest(task="zoo_add")], task_path=Path("tasks"), pools=PoolSizes(...), seed=0)
    scorer = prepared.scorer(model, tokenizer, batch_size=64)         # in a worker; `prepared` can be pickled
    scores = scorer.score({"zoo_add": prepared.pools["zoo_add"]["search"][:64]})

`prepare_tasks` runs once, on the driver: each entry's `Evaluator` divides its items into the disjoint pools search,
select and report. A `Scorer` is bound to one model object and scores whatever weights that holds at the moment: no
files, no network, no global random numbers; the same items give the same bits. Values are "higher is better" per item;
NaN and constant models raise `DegenerateModel` and never become a number.

`lm_eval_task` (lm-eval's tasks, groups and tags), `python_scorer` and `layers` are the evaluators that ship; packages
add others (entry point `evomerge.evaluators`, or `register`). lm-eval is imported in one file, `_lm_eval.py`, and only
when a task is prepared or scored.

Pools: search and select come from a task's validation split, else its training split, and report from the split that
lm-eval reports on. A task with one split has it divided among the three. Documents that may appear as few-shot
examples are in no pool, and documents that ask the same question are kept once.

This package must not import recipes, spaces or optimizers: it cannot tell a merge from any other model, nor decide
which items a generation is scored on or which candidate wins. Importing it loads neither torch nor transformers.
"""

from typing import TYPE_CHECKING, Any

from evomerge.evaluation._evaluator import BoundTasks, Evaluator, PrepareContext, PreparedTask
from evomerge.evaluation._prepare import prepare_tasks
from evomerge.evaluation._prepared import Prepared
from evomerge.evaluation._registry import get, names, register
from evomerge.evaluation._request import (
    InvalidTask,
    LmEvalOptions,
    LmEvalSettings,
    PoolSizes,
    ScorerFunction,
    TaskRequest,
)
from evomerge.evaluation.metrics import ANSWER_TOKENS
from evomerge.evaluation.prepare import LM_EVAL_MODEL_OPTIONS, prepare_items

if TYPE_CHECKING:
    from evomerge.evaluation._scorer import Scorer
    from evomerge.evaluation.score import check_logits

WORKER_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "LMEVAL_LOG_LEVEL": "ERROR",
    # Logits are large and made anew for every batch: in torch's huge pages that costs up to a fifth less.
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""Environment for processes that only score, to be set before they import anything: items come ready made."""

__all__ = [
    "ANSWER_TOKENS",
    "LM_EVAL_MODEL_OPTIONS",
    "WORKER_ENVIRONMENT",
    "BoundTasks",
    "Evaluator",
    "InvalidTask",
    "LmEvalOptions",
    "LmEvalSettings",
    "PoolSizes",
    "PrepareContext",
    "Prepared",
    "PreparedTask",
    "Scorer",
    "ScorerFunction",
    "TaskRequest",
    "check_logits",
    "get",
    "names",
    "prepare_items",
    "prepare_tasks",
    "register",
]


def __getattr__(name: str) -> Any:
    """Load what imports torch when it is first used."""
    if name == "Scorer":
        from evomerge.evaluation._scorer import Scorer

        return Scorer
    if name == "check_logits":
        from evomerge.evaluation.score import check_logits

        return check_logits
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
