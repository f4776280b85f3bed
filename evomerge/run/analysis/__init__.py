"""The course, the genes and the items of a run, as numbers from its ledger: the facts behind every figure.

    facts = RunFacts(Run("runs/my-search"))
    course(facts), gene_importance(facts), outcomes(facts)

Everything is read from the ledger; nothing is scored or chosen, and nothing but the texts of examples is written. Must
not import the driver, the proof or workers.
"""

from evomerge.run.analysis._comparison import RunComparison, compare_runs
from evomerge.run.analysis._course import CoursePoint, course, hypervolume_course
from evomerge.run.analysis._examples import note_examples
from evomerge.run.analysis._facts import REFERENCE_KINDS, RunFacts, short_names
from evomerge.run.analysis._frames import FRAMES, frame
from evomerge.run.analysis._genes import (
    GeneBand,
    GeneImportance,
    gene_bands,
    gene_importance,
    gene_range,
    point_row,
)
from evomerge.run.analysis._outcomes import ItemOutcomes, Outcomes, outcomes
from evomerge.run.analysis._progress_of import progress_of

__all__ = [
    "FRAMES",
    "REFERENCE_KINDS",
    "CoursePoint",
    "GeneBand",
    "GeneImportance",
    "ItemOutcomes",
    "Outcomes",
    "RunComparison",
    "RunFacts",
    "compare_runs",
    "course",
    "frame",
    "gene_bands",
    "gene_importance",
    "gene_range",
    "hypervolume_course",
    "note_examples",
    "outcomes",
    "point_row",
    "progress_of",
    "short_names",
]
