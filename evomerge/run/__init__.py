"""The night: search file, check, ledger, workers, loop, resume, pick and verdict.

This is the only room that brings spaces, optimizers, the engine and evaluation together. It refuses to know how its
progress looks (see `Observer`) and how its result is rendered or exported.
"""

from evomerge.run._driver import search
from evomerge.run._floors import floors_of
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import (
    displayed_score,
    displayed_value,
    fitness,
    internal_value,
    scale_factor,
    scaled_value,
    scores_of,
    shortfall,
    values_of,
    vector,
)
from evomerge.run._progress import Observer, Progress, Silent
from evomerge.run._ranking import Ranking, difficulty_offset, effects_of
from evomerge.run._run import (
    LEDGER,
    Run,
    Summary,
    utilization,
)
from evomerge.run.config._cost import Cost, cost_of
from evomerge.run.config._schema import SearchEntry, search_schema
from evomerge.run.config._setup import Setup, needs
from evomerge.run.config._validate import inspect, inspect_data
from evomerge.run.workers import CandidateScorer, Executor, Job, Outcome, WorkerSetup

__all__ = [
    "LEDGER",
    "CandidateScorer",
    "Cost",
    "Executor",
    "Job",
    "Ledger",
    "Observer",
    "Outcome",
    "Progress",
    "Ranking",
    "Run",
    "SearchEntry",
    "Setup",
    "Silent",
    "Summary",
    "WorkerSetup",
    "cost_of",
    "difficulty_offset",
    "displayed_score",
    "displayed_value",
    "effects_of",
    "fitness",
    "floors_of",
    "inspect",
    "inspect_data",
    "internal_value",
    "needs",
    "scale_factor",
    "scaled_value",
    "scores_of",
    "search",
    "search_schema",
    "shortfall",
    "utilization",
    "values_of",
    "vector",
]
