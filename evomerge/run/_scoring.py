"""The work of one worker: turn the live model into a candidate and score it."""

import gc
import math
import time
import traceback
from typing import Any

from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, make_plan
from evomerge.errors import DegenerateModel, EvomergeError, InvalidInput, MergeFailed
from evomerge.recipe import parse_recipe
from evomerge.records import Failure, FailureKind
from evomerge.run._fitness import scores_of
from evomerge.run._jobs import Job, Outcome, WorkerSetup


class CandidateScorer:
    """Holds the parents mapped and one live model; scores one candidate after another."""

    def __init__(self, setup: WorkerSetup, name: str):
        import torch

        torch.set_num_threads(setup.threads)
        self.setup, self.name = setup, name
        self._live = LiveModel(Parents(setup.parents, setup.root, setup.commits), device=setup.device)
        self._scorers: dict[tuple[int, int], Any] = {}

    def ready(self) -> None:
        """Return when the libraries that the first candidate needs are loaded."""
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    def score(self, job: Job, batch_size: int | None = None) -> Outcome:
        """Score a job; every exception becomes a failure of the candidate."""
        started = time.perf_counter()
        try:
            items, failure = self._score(job, batch_size or self.setup.batch_size), None
        except DegenerateModel as error:
            items, failure = None, _failure("degenerate", error)
        except (MergeFailed, InvalidInput) as error:
            items, failure = None, _failure("infeasible", error)
        except (Exception, SystemExit) as error:  # whatever a scorer raises is its candidate's failure, not the night's
            items, failure = None, _failure("failed", error, traceback.format_exc(limit=-8))
            if self.setup.device != "cpu" or isinstance(error, MemoryError):
                gc.collect()  # a traceback's cycles may hold the memory that the next candidate needs
        return Outcome(items=items, failure=failure, seconds=time.perf_counter() - started, worker=self.name)

    def _score(self, job: Job, batch_size: int) -> Any:
        plan = make_plan(parse_recipe(job.document, root=self.setup.root), self._live.parents)
        self._live.apply(plan)
        key = (id(self._live.model), batch_size)
        if key not in self._scorers:
            bound = self.setup.prepared.scorer(self._live.model, self._live.tokenizer, batch_size=batch_size)
            self._scorers[key] = bound
        items = self._scorers[key].score(job.items)
        for name, score in scores_of(items).items():
            if not math.isfinite(score.value) or not math.isfinite(score.stderr):
                raise EvomergeError(f"{name}: its values are too large to average")
        return items


def _failure(kind: FailureKind, error: BaseException, detail: str = "") -> Failure:
    text = str(error).strip() or type(error).__name__
    reason = text if kind != "failed" else f"{type(error).__name__}: {text}"
    return Failure(kind=kind, reason=reason.splitlines()[0][:500], detail=detail or text[:4000])
