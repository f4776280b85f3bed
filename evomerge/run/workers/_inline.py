"""The inline executor: one candidate at a time in this process, without Ray."""

from dataclasses import replace

from evomerge.run.workers._candidate_scorer import CandidateScorer
from evomerge.run.workers._protocol import Job, Outcome, WorkerSetup


class InlineExecutor:
    """Scores a submitted job when it is waited for. A failed job is tried once more with half the batch."""

    def __init__(self, setup: WorkerSetup):
        self._setup = setup
        self._worker: CandidateScorer | None = None
        self._job: Job | None = None

    @property
    def free(self) -> int:
        """One job at a time."""
        return 0 if self._job else 1

    @property
    def workers(self) -> int:
        """This process."""
        return 1

    def submit(self, job: Job) -> None:
        """Remember the job."""
        assert self._job is None
        self._job = job

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Score the job, however long that takes."""
        job, self._job = self._job, None
        if job is None:
            return []
        if self._worker is None:
            self._worker = CandidateScorer(self._setup, "inline")
        outcome = self._worker.score(job)
        if outcome.failure is not None and outcome.failure.kind == "failed":
            again = self._worker.score(job, max(1, self._setup.batch_size // 2))
            lost = outcome.lost_items + again.lost_items
            outcome = replace(again, attempts=2, seconds=outcome.seconds + again.seconds, lost_items=lost)
        return [(job, outcome)]

    def close(self) -> None:
        """Release the model."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None
