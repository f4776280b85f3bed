"""The work of one worker: turn the live model into a candidate and score it."""

import gc
import math
import os
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING

from evomerge.engine import (
    GradientTable,
    MemoryShare,
    Plan,
    cache_folder,
    collected_gradients,
    make_plan,
    self_check,
)
from evomerge.engine.vllm import MergeSource, VllmEngines
from evomerge.errors import (
    CannotGoOn,
    DegenerateModel,
    EvomergeError,
    InvalidInput,
    MemoryFull,
    MergeFailed,
    ModelChanged,
    some_of,
)
from evomerge.evaluation.generation.vllm import VllmGenerator
from evomerge.recipe import parse_recipe
from evomerge.records import Failure, FailureKind, ItemScores
from evomerge.run._objectives import scores_of
from evomerge.run.workers._answer_check import MAX_PROMPTS, answer_check, fits_twice, is_one_parent, vllm_check
from evomerge.run.workers._protocol import Job, Outcome, WorkerSetup

if TYPE_CHECKING:
    from evomerge.evaluation import Scorer

# On a CPU, torch compiles a bfloat16 product for every shape that it meets, and keeps the last 1024 of them in each of
# two caches, together more than half a megabyte a shape: batches of ever new items fill them to 0.7 GB. These limits
# hold what forward passes of two or three shapes of batches need; a miss costs a quarter of a millisecond.
_CACHED_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "16"}

CHECKED_TEXT = "The first of these two is 10, and the second"  # where a task has no prompt of its own
VLLM_SHARE = 0.5  # of a worker's share of a GPU, for vLLM; parents and a live model have the rest
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
        self._source = _source_of(setup)
        self._live = self._source.opened()
        self._vllm: VllmEngines | None = None
        if setup.vllm is not None:
            self._vllm = VllmEngines(self._source, setup.vllm, batch_size=setup.batch_size)
        self._checked = self._answers_checked = False
        self._checkpoints = False  # whether backward passes keep the activations between the blocks alone
        self._scorers: dict[tuple[int, int, int], tuple[Scorer, object]] = {}
        self._scoring: Scorer | None = None  # of the job at hand, once it has been given items

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
        self._scoring = None
        try:
            return self._scored(job, batch_size or self.setup.batch_size, started)
        except CannotGoOn:
            raise
        except (Exception, SystemExit) as error:  # whatever a scorer raises is its candidate's failure, not the run's
            lost = self._lost_items()
            failure = self._recovered(error)
        seconds = time.perf_counter() - started
        return Outcome(items=None, failure=failure, seconds=seconds, worker=self.name, lost_items=lost)

    def _recovered(self, error: BaseException) -> Failure:
        """Return what became of a candidate by an error, with nothing left of it that the next one could meet."""
        if isinstance(error, DegenerateModel):
            return _failure("degenerate", error)
        if isinstance(error, MergeFailed | InvalidInput):
            return _failure("infeasible", error)
        if isinstance(error, ModelChanged):
            self._scorers.clear()
            del self._live  # what was changed may be a parent's own weights, in all that was made of its file
            gc.collect()
            self._live = self._source.opened()
            return _failure("failed", error)
        if self.setup.device != "cpu" or isinstance(error, MemoryError | MemoryFull):
            gc.collect()  # a traceback's cycles may hold the memory that the next candidate needs
        return _failure("failed", error, "".join(traceback.format_exception(error, limit=-8)))

    def _lost_items(self) -> int:
        """Return how many items the scorer of a failed job was given, once, and let go of it and of its model."""
        scorer, self._scoring = self._scoring, None
        return 0 if scorer is None else scorer.begun

    def _scored(self, job: Job, batch_size: int, started: float) -> Outcome:
        self._live.parents.check_unchanged()
        plan = make_plan(parse_recipe(job.document, root=self.setup.root), self._live.parents)
        self._load(plan, job)
        scorer, gradient, note = self._scorer(batch_size), None, ""
        self._scoring = scorer
        # Nothing is climbed for what weighs 0.
        followed = [name for name in job.items if job.gradient and job.gold[name]]
        without = [name for name in followed if not scorer.has_gold([name])]
        if not job.gradient:
            items = scorer.score(job.items)
        elif without:
            items = scorer.score(job.items)
            verb = "has" if len(without) == 1 else "have"
            note = f"{some_of(without)} {verb} no right answers whose likelihood can be followed"
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

    def close(self) -> None:
        """End what would outlive this object."""
        if self._vllm is not None:
            self._vllm.close()

    def _load(self, plan: Plan, job: Job) -> None:
        """Give the weights of a merge to whatever scores it: the live model, a vLLM engine, or both.

        Where vLLM writes answers and nothing else is asked, it alone holds them, but for the first check.
        """
        needs = self.setup.prepared.needs(job.items)
        generates = self._vllm is not None and needs.text
        checks = not self._answers_checked and fits_twice(self._live, plan, self.setup.share)
        applied = not generates or needs.model or checks
        if applied:
            self._live.apply(plan)
        else:
            self._live.describe(plan)
        if self._vllm is not None and generates:
            self._vllm.load(plan, self._live, applied=applied)
        self._check(plan, applied=applied, generates=generates and applied)
        if applied and generates and not needs.model:
            self._live.release()

    def _check(self, plan: Plan, *, applied: bool, generates: bool) -> None:
        """Make sure, the first time, that what is scored is what would be exported, in weights and in answers.

        Args:
            plan: of the merge.
            applied: whether the live model holds its weights.
            generates: whether a vLLM engine holds them, too.

        Raises:
            SelfCheckFailed: it is not.
        """
        self._checked = self._checked or (applied and self_check(self._live, plan, self.name))
        if self._answers_checked or is_one_parent(plan):
            return
        prepared = self.setup.prepared
        texts = list(dict.fromkeys(task.prompt or CHECKED_TEXT for task in prepared.tasks.values()))[:MAX_PROMPTS]
        answer_check(self._live, plan, texts, self.setup.share)
        if self._vllm is not None and generates:
            vllm_check(self._live, self._vllm, texts)
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
            generator = None if self._vllm is None else VllmGenerator(self._vllm, model)
            scorer = self.setup.prepared.scorer(model, tokenizer, batch_size=batch_size, generator=generator)
            found = scorer, (model, tokenizer)
        self._scorers[key] = found  # at the end: the latest
        if len(self._scorers) > MAX_CACHED_SCORERS:
            del self._scorers[next(iter(self._scorers))]
        return found[0]


def _source_of(setup: WorkerSetup) -> MergeSource:
    """Return what this worker, and every process that a vLLM engine of it has, builds merges from."""
    part = 1.0 if setup.vllm is None else VLLM_SHARE
    return MergeSource(
        parents=setup.parents,
        root=setup.root,
        device=setup.device,
        commits=setup.commits,
        digests=setup.digests,
        stamps=setup.stamps,
        places=setup.places,
        cache=cache_folder() / "statistics" if setup.digests else None,
        share=MemoryShare(device=setup.share.device * part, host=setup.share.host),
        methods=setup.methods,
        row_bytes=setup.row_bytes,
    )


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
