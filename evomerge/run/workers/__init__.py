"""What a worker is asked, what it answers, and the executor that runs one in this process.

A worker makes a live model of a recipe and scores it; it knows neither optimizers nor the ledger, and must not import
the loop. Workers on Ray are in `evomerge.run.workers.ray`.
"""

from evomerge.run.workers._answer_check import answer_check
from evomerge.run.workers._candidate_scorer import CandidateScorer
from evomerge.run.workers._inline import InlineExecutor
from evomerge.run.workers._protocol import Executor, Job, Outcome, WorkerSetup

__all__ = [
    "CandidateScorer",
    "Executor",
    "InlineExecutor",
    "Job",
    "Outcome",
    "WorkerSetup",
    "answer_check",
]
