"""From a live language model to scores per item.

    prepared = prepare([TaskRequest(task="zoo_add")], task_path=Path("tasks"), pools=PoolSizes(...), seed=0)
    scorer = prepared.scorer(model, tokenizer, batch_size=64)         # in a worker; `prepared` can be pickled
    scores = scorer.score({"zoo_add": prepared.pools["zoo_add"]["search"][:64]})

`prepare` runs once, on the driver: it loads lm-eval tasks and plain Python scorers, divides their documents into the
disjoint pools search, select and report, and builds every prompt. A `Scorer` is bound to one model object and scores
whatever weights that holds at the moment: no files, no network, no global random numbers; the same items give the
same bits. Values are "higher is better" per item; NaN and constant models raise `DegenerateModel` and never become a
number. lm-eval is imported in one file, `_lm_eval.py`, and only when a task is prepared or scored.

Pools: search and select come from a task's validation split, else its training split, and report from the split that
lm-eval reports on. A task with one split has it divided among the three. Documents that may appear as few-shot
examples are in no pool, and documents that ask the same question are kept once.

This room knows nothing of recipes, spaces or optimizers: it cannot tell a merge from any other model, nor decide
which items a generation sees or who wins.
"""

from typing import TYPE_CHECKING, Any

from evomerge.evaluation._prepared import Prepared
from evomerge.evaluation.prepare._prepare import prepare
from evomerge.evaluation.prepare._request import PoolSizes, TaskRequest
from evomerge.evaluation.score._health import check_logits

if TYPE_CHECKING:
    from evomerge.evaluation.score._scorer import Scorer

WORKER_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "LMEVAL_LOG_LEVEL": "ERROR",
    # Logits are large and made anew for every batch: in torch's huge pages that costs up to a fifth less.
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""Environment for processes that only score, to be set before they import anything: items come ready made."""

__all__ = ["WORKER_ENVIRONMENT", "PoolSizes", "Prepared", "Scorer", "TaskRequest", "check_logits", "prepare"]


def __getattr__(name: str) -> Any:
    """Load `Scorer` when it is asked for: its module imports torch."""
    if name == "Scorer":
        from evomerge.evaluation.score._scorer import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
