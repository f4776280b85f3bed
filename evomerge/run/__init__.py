"""The night: search file, check, ledger, workers, loop, resume, pick and verdict.

This is the only room that brings spaces, optimizers, the engine and evaluation together. It refuses to know how its
progress looks (see `Observer`) and how its result is rendered or exported.
"""

from evomerge.run._driver import search
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import (
    fitness,
    metric,
    shown,
    values_of,
)
from evomerge.run._progress import Observer, Progress, Silent
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
from evomerge.run.workers._candidate_scorer import CandidateScorer
from evomerge.run.workers._protocol import (
    Executor,
    Job,
    Outcome,
    WorkerSetup,
)

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
    "Run",
    "SearchEntry",
    "Setup",
    "Silent",
    "Summary",
    "WorkerSetup",
    "cost_of",
    "fitness",
    "inspect",
    "inspect_data",
    "metric",
    "needs",
    "search",
    "search_schema",
    "shown",
    "utilization",
    "values_of",
]
