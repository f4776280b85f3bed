"""The night: search file, check, ledger, workers, loop, resume, pick and verdict.

This is the only room that brings spaces, optimisers, the engine and evaluation together. It refuses to know how its
progress looks (see `Observer`) and how its result is rendered or exported.
"""

from evomerge.run._driver import search
from evomerge.run._fitness import fitness, metric, shown, values_of
from evomerge.run._inspect import Setup, inspect, inspect_data, needs
from evomerge.run._jobs import Executor, Job, Outcome, WorkerSetup
from evomerge.run._ledger import Ledger
from evomerge.run._progress import Observer, Progress, Silent
from evomerge.run._run import LEDGER, Run, Summary
from evomerge.run._scoring import CandidateScorer
from evomerge.run._search_file import SearchEntry

__all__ = [
    "LEDGER",
    "CandidateScorer",
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
    "fitness",
    "inspect",
    "inspect_data",
    "metric",
    "needs",
    "search",
    "shown",
    "values_of",
]
