"""What a run is to do: the search file, what is wrong with it, what it will cost, and the checked result.

`check_search` reads and checks everything that can be known before any candidate is scored, each section whatever is
wrong with the others, and returns a `Setup`. This package must not import the loop, the workers or the ledger.
"""

from evomerge.run.config._cost import Cost, cost_of
from evomerge.run.config._engine import engine_problems, read_engine, vllm_options
from evomerge.run.config._extensions import Extensions
from evomerge.run.config._genome import ModelFacts, TranslatedGenome, translate_genome
from evomerge.run.config._schema import CHANGEABLE_KEYS, BudgetEntry, EngineEntry, SearchEntry, search_schema
from evomerge.run.config._setup import AUTO, ResourceNeeds, Setup, resource_needs
from evomerge.run.config._template import SearchOutline, search_template
from evomerge.run.config._trial import Trial, try_scorers, uneven_scales
from evomerge.run.config._validate import check_search
from evomerge.run.config._vocabulary import OutputVocabulary

__all__ = [
    "AUTO",
    "CHANGEABLE_KEYS",
    "BudgetEntry",
    "Cost",
    "EngineEntry",
    "Extensions",
    "ModelFacts",
    "OutputVocabulary",
    "ResourceNeeds",
    "SearchEntry",
    "SearchOutline",
    "Setup",
    "TranslatedGenome",
    "Trial",
    "check_search",
    "cost_of",
    "engine_problems",
    "read_engine",
    "resource_needs",
    "search_schema",
    "search_template",
    "translate_genome",
    "try_scorers",
    "uneven_scales",
    "vllm_options",
]
