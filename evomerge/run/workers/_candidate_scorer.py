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
    CannotGoOn,
    DegenerateModel,
    EvomergeError,
    InvalidInput,
    MemoryFull,
    MergeFailed,
    ModelChanged,
)
from evomerge.recipe import parse_recipe
from evomerge.records import Failure, FailureKind, ItemScores
from evomerge.run._objectives import scores_of
from evomerge.run.workers._answer_check import MAX_PROMPTS, answer_check, is_one_parent
from evomerge.run.workers._protocol import Job, Outcome, WorkerSetup

if TYPE_CHECKING:
    from evomerge.evaluation import Scorer

# On a CPU, torch compiles a bfloat16 product for every shape that it meets, and keeps the last 1024 of them in each of
# two caches, together more than half a megabyte a shape: batches of ever new items fill them to 0.7 GB. These limits
# hold what forward passes of two or three shapes of batches need; a miss costs a quarter of a millisecond.
_CACHED_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "16"}

CHECKED_TEXT = "The first of these two is 10, and the second"  # where a task has no prompt of its own
MAX_CACHED_SCORERS = 32  # for each model object, which depths change, with each tokenizer


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
        self._live = self._opened()
        self._checked = self._answers_checked = False
        self._checkpoints = False  # whether backward passes keep the activations between the blocks alone
        self._scorers: dict[tuple[int, int, int], tuple[Scorer, object]] = {}

    def _opened(self) -> LiveModel:
        """Return a live model over newly opened parents."""
        setup = self.setup
        parents = Parents(setup.parents, setup.root, setup.commits, setup.digests, setup.places)
        parents.expect(setup.stamps)
        cache = cache_folder() / "statistics" if setup.digests else None
        return LiveModel(parents, device=setup.device, cache=cache, share=setup.share)

    def ready(self) -> None:
        """Return when the libraries that the first candidate needs are loaded."""
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    def score(self, job: Job, batch_size: int | None = None) -> Outcome:
        """Score a job; every exception but one becomes a failure of the candidate.

        Args:
            job: what to score.
            batch_size: sequences in one forward pass; None = as set up.

        Raises:
            CannotGoOn: this machine makes wrong models, or a parent's file changed. That is no candidate's fault, and
                ends the run.
        """
        started = time.perf_counter()
        try:
            return self._scored(job, batch_size or self.setup.batch_size, started)
        except CannotGoOn:
            raise
        except ModelChanged as error:
            failure = _failure("failed", error)
            self._scorers.clear()
            del self._live  # what was changed may be a parent's own weights, in all that was made of its file
            gc.collect()
            self._live = self._opened()
        except DegenerateModel as error:
            failure = _failure("degenerate", error)
        except (MergeFailed, InvalidInput) as error:
            failure = _failure("infeasible", error)
        except (Exception, SystemExit) as error:  # whatever a scorer raises is its candidate's failure, not the run's
            failure = _failure("failed", error, traceback.format_exc(limit=-8))
            if self.setup.device != "cpu" or isinstance(error, MemoryError | MemoryFull):
                gc.collect()  # a traceback's cycles may hold the memory that the next candidate needs
        return Outcome(items=None, failure=failure, seconds=time.perf_counter() - started, worker=self.name)

    def _scored(self, job: Job, batch_size: int, started: float) -> Outcome:
        self._live.parents.check_unchanged()
        plan = make_plan(parse_recipe(job.document, root=self.setup.root), self._live.parents)
        self._live.apply(plan)
        self._check(plan)
        scorer, gradient, note = self._scorer(batch_size), None, ""
        if not job.gradient:
            items = scorer.score(job.items)
        elif not scorer.has_gold(job.items):
            items, note = scorer.score(job.items), "not every task has right answers whose likelihood can be followed"
        else:
            items, gradient, note = self._with_gradient(job, plan, scorer)
        self._live.parents.check_unchanged()  # or these scores may be another model's
        _check_means(items)
        seconds = time.perf_counter() - started
        return Outcome(
            items=items,
            failure=None,
            seconds=seconds,
            worker=self.name,
            gradient=gradient,
            no_gradient=note,
            notes=scorer.notes,
            tokens=scorer.tokens,
        )

    def _check(self, plan: Plan) -> None:
        """Make sure, the first time, that what is scored is what would be exported, in weights and in answers.

        Raises:
            SelfCheckFailed: it is not.
        """
        self._checked = self._checked or self_check(self._live, plan, self.name)
        if self._answers_checked or is_one_parent(plan):
            return
        prepared = self.setup.prepared
        texts = dict.fromkeys(task.prompt or CHECKED_TEXT for task in prepared.tasks.values())
        answer_check(self._live, plan, list(texts)[:MAX_PROMPTS], self.setup.share)
        self._answers_checked = True

    def _with_gradient(
        self, job: Job, plan: Plan, scorer: "Scorer"
    ) -> tuple[dict[str, ItemScores], GradientTable | None, str]:
        """Score with a backward pass, or without it where that takes more memory than there is.

        Where all activations are too much, only those between the blocks are kept, from then on.
        """
        for checkpoints in (True,) if self._checkpoints else (False, True):
            self._checkpoints = checkpoints
            try:
                with collected_gradients(self._live, plan, job.gradient, checkpoints=checkpoints) as table:
                    return scorer.score(job.items, job.gold), table, ""
            except (MemoryError, MemoryFull):
                pass
            gc.collect()  # now that the error is gone, and with it what holds the activations
        return scorer.score(job.items), None, "the backward pass takes more memory than there is"

    def _scorer(self, batch_size: int) -> "Scorer":
        """Return the scorer of the live model object and its tokenizer; those of the last ones are kept."""
        model, tokenizer = self._live.model, self._live.tokenizer
        key = (id(model), id(tokenizer), batch_size)  # both are kept with the scorer, so no other object has their ids
        found = self._scorers.pop(key, None)
        if found is None:
            found = self.setup.prepared.scorer(model, tokenizer, batch_size=batch_size), (model, tokenizer)
        self._scorers[key] = found  # at the end: the latest
        if len(self._scorers) > MAX_CACHED_SCORERS:
            del self._scorers[next(iter(self._scorers))]
        return found[0]


def _check_means(items: Mapping[str, ItemScores]) -> None:
    """Raise EvomergeError for values whose mean or error is beyond what numbers hold."""
    for name, score in scores_of(items).items():
        if not math.isfinite(score.value) or not math.isfinite(score.stderr):
            raise EvomergeError(f"{name}: its values are too large to average")


def _failure(kind: FailureKind, error: BaseException, detail: str = "") -> Failure:
    text = str(error).strip() or type(error).__name__
    own = kind != "failed" or isinstance(error, EvomergeError)  # its message says what it is
    reason = text if own else f"{type(error).__name__}: {text}"
    return Failure(kind=kind, reason=reason.splitlines()[0][:500], detail=detail or text[:4000])
