"""Two runs beside each other; their picks item by item where both were scored on the same items."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from evomerge.run._judgement import Clusters, gain_of
from evomerge.run._run import Run
from evomerge.run.analysis._facts import RunFacts
from evomerge.stats import Interval

_MEASURED = ("tasks", "weights", "lm_eval", "pools", "seed")  # of a run's identity: what a held-out score depends on


class RunComparison(NamedTuple):
    """Two runs.

    Attributes:
        first: of the runs.
        second: of the runs.
        gain: of the second's pick over the first's on the report items, or None: they cannot be paired.
        reason: why they cannot be paired, or "".
    """

    first: RunFacts
    second: RunFacts
    gain: Interval | None
    reason: str


def compare_runs(first: Run, second: Run) -> RunComparison:
    """Compare two runs and, where both picks were scored on the same report items, their picks."""
    a, b = RunFacts(first), RunFacts(second)
    reason = _unpaired(a, b)
    return RunComparison(a, b, None if reason else _gain(a, b), reason)


def _unpaired(first: RunFacts, second: RunFacts) -> str:
    for facts in (first, second):
        if facts.pick is None or "report" not in facts.pick.scores:
            return f"{facts.run.path} has no pick that was scored on report items"
    first_identity, second_identity = (facts.run.fact("identity", {}) for facts in (first, second))
    differing = [key for key in _MEASURED if first_identity.get(key) != second_identity.get(key)]
    if differing:
        return f"they were not scored on the same items in the same way ({', '.join(differing)} of the search differ)"
    return ""


def _gain(first: RunFacts, second: RunFacts) -> Interval:
    """Return the gain of the second's pick over the first's."""
    assert first.pick is not None and second.pick is not None
    stored: Mapping[str, Mapping[str, Any]] = first.run.fact("clusters", {})
    clusters: Clusters = {name: {int(i): group for i, group in found.items()} for name, found in stored.items()}
    return gain_of(
        first.objectives,
        second.run.items("report")[second.pick.id],
        first.run.items("report")[first.pick.id],
        clusters,
        seed=int(first.run.fact("identity", {}).get("seed", 0)),
    )
