"""Calling the user's own scorers once before hours are spent on them: on two items, with a parent as the model."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from evomerge.engine import LiveModel, make_plan
from evomerge.errors import InvalidFile, Problem
from evomerge.evaluation import ANSWER_TOKENS, InvalidTask
from evomerge.records import Objective
from evomerge.run._objectives import displayed_value
from evomerge.run.config._setup import Setup

TRIAL_ITEMS = 2
_LIBRARIES = ("site-packages", str(Path(__file__).parents[2]))  # whose lines say nothing to a scorer's author
BUILT_IN = ("layers", "lm_eval_task")  # evaluators whose code is not the user's


@dataclass(frozen=True, slots=True)
class Trial:
    """What the user's own scorers returned for two items.

    Attributes:
        values: objective -> what its metric is for each item, in its own units; objectives of lm-eval are left out.
        parent: name of the model that was scored.
        skipped: why nothing was called, or "".
    """

    values: Mapping[str, Sequence[float]]
    parent: str
    skipped: str = ""


def try_scorers(setup: Setup) -> Trial:
    """Call each scorer and evaluator that is not lm-eval's on two search items, with the first model's weights.

    Raises:
        InvalidFile: some raise, or return anything but a number for each item; each with its place in the file.
    """
    import torch

    places = {objective.name: f"{setup.where}: tasks.{i}" for i, objective in enumerate(setup.objectives)}
    own = [o for o in setup.objectives if setup.prepared.evaluators[o.name].name not in BUILT_IN]
    parent = str(setup.entry.parents.models[0])
    if not own:
        return Trial({}, parent)
    device = "cuda" if setup.entry.workers.gpus else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        return Trial({}, parent, "scorers are not tried: workers.gpus asks for a GPU, and there is none here")
    live = LiveModel(setup.parents, device=device)
    live.apply(make_plan(setup.recipe({"merge_method": "passthrough", "models": [{"model": parent}]}), setup.parents))
    scorer = setup.prepared.scorer(live.model, live.tokenizer, batch_size=setup.entry.workers.batch_size)
    values, problems = {}, []
    for objective in own:
        ids = tuple(setup.prepared.pools[objective.name]["search"])[:TRIAL_ITEMS]
        try:
            found = scorer.score({objective.name: ids})[objective.name]
        except Exception as error:  # the code is the user's
            problems.append(Problem(places[objective.name], _sentence(error, len(ids), parent)))
        else:
            values[objective.name] = [displayed_value(objective, value) for value in found.values]
    if problems:
        raise InvalidFile(problems)
    return Trial(values, parent)


def uneven_scales(objectives: Sequence[Objective], values: Mapping[str, Sequence[float]]) -> str:
    """Return a warning if objectives that are averaged are in different units, or "".

    Args:
        objectives: all objectives of a search.
        values: objective -> some values of its metric; one without is taken to run from 0 to 1, unless it is a
            perplexity or a cost.
    """
    averaged = [objective for objective in objectives if objective.weight]
    wide = [o.name for o in averaged if o.scale is None and not _within_unit(o, values.get(o.name, ()))]
    metrics = {objective.metric for objective in averaged}
    if not wide or len(averaged) < 2 or len(metrics) == 1:
        return ""
    seen = ", ".join(
        f"{name} (here {min(values[name]):.4g} to {max(values[name]):.4g})" if values.get(name) else name
        for name in wide
    )
    return (
        f"the pick is chosen by the weighted mean of {len(averaged)} objectives, and {seen} "
        f"{'does' if len(wide) == 1 else 'do'} not run from 0 to 1: what each counts depends on its unit. "
        "Give `scale: [low, high]` beside it, the values that are to count as 0 and as 1"
    )


def _within_unit(objective: Objective, values: Sequence[float]) -> bool:
    costs = objective.exact or objective.metric == ANSWER_TOKENS
    return objective.link != "exp" and not costs and all(0 <= value <= 1 for value in values)


def _sentence(error: Exception, count: int, parent: str) -> str:
    """Return what a scorer raised, and the line of its own code at which it did."""
    cause = error.__cause__ if error.__cause__ is not None and not isinstance(error, InvalidTask) else error
    place = _last_line(cause.__traceback__)
    text = str(error) or type(error).__name__
    return f"called on {count} items with {parent} as the model, {text}{f' ({place})' if place else ''}"


def _last_line(found: TracebackType | None) -> str:
    """Return the innermost line of the user's own files in a traceback, with its place, or ""."""
    own = [frame for frame in traceback.extract_tb(found) if not any(part in frame.filename for part in _LIBRARIES)]
    return f"{own[-1].filename}, line {own[-1].lineno}: {own[-1].line}" if own else ""
