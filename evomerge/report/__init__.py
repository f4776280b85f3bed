"""Rendering what the ledger holds: tables and JSON.

This room reads runs and draws; it refuses to score, choose or change anything.
"""

from evomerge.report._explain import explain_document
from evomerge.report._front import front_document
from evomerge.report._tables import duration, plain, results_table, status_lines

__all__ = [
    "duration",
    "explain_document",
    "front_document",
    "plain",
    "results_table",
    "status_lines",
]
