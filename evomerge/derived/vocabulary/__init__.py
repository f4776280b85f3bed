"""A model on another model's tokenizer: its rows for the tokens that both have, new rows for the others.

Must not import the other packages of `derived`, nor `evaluation`, `run`, `results`, `api` or `cli`.
"""

from evomerge.derived.vocabulary._matching import TokenMatch, match_tokens
from evomerge.derived.vocabulary._pursuit import AtomCombination, orthogonal_pursuit
from evomerge.derived.vocabulary._transplant import NEW_ROWS, NewRows, TransplantReport, transplant

__all__ = [
    "NEW_ROWS",
    "AtomCombination",
    "NewRows",
    "TokenMatch",
    "TransplantReport",
    "match_tokens",
    "orthogonal_pursuit",
    "transplant",
]
