"""A search run: search file, check, ledger, workers, loop, resume, proof and verdict.

    run = search("search.yaml", "runs/my-search")           # again to resume
    run.pick, run.verdict, run.front

`config/` reads and checks a search file, `loop/` asks, scores, records and tells, `workers/` score candidates,
`trackers/` receive its events; the ledger holds everything that a run knows. This is the only package that brings
spaces, optimizers, the engine and evaluation together. It must not import `results`, `derived`, `api` or `cli`: how
progress looks is an `Observer`'s business, how a result is rendered or exported that of `results`.
"""

from evomerge.run import trackers
from evomerge.run._driver import create_executor, search
from evomerge.run._folder import LEDGER
from evomerge.run._identity import facts_of
from evomerge.run._judgement import REFERENCE_KINDS, choose_pick, judge, verdict_plain, what_of
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import (
    displayed_interval,
    displayed_score,
    displayed_value,
    fitness,
    floors_of,
    internal_value,
    scale_factor,
    scaled_value,
    scores_of,
    shortfall,
    values_of,
    vector,
)
from evomerge.run._pace import JobPace, proof_seconds, search_end
from evomerge.run._progress import Observer, Progress, SilentObserver
from evomerge.run._proof import Proof
from evomerge.run._race import parts_of, survivors
from evomerge.run._ranking import Ranking, difficulty_offset, effects_of
from evomerge.run._run import Presenter, Run, Summary, items_scored, utilization
from evomerge.run.analysis import (
    FRAMES,
    CoursePoint,
    GeneBand,
    GeneImportance,
    ItemOutcomes,
    Outcomes,
    RunComparison,
    RunFacts,
    compare_runs,
    course,
    frame,
    gene_bands,
    gene_importance,
    gene_range,
    hypervolume_course,
    outcomes,
    point_row,
    progress_of,
    short_names,
)
from evomerge.run.config import (
    Cost,
    Extensions,
    ModelFacts,
    OutputVocabulary,
    ResourceNeeds,
    SearchEntry,
    SearchOutline,
    Setup,
    check_search,
    cost_of,
    resource_needs,
    search_schema,
    search_template,
    translate_genome,
    try_scorers,
    uneven_scales,
)
from evomerge.run.trackers import Tracker
from evomerge.run.workers import CandidateScorer, Executor, Job, Outcome, WorkerSetup

__all__ = [
    "FRAMES",
    "LEDGER",
    "REFERENCE_KINDS",
    "CandidateScorer",
    "Cost",
    "CoursePoint",
    "Executor",
    "Extensions",
    "GeneBand",
    "GeneImportance",
    "ItemOutcomes",
    "Job",
    "JobPace",
    "Ledger",
    "ModelFacts",
    "Observer",
    "Outcome",
    "Outcomes",
    "OutputVocabulary",
    "Presenter",
    "Progress",
    "Proof",
    "Ranking",
    "ResourceNeeds",
    "Run",
    "RunComparison",
    "RunFacts",
    "SearchEntry",
    "SearchOutline",
    "Setup",
    "SilentObserver",
    "Summary",
    "Tracker",
    "WorkerSetup",
    "check_search",
    "choose_pick",
    "compare_runs",
    "cost_of",
    "course",
    "create_executor",
    "difficulty_offset",
    "displayed_interval",
    "displayed_score",
    "displayed_value",
    "effects_of",
    "facts_of",
    "fitness",
    "floors_of",
    "frame",
    "gene_bands",
    "gene_importance",
    "gene_range",
    "hypervolume_course",
    "internal_value",
    "items_scored",
    "judge",
    "outcomes",
    "parts_of",
    "point_row",
    "progress_of",
    "proof_seconds",
    "resource_needs",
    "scale_factor",
    "scaled_value",
    "scores_of",
    "search",
    "search_end",
    "search_schema",
    "search_template",
    "short_names",
    "shortfall",
    "survivors",
    "trackers",
    "translate_genome",
    "try_scorers",
    "uneven_scales",
    "utilization",
    "values_of",
    "vector",
    "verdict_plain",
    "what_of",
]
