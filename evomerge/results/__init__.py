"""Rendering what the ledger holds: tables, JSON, and one candidate as a recipe, a mergekit file or a model folder.

What is exported is built by the same engine as what was scored. Must not score, choose or change anything, and must not
import `derived`, `api` or `cli`.
"""

from evomerge.results._contributions import contributions
from evomerge.results._explain import explain_document
from evomerge.results._export import FORMATS, export, provenance
from evomerge.results._front import front_document, items_scored
from evomerge.results._tables import floor_lines, format_duration, printable, results_table, status_lines

__all__ = [
    "FORMATS",
    "contributions",
    "explain_document",
    "export",
    "floor_lines",
    "format_duration",
    "front_document",
    "items_scored",
    "printable",
    "provenance",
    "results_table",
    "status_lines",
]
