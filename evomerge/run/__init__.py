"""The night: search file, check, ledger, workers, loop, resume, pick and verdict.

This is the only room that brings spaces, optimisers, the engine and evaluation together. It refuses to know how its
progress looks (see `Observer`) and how its result is rendered or exported.
"""

from evomerge.run._cost import Cost, cost_of
from evomerge.run._driver import search
from evomerge.run._fitness import fitness, metric, shown, values_of
from evomerge.run._inspect import inspect, inspect_data
from evomerge.run._jobs import Executor, Job, Outcome, WorkerSetup
from evomerge.run._ledger import Ledger
from evomerge.run._progress import Observer, Progress, Silent
from evomerge.run._run import LEDGER, Run, Summary, utilisation
from evomerge.run._scoring import CandidateScorer
from evomerge.run._search_file import SearchEntry, search_schema
from evomerge.run._setup import Setup, needs
from evomerge.run._soup import Greedy, Soup, SoupStep, check_ingredients, cook, greedy_soup, soup_document
from evomerge.run._soup_card import soup_sections

__all__ = [
    "LEDGER",
    "CandidateScorer",
    "Cost",
    "Executor",
    "Greedy",
    "Job",
    "Ledger",
    "Observer",
    "Outcome",
    "Progress",
    "Run",
    "SearchEntry",
    "Setup",
    "Silent",
    "Soup",
    "SoupStep",
    "Summary",
    "WorkerSetup",
    "check_ingredients",
    "cook",
    "cost_of",
    "fitness",
    "greedy_soup",
    "inspect",
    "inspect_data",
    "metric",
    "needs",
    "search",
    "search_schema",
    "shown",
    "soup_document",
    "soup_sections",
    "utilisation",
    "values_of",
]
