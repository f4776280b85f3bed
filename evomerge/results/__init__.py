"""Rendering what the ledger holds: tables, JSON, figures, a page, and one candidate as a recipe or a model folder.

What is exported is built by the same engine as what was scored. Must not score, choose or change anything, and must not
import `derived`, `api` or `cli`.
"""

from evomerge.results._contributions import contributions
from evomerge.results._explain import explain_document
from evomerge.results._export import FORMATS, export, provenance
from evomerge.results._front import front_document
from evomerge.results._headline import Headline, headline, next_step
from evomerge.results._listing import (
    comparison_document,
    comparison_table,
    problem_lines,
    run_rows,
    runs_in,
    runs_table,
)
from evomerge.results._live_view import JsonEvents, LiveView, live_view
from evomerge.results._lm_eval_form import lm_eval_document
from evomerge.results._notebook import NotebookPresenter
from evomerge.results._results_table import (
    knee_lines,
    missed_floor_lines,
    preferred_line,
    result_rows,
    results_csv,
    results_table,
)
from evomerge.results._shares import Shares, shares_of
from evomerge.results._tables import cost_text, floor_lines, format_duration, printable, status_lines
from evomerge.results.figures import Figure, run_figures, save_figures
from evomerge.results.report import REPORT, report_page, summary_lines, write_report
from evomerge.run import Run

__all__ = [
    "FORMATS",
    "REPORT",
    "Figure",
    "Headline",
    "JsonEvents",
    "LiveView",
    "NotebookPresenter",
    "Run",
    "Shares",
    "comparison_document",
    "comparison_table",
    "contributions",
    "cost_text",
    "explain_document",
    "export",
    "floor_lines",
    "format_duration",
    "front_document",
    "headline",
    "knee_lines",
    "live_view",
    "lm_eval_document",
    "missed_floor_lines",
    "next_step",
    "preferred_line",
    "printable",
    "problem_lines",
    "provenance",
    "report_page",
    "result_rows",
    "results_csv",
    "results_table",
    "run_figures",
    "run_rows",
    "runs_in",
    "runs_table",
    "save_figures",
    "shares_of",
    "status_lines",
    "summary_lines",
    "write_report",
]

Run.presenter = NotebookPresenter()
