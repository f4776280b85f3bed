"""The work of one worker: turn the live model into a candidate and score it."""

import gc
import math
import os
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING

from evomerge import methods
from evomerge.checkpoint import Parents
from evomerge.engine import (
    GradientTable,
    LiveModel,
    Plan,
    cache_folder,
    collected_gradients,
    make_plan,
    self_check,
)
from evomerge.errors import (
    DegenerateModel,
    EvomergeError,
    InvalidInput,
    MergeFailed,
    SelfCheckFailed,
)
from evomerge.recipe import parse_recipe
from evomerge.records import Failure, FailureKind, ItemScores
from evomerge.run._objectives import scores_of
from evomerge.run.workers._protocol import Job, Outcome, WorkerSetup

if TYPE_CHECKING:
    from evomerge.evaluation import Scorer

# On a CPU, torch compiles a bfloat16 product for every shape that it meets, and keeps the last 1024 of them in each of
# two caches, together more than half a megabyte a shape: batches of ever new items fill them to 0.7 GB. These limits
# hold what forward passes of two or three shapes of batches need; a miss costs a quarter of a millisecond.
_CACHED_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "16"}

MAX_CACHED_SCORERS = 32  # one for each model object: depths change the object


class CandidateScorer:
    """Holds the parents mapped and one live model; scores one candidate after another."""

    def __init__(self, setup: WorkerSetup, name: str):
        """Open the parents.

        Args:
            setup: where they are and what to score.
            name: of this worker, in the ledger.
        """
        import torch

        for variable, shapes in _CACHED_SHAPES.items():  # they are read once, at a process's first product
            os.environ.setdefault(variable, shapes)
        torch.set_num_threads(setup.threads)
        self.setup, self.name = setup, name
        for method in setup.methods:  # before anything is parsed
            methods.register(method)
        parents = Parents(setup.parents, setup.root, setup.commits, setup.digests, setup.places)
        cache = cache_folder() / "statistics" if setup.digests else None
        self._live = LiveModel(parents, device=setup.device, cache=cache, share=setup.share)
        self._checked = False
        self._scorers: dict[tuple[int, int], Scorer] = {}

    def ready(self) -> None:
        """Return when the libraries that the first candidate needs are loaded."""
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    def score(self, job: Job, batch_size: int | None = None) -> Outcome:
        """Score a job; every exception but one becomes a failure of the candidate.

        Args:
            job: what to score.
            batch_size: sequences in one forward pass; None = as set up.

        Raises:
            SelfCheckFailed: this machine makes wrong models. That is no candidate's fault, and ends the run.
        """
        started = time.perf_counter()
        try:
            return self._scored(job, batch_size or self.setup.batch_size, started)
        except SelfCheckFailed:
            raise
        except DegenerateModel as error:
            failure = _failure("degenerate", error)
        except (MergeFailed, InvalidInput) as error:
            failure = _failure("infeasible", error)
        except (Exception, SystemExit) as error:  # whatever a scorer raises is its candidate's failure, not the run's
            failure = _failure("failed", error, traceback.format_exc(limit=-8))
            if self.setup.device != "cpu" or isinstance(error, MemoryError):
                gc.collect()  # a traceback's cycles may hold the memory that the next candidate needs
        return Outcome(items=None, failure=failure, seconds=time.perf_counter() - started, worker=self.name)

    def _scored(self, job: Job, batch_size: int, started: float) -> Outcome:
        plan = make_plan(parse_recipe(job.document, root=self.setup.root), self._live.parents)
        self._live.apply(plan)
        self._checked = self._checked or self_check(self._live, plan, self.name)
        scorer, gradient, note = self._scorer(batch_size), None, ""
        if not job.gradient:
            items = scorer.score(job.items)
        elif not scorer.has_gold(job.items):
            items, note = scorer.score(job.items), "not every task has right answers whose likelihood can be followed"
        else:
            items, gradient, note = self._with_gradient(job, plan, scorer)
        _check_means(items)
        seconds = time.perf_counter() - started
        return Outcome(
            items=items,
            failure=None,
            seconds=seconds,
            worker=self.name,
            gradient=gradient,
            note=note,
            tokens=scorer.tokens,
        )

    def _with_gradient(
        self, job: Job, plan: Plan, scorer: "Scorer"
    ) -> tuple[dict[str, ItemScores], GradientTable | None, str]:
        """Score with a backward pass, or without it where that takes more memory than there is."""
        try:
            with collected_gradients(self._live, plan, job.gradient) as table:
                return scorer.score(job.items, job.gold), table, ""
        except (MemoryError, EvomergeError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error):
                raise
        gc.collect()
        return scorer.score(job.items), None, "the backward pass takes more memory than there is"

    def _scorer(self, batch_size: int) -> "Scorer":
        """Return the scorer of the live model object; those of the last objects are kept."""
        key = (id(self._live.model), batch_size)  # a scorer holds its model, whose id is therefore no other object's
        scorer = self._scorers.pop(key, None)
        if scorer is None:
            scorer = self.setup.prepared.scorer(self._live.model, self._live.tokenizer, batch_size=batch_size)
        self._scorers[key] = scorer  # at the end: the latest
        if len(self._scorers) > MAX_CACHED_SCORERS:
            del self._scorers[next(iter(self._scorers))]
        return scorer


def _check_means(items: Mapping[str, ItemScores]) -> None:
    """Raise EvomergeError for values whose mean or error is beyond what numbers hold."""
    for name, score in scores_of(items).items():
        if not math.isfinite(score.value) or not math.isfinite(score.stderr):
            raise EvomergeError(f"{name}: its values are too large to average")


def _failure(kind: FailureKind, error: BaseException, detail: str = "") -> Failure:
    text = str(error).strip() or type(error).__name__
    reason = text if kind != "failed" else f"{type(error).__name__}: {text}"
    return Failure(kind=kind, reason=reason.splitlines()[0][:500], detail=detail or text[:4000])
