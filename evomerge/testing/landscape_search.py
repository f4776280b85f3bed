"""Whole searches on landscapes: the product's loop and proof with an executor that pretends to build and score merges.

    data, space = landscape_file(24, folder, seed=0, pools=pools, budget={"items": 8000})
    executor = LandscapeExecutor(Landscape(24, seed=0), str(folder / "base"))
    run = search(data, out, space=space, executor=lambda setup: executor)

A point of the landscape is task arithmetic of one model over a base, its weight a list of as many numbers as there are
coordinates: the base is 0 everywhere, the model 1, and the simple merges lie on the diagonal between them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.errors import InvalidInput
from evomerge.records import Domain, ItemScores, Point
from evomerge.run import Extensions, Job, Outcome, Setup, check_search
from evomerge.testing.landscapes import Landscape
from evomerge.testing.pico import write_pico


def weights_of(document: Mapping[str, Any], base: str, dimensions: int) -> tuple[float, ...]:
    """Return the point of a landscape that a recipe stands for: the base is 0, the model 1, task arithmetic between."""
    entry = document["models"][0]
    if document["merge_method"] == "passthrough":
        return (0.0 if entry["model"] == base else 1.0,) * dimensions
    weight = entry["parameters"]["weight"]
    return tuple(weight) if isinstance(weight, list) else (float(weight),) * dimensions


class LandscapeSpace:
    """A space whose recipes are task arithmetic of one model, its weight a list of as many numbers as coordinates."""

    dtype = None
    recipe_count = None

    def __init__(self, dimensions: int, base: str, model: str):
        self.domain = Domain(reals=dimensions)
        self.coordinates = tuple(f"x{k}" for k in range(dimensions))
        self.start = Point(reals=(0.5,) * dimensions)
        self.description = {"landscape": dimensions}
        self._base, self._model = base, model

    def decode(self, point: Point) -> dict[str, Any]:
        """Return the recipe of a point."""
        self.domain.check(point)
        entry = {"model": self._model, "parameters": {"weight": list(point.reals)}}
        return {"merge_method": "task_arithmetic", "base_model": self._base, "models": [entry]}

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Return the point of a recipe."""
        entries = document.get("models", [])
        if document.get("merge_method") != "task_arithmetic" or [e["model"] for e in entries] != [self._model]:
            raise InvalidInput("the recipe is not of this space")
        return Point(reals=weights_of(document, self._base, self.domain.reals))


class LandscapeExecutor:
    """Scores recipes of a `LandscapeSpace` by a landscape, one at a time."""

    def __init__(self, landscape: Landscape, base: str, *, soft: bool = True):
        self._landscape, self._base, self._soft = landscape, base, soft
        self._jobs: list[Job] = []

    @property
    def free(self) -> int:
        """One job at a time."""
        return 1 - len(self._jobs)

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def submit(self, job: Job) -> None:
        """Remember a job."""
        self._jobs.append(job)

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Score the job."""
        finished = [(job, self._outcome(job)) for job in self._jobs]
        self._jobs.clear()
        return finished

    def _outcome(self, job: Job) -> Outcome:
        x = weights_of(job.document, self._base, self._landscape.dimensions)
        items: dict[str, ItemScores] = {
            name: self._landscape.item_scores(x, ids, soft=self._soft) for name, ids in job.items.items()
        }
        return Outcome(items=items, failure=None, seconds=0.001, worker="landscape")

    def close(self) -> None:
        """Nothing to stop."""


def score_no_model(model: object, tokenizer: object, items: Sequence[Mapping[str, Any]]) -> list[float]:
    """Refuse to score: a search file needs a scorer, but a landscape's executor scores points without any model.

    Raises:
        InvalidInput: always.
    """
    raise InvalidInput("a landscape has no models to score; give its search a LandscapeExecutor")


def landscape_file(
    dimensions: int, folder: Path, *, seed: int, pools: Mapping[str, int], budget: Mapping[str, int], **more: Any
) -> tuple[dict[str, Any], LandscapeSpace]:
    """Return the content of a search file over two tiny models that nothing is ever merged of, and its space.

    Args:
        dimensions: coordinates of a point.
        folder: gets the models "base" and "one", unless it holds them.
        seed: of the run.
        pools: items of each pool.
        budget: as in a search file.
        more: other keys of a search file; those that are absent have the product's defaults.
    """
    base, model = folder / "base", folder / "one"
    if not model.exists():
        write_pico(base, 0)
        write_pico(model, 1, near=base)
    items = [{"number": k} for k in range(sum(pools.values()))]
    data = {
        "parents": {"base": str(base), "models": [str(model)]},
        "space": {},
        "tasks": [{"scorer": score_no_model, "items": items, "name": "landscape"}],
        "pools": dict(pools),
        "budget": dict(budget),
        "workers": {"count": 0},
        "seed": seed,
        **more,
    }
    return data, LandscapeSpace(dimensions, str(base), str(model))


def landscape_setup(dimensions: int, folder: Path, **options: Any) -> Setup:
    """Return the checked search of `landscape_file`, which takes the same arguments."""
    data, space = landscape_file(dimensions, folder, **options)
    return check_search(data, extensions=Extensions(space=space))
