"""Which genes matter, and where the proposals moved."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evomerge import methods
from evomerge.errors import InvalidInput
from evomerge.records import Point
from evomerge.run._run import Run
from evomerge.run.analysis._facts import RunFacts

MAX_CANDIDATES = 1000  # that importances are computed of; of more, so many evenly spread ones
MIN_CANDIDATES = 20  # scored ones, before importances mean anything
MAX_BINS = 24  # of the course of the proposals
MIN_BIN = 4  # candidates in a bin


class GeneImportance(NamedTuple):
    """How much one gene had to do with the scores.

    Attributes:
        gene: its name.
        position: among the coordinates of a point.
        share: of the importance of all genes, 0 to 1.
        trend: rank correlation of the gene's value with the adjusted fitness, -1 to 1: above 0, more is better.
    """

    gene: str
    position: int
    share: float
    trend: float


class GeneBand(NamedTuple):
    """Where a gene's proposals were over the course of the search, in the gene's own units.

    Attributes:
        gene: its name.
        position: among the coordinates of a point.
        low: of its range.
        high: of its range.
        bands: for each bin of consecutive candidates its last candidate, and the 10%, 50% and 90% quantile.
        pick: the pick's value, or None: the pick is no point of the space.
    """

    gene: str
    position: int
    low: float
    high: float
    bands: tuple[tuple[int, float, float, float], ...]
    pick: float | None


def point_row(point: Point) -> list[float]:
    """Return the coordinates of a point in the order of their names: reals, integers, categories."""
    return [*point.reals, *map(float, point.integers), *map(float, point.categories)]


class GeneScale(NamedTuple):
    """What a real coordinate means in a recipe.

    Attributes:
        low: value at 0.
        high: value at 1.
        log: whether steps are equal factors.
    """

    low: float
    high: float
    log: bool = False

    def value(self, coordinate: float) -> float:
        """Return the value at a coordinate."""
        if self.log:
            return float(self.low * (self.high / self.low) ** coordinate)
        return self.low + coordinate * (self.high - self.low)


def gene_scale(run: Run, gene: str) -> GeneScale | None:
    """Return the scale of a gene of weights or densities, or None: it is not known, and coordinates are 0 to 1.

    Args:
        run: whose search file states the space.
        gene: its name, as in the run's "coordinates".
    """
    space = run.fact("identity", {}).get("space")
    if not isinstance(space, Mapping):
        return None
    name, *_, last = gene.split(" ")
    part = (space.get("modules") or {}).get(last.strip("()")) if last.startswith("(") else None
    genes = (part or space).get("genes")
    entry = genes.get(name) if isinstance(genes, Mapping) else None
    if not isinstance(entry, Mapping) or entry.get("values"):
        return None
    found = entry.get("range") or _usual_range(space.get("method"), name)
    return None if found is None else GeneScale(float(found[0]), float(found[1]), entry.get("scale") == "log")


def gene_range(run: Run, gene: str) -> tuple[float, float] | None:
    """Return the range of a gene on a linear scale (see `gene_scale`), or None."""
    scale = gene_scale(run, gene)
    return None if scale is None or scale.log else (scale.low, scale.high)


def _usual_range(method: Any, name: str) -> tuple[float, float] | None:
    if isinstance(method, Mapping):
        method = method.get("choose")
    for known in [method] if isinstance(method, str) else method or []:
        try:
            parameters = methods.get(str(known)).parameters
        except InvalidInput:
            continue
        for parameter in parameters:
            if parameter.name == name and parameter.gene:
                return parameter.gene
    return None


def gene_importance(facts: RunFacts) -> list[GeneImportance]:
    """Return the genes by descending importance; empty where too few candidates were scored.

    The importance is that of PED-ANOVA (Watanabe 2023, https://doi.org/10.24963/ijcai.2023/488), Optuna's
    implementation: how different a gene's values are among the best tenth of the candidates from those of all others.
    """
    names, rows, fitness = _table(facts)
    if len(rows) < MIN_CANDIDATES or not names:
        return []
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MAX_CANDIDATES)).astype(int)
    shares = _ped_anova(rows[chosen], fitness[chosen])
    ranks = _ranks(fitness)
    found = [
        GeneImportance(name, position, float(shares[position]), _correlation(_ranks(rows[:, position]), ranks))
        for position, name in enumerate(names)
    ]
    return sorted(found, key=lambda gene: (-gene.share, gene.position))


def gene_bands(facts: RunFacts, positions: Sequence[int]) -> list[GeneBand]:
    """Return where the proposals of some genes were over the course of the search.

    Args:
        facts: of the run.
        positions: of the genes, among the coordinates of a point.
    """
    names = list(facts.run.fact("coordinates", []))
    proposals = [(c.id, point_row(c.point)) for c in facts.searched if c.point is not None]
    if not proposals or any(len(row) != len(names) for _, row in proposals):
        return []
    rows = np.asarray([row for _, row in proposals])
    edges = np.linspace(0, len(rows), 1 + max(1, min(MAX_BINS, len(rows) // MIN_BIN))).astype(int)
    bins = [(start, end) for start, end in pairwise(edges) if end > start]
    pick = None if facts.pick is None or facts.pick.point is None else point_row(facts.pick.point)
    found = []
    for position in positions:
        is_real = position < len(facts.searched[0].point.reals) if facts.searched[0].point else False
        known = gene_scale(facts.run, names[position])
        low, high = (known.low, known.high) if known else (0.0, max(1.0, float(rows[:, position].max())))
        scale = known or GeneScale(0.0, 1.0)
        if not is_real:  # a coordinate counts the values
            scale = GeneScale(scale.low, scale.low + 1)
        bands = []
        for start, end in bins:
            few, middle, most = (float(u) for u in np.quantile(rows[start:end, position], (0.1, 0.5, 0.9)))
            bands.append((int(proposals[end - 1][0]), scale.value(few), scale.value(middle), scale.value(most)))
        own = None if pick is None else float(scale.value(pick[position]))
        found.append(GeneBand(names[position], position, low, high, tuple(bands), own))
    return found


def _table(facts: RunFacts) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return the genes' names, and of all scored candidates their rows and their adjusted fitness."""
    names = [str(name) for name in facts.run.fact("coordinates", [])]
    scored = [c for c in facts.searched if c.point is not None and c.id in facts.ranking.values]
    rows = [point_row(c.point) for c in scored if c.point is not None]
    if any(len(row) != len(names) for row in rows):
        return [], np.empty((0, 0)), np.empty(0)
    fitness = [facts.ranking.fitness(c.id) for c in scored]
    return names, np.asarray(rows, dtype=np.float64).reshape(len(rows), len(names)), np.asarray(fitness)


def _ped_anova(rows: NDArray[np.float64], fitness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each column's share of the importance, summing to 1 unless all are 0."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    size = rows.shape[1]
    spans = [(float(rows[:, k].min()), float(rows[:, k].max())) for k in range(size)]
    varied = [k for k, (low, high) in enumerate(spans) if high > low]
    spaces = {str(k): optuna.distributions.FloatDistribution(*spans[k]) for k in varied}
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={str(k): float(row[k]) for k in varied}, distributions=spaces, value=float(value)
            )
            for row, value in zip(rows, fitness, strict=True)
        ]
    )
    shares = np.zeros(size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=True)
        except (RuntimeError, ValueError):  # all scores are the same
            return shares
    for name, share in found.items():
        shares[int(name)] = share
    return np.nan_to_num(shares)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks, those of equal values averaged."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return middle


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
