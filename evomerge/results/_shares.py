"""What each parent contributes to a candidate, as far as it can be known without its weights, or with them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from evomerge.checkpoint import Parents, recorded_models
from evomerge.engine import embedding_rows, make_plan
from evomerge.errors import EvomergeError, first_line
from evomerge.recipe import ModelRef, Recipe
from evomerge.records import Candidate
from evomerge.results._contributions import contributions_of
from evomerge.run import Run


class Shares(NamedTuple):
    """What each parent contributes to a candidate.

    Attributes:
        factors: block -> parent -> factor (see `contributions_of`); empty where it cannot be known.
        title: of a figure.
        note: why it cannot be known, or "".
    """

    factors: Mapping[str, Mapping[str, float]]
    title: str
    note: str


def shares_of(run: Run, candidate: Candidate) -> Shares:
    """Return a candidate's shares from the outlines in the ledger; runs that have none need the parents at hand.

    Never raises for a parent that is gone or a recipe that cannot be built: `note` says so.
    """
    title = f"What each parent contributes to {candidate.name}"
    if candidate.failure is not None and candidate.failure.kind == "infeasible":
        return Shares({}, title, f"it cannot be built: {candidate.failure.reason}")
    try:
        recipe = run.recipe(candidate)
        known = _recorded(run, recipe)
        if known is not None:  # which row is whose changes no share
            return Shares(contributions_of(make_plan(_without_vocabulary(recipe), known)), title, "")
        parents = Parents(recipe.models, recipe.root, recipe.commits)
        return Shares(contributions_of(make_plan(recipe, parents)), title, "")
    except EvomergeError as error:
        return Shares({}, title, f"the shares of the parents cannot be computed ({first_line(error)})")


def _recorded(run: Run, recipe: Recipe) -> Parents | None:
    """Return the parents as recorded when the run began, on one vocabulary; None in runs that have none of them."""
    outlines = run.fact("outlines")
    if not outlines:
        return None
    known = {ModelRef.parse(name): model for name, model in recorded_models(outlines).items()}
    if not all(ref in known for ref in recipe.models):
        return None
    models = {ref: known[ref] for ref in recipe.models}
    if recipe.vocabulary is not None:
        count = max(map(embedding_rows, models.values()))
        models = {ref: model.with_rows(count) for ref, model in models.items()}
    return Parents.of(models)


def _without_vocabulary(recipe: Recipe) -> Recipe:
    merges = {name: _without_vocabulary(inner) for name, inner in recipe.merges.items()}
    return replace(recipe, vocabulary=None, merges=merges)
