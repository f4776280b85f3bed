"""Greedy soup: average checkpoints best first, keeping each that does not lower the held-out score.

Must not import the other packages of `derived`, nor `results`, `api` or `cli`.
"""

from evomerge.derived.soup._card import soup_sections
from evomerge.derived.soup._soup import (
    GreedyResult,
    Soup,
    SoupStep,
    check_models,
    greedy_soup,
    run_greedy_soup,
    soup_document,
)

__all__ = [
    "GreedyResult",
    "Soup",
    "SoupStep",
    "check_models",
    "greedy_soup",
    "run_greedy_soup",
    "soup_document",
    "soup_sections",
]
