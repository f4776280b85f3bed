"""What each parent contributes to a candidate, as far as it can be known without its weights, or with them."""

from collections.abc import Mapping
from typing import NamedTuple

from evomerge.checkpoint import Parents, recorded_models
from evomerge.engine import make_plan
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
        return Shares(contributions_of(make_plan(recipe, _parents(run, recipe))), title, "")
    except EvomergeError as error:
        return Shares({}, title, f"the shares of the parents cannot be computed ({first_line(error)})")


def _parents(run: Run, recipe: Recipe) -> Parents:
    """Return the parents as recorded when the run began, or opened from where the recipe says they are."""
    outlines = run.fact("outlines")
    if outlines:
        known = {ModelRef.parse(name): model for name, model in recorded_models(outlines).items()}
        if all(ref in known for ref in recipe.models) and recipe.vocabulary is None:
            return Parents.of({ref: known[ref] for ref in recipe.models})
    return Parents(recipe.models, recipe.root, recipe.commits)
