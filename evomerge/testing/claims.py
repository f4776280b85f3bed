"""How often a gain is claimed where there is none: item scores drawn from a model, through pick and verdict.

Model m is right on item i iff

    sqrt(rho) * z_i + sqrt(1 - rho) * e_im < Phi^-1(accuracy of m)

with z_i and e_im ~ N(0, 1). With clusters, both are sums of a part that a cluster's items share and of one of their
own. Accuracies are exact expectations, so that every true gain is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from evomerge.records import Candidate, ItemScores, Kind, Objective
from evomerge.run import choose_pick, judge
from evomerge.stats import Interval

_OBJECTIVE = Objective(name="task", task="task", metric="acc")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSetting:
    """A landscape without gain, and what is measured on it.

    Attributes:
        parents: accuracy of each parent.
        simple: accuracy of each simple merge.
        finalists: accuracy of each finalist; None = 17 as good as the best reference.
        select: items on which the pick is chosen.
        report: items on which it is judged.
        rho: how much of an item's difficulty all models share, from 0 to 1.
        cluster_size: items that belong together; 1 = independent items.
        cluster_share: of the variance that a cluster's items have in common.
        clusters_known: whether the intervals are given the clusters.
        resamples: of each interval.
    """

    parents: Sequence[float]
    simple: Sequence[float]
    finalists: Sequence[float] | None = None
    select: int = 256
    report: int = 512
    rho: float = 0.6
    cluster_size: int = 1
    cluster_share: float = 0.5
    clusters_known: bool = True
    resamples: int = 1000

    @property
    def models(self) -> tuple[tuple[Kind, float], ...]:
        """Kind and accuracy of parents, simple merges and finalists, by candidate number."""
        finalists = (max(*self.parents, *self.simple),) * 17 if self.finalists is None else tuple(self.finalists)
        return (
            *(("parent", accuracy) for accuracy in self.parents),
            *(("simple", accuracy) for accuracy in self.simple),
            *(("candidate", accuracy) for accuracy in finalists),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRates:
    """What simulated runs came to.

    Attributes:
        runs: how many.
        claimed: share of runs that claim a gain.
        kept: share of runs whose pick is a reference.
        comparisons: of the pick with references, in all runs.
        covered: share of their intervals that hold the true gain.
        above: share of their intervals that lie above the true gain altogether.
    """

    runs: int
    claimed: float
    kept: float
    comparisons: int
    covered: float
    above: float


def simulate_claims(setting: ClaimSetting, *, runs: int, seed: int) -> ClaimRates:
    """Simulate the proofs of many runs.

    Args:
        setting: the landscape and the sizes.
        runs: how many; their errors are about 1 / sqrt(runs).
        seed: of everything.
    """
    models = setting.models
    kinds = dict(enumerate(kind for kind, _ in models))
    candidates = {
        i: Candidate(
            id=i, name=f"{kind} {i}", kind=kind, generation=-1, subset=-1, point=None, recipe={}, state="scored"
        )
        for i, kind in kinds.items()
    }
    rivals = [i for i, kind in kinds.items() if kind != "candidate"]
    clusters = {_OBJECTIVE.name: {item: item // setting.cluster_size for item in range(setting.report)}}
    claimed = kept = covered = above = comparisons = 0
    for stream in np.random.SeedSequence(seed).spawn(runs):
        generator = np.random.Generator(np.random.PCG64(stream))
        values = {i: {_OBJECTIVE.name: float(row.mean())} for i, row in enumerate(_right(setting, generator, "select"))}
        pick = choose_pick([_OBJECTIVE], values, kinds, {}).pick
        report = _right(setting, generator, "report")
        items = {i: {_OBJECTIVE.name: _scores(report[i])} for i in {pick, *rivals}}
        verdict = judge(
            [_OBJECTIVE],
            items,
            candidates,
            pick,
            rivals,
            seed=int(generator.integers(2**31)),
            clusters=clusters if setting.cluster_size > 1 and setting.clusters_known else None,
            resamples=setting.resamples,
        )
        claimed += verdict.claimed
        kept += kinds[pick] != "candidate"
        for comparison in verdict.comparisons:
            true_gain = models[pick][1] - models[comparison.id][1]
            comparisons += 1
            covered += _holds(comparison.interval, true_gain)
            above += comparison.interval.low > true_gain
    return ClaimRates(
        runs=runs,
        claimed=claimed / runs,
        kept=kept / runs,
        comparisons=comparisons,
        covered=covered / comparisons,
        above=above / comparisons,
    )


def _holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


def _right(setting: ClaimSetting, generator: np.random.Generator, pool: str) -> NDArray[np.bool_]:
    """Return which models are right on which items of a pool, of shape (models, items)."""
    items = setting.select if pool == "select" else setting.report
    skills = np.array([NormalDist().inv_cdf(accuracy) for _, accuracy in setting.models])
    difficulty = _normals(setting, generator, 1, items)
    tastes = _normals(setting, generator, len(skills), items)
    return math.sqrt(setting.rho) * difficulty + math.sqrt(1 - setting.rho) * tastes < skills[:, None]


def _normals(setting: ClaimSetting, generator: np.random.Generator, rows: int, items: int) -> NDArray[np.float64]:
    """Return standard normal numbers of shape (rows, items), those of a cluster correlated within each row."""
    own = generator.standard_normal((rows, items))
    if setting.cluster_size == 1:
        return own
    common = generator.standard_normal((rows, math.ceil(items / setting.cluster_size)))
    spread = np.repeat(common, setting.cluster_size, axis=1)[:, :items]
    return math.sqrt(setting.cluster_share) * spread + math.sqrt(1 - setting.cluster_share) * own


def _scores(right: NDArray[np.bool_]) -> ItemScores:
    return ItemScores(ids=tuple(range(len(right))), values=tuple(right.astype(float).tolist()))
