"""Greedy soup: average fine-tunes one after another for as long as a held-out score does not fall.

Algorithm 1 of Wortsman 2022 (https://arxiv.org/abs/2203.05482). Choosing by a score flatters it, so the soup and the
best single checkpoint are compared on items that chose nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evomerge.errors import InvalidInput, NothingScored
from evomerge.recipe import ModelRef
from evomerge.records import (
    Failure,
    ItemScores,
    Objective,
    Pool,
    Scores,
)
from evomerge.run import (
    Job,
    Outcome,
    fitness,
    scale_factor,
    scores_of,
    values_of,
)
from evomerge.stats import Interval, paired_interval

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoupStep:
    """One checkpoint's turn.

    Attributes:
        model: number of the checkpoint.
        alone: its own score.
        mixed: score of the soup with it; None if that could not be scored.
        kept: whether it joined the soup.
    """

    model: int
    alone: float
    mixed: float | None
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyResult:
    """What the algorithm did.

    Attributes:
        steps: by descending score of the checkpoint alone.
        members: numbers of the soup's checkpoints, in the order in which they joined.
        value: score of the soup.
        unscored: checkpoints that have no score.
    """

    steps: tuple[SoupStep, ...]
    members: tuple[int, ...]
    value: float
    unscored: tuple[int, ...]


def greedy_soup(count: int, score: Callable[[tuple[int, ...]], float | None]) -> GreedyResult:
    """Run the algorithm (Algorithm 1 of Wortsman 2022) over checkpoints 0..count-1.

    Args:
        count: of the checkpoints.
        score: returns the score of the equal-weight average of some checkpoints, higher is better; None = it cannot
            be scored. It is called once for each checkpoint and once for each but the best.

    Raises:
        NothingScored: no checkpoint could be scored.
    """
    alone = {model: score((model,)) for model in range(count)}
    scored = {model: value for model, value in alone.items() if value is not None}
    if not scored:
        raise NothingScored("no checkpoint could be scored, so there is no soup")
    first, *others = sorted(scored, key=lambda model: (-scored[model], model))
    members: tuple[int, ...] = (first,)
    value = scored[first]
    steps = [SoupStep(model=first, alone=value, mixed=value, kept=True)]
    for model in others:
        mixed = score((*members, model))
        kept = mixed is not None and mixed >= value
        steps.append(SoupStep(model=model, alone=scored[model], mixed=mixed, kept=kept))
        if mixed is not None and kept:
            members, value = (*members, model), mixed
    return GreedyResult(
        steps=tuple(steps),
        members=members,
        value=value,
        unscored=tuple(model for model in alone if model not in scored),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Soup:
    """A greedy soup and its scores.

    Attributes:
        models: the checkpoints as they were named; the numbers of `greedy` are positions here.
        objectives: what was scored; higher is better.
        greedy: what the algorithm did on the selection items.
        report: "soup" and "best" (the best single checkpoint) -> objective -> score on items that chose nothing.
        interval: of the soup's gain over the best single checkpoint there; None where the soup is that checkpoint.
        unscored: model -> why it has no score.
        document: the soup's recipe as plain data.
    """

    models: tuple[str, ...]
    objectives: tuple[Objective, ...]
    greedy: GreedyResult
    report: Mapping[str, Scores]
    interval: Interval | None
    unscored: Mapping[str, str]
    document: Mapping[str, Any]

    @property
    def best(self) -> str:
        """The best single checkpoint on the selection items."""
        return self.models[self.greedy.members[0]]

    @property
    def text(self) -> str:
        """The result on the report items in one sentence."""
        if self.interval is None:
            return f"No average was better: the result is the best single checkpoint, {self.best}."
        gain = self.interval
        numbers = (
            f"{gain.gain:+.4f} (paired {100 * gain.level:g}% interval {gain.low:+.4f} to {gain.high:+.4f}) "
            f"over the best single checkpoint, {self.best}"
        )
        if gain.low > 0:
            return f"Gain: {numbers}."
        return f"A loss, not a gain: {numbers}." if gain.high < 0 else f"No evidence of gain: {numbers}."

    def plain(self) -> dict[str, Any]:
        """Return it as data for JSON; higher scores are better."""
        return {
            "models": list(self.models),
            "steps": [{**asdict(step), "model": self.models[step.model]} for step in self.greedy.steps],
            "members": [self.models[number] for number in self.greedy.members],
            "unscored": dict(self.unscored),
            "select": self.greedy.value,
            "report": {who: _plain_scores(scores) for who, scores in self.report.items()},
            "gain": None if self.interval is None else self.interval.gain,
            "interval": None if self.interval is None else [self.interval.low, self.interval.high],
            "text": self.text,
            "recipe": dict(self.document),
        }


def _plain_scores(scores: Scores) -> dict[str, dict[str, Any]]:
    return {name: asdict(score) for name, score in scores.items()}


def check_models(models: Sequence[ModelRef]) -> None:
    """Check what a soup is made of.

    Raises:
        InvalidInput: there are fewer than two models, or one is named twice.
    """
    if len(models) < 2 or len(set(models)) < len(models):
        found = f"{len(models)} checkpoint(s)" + (", one of them twice" if len(set(models)) < len(models) else "")
        raise InvalidInput(f"a soup is an average of at least two different checkpoints, found {found}; see --models")


def soup_document(models: Sequence[ModelRef]) -> dict[str, Any]:
    """Return the recipe of an equal-weight average."""
    entries = [{"model": ref.plain(), "parameters": {"weight": 1.0}} for ref in models]
    return {"merge_method": "linear", "models": entries}


def run_greedy_soup(
    models: Sequence[ModelRef],
    objectives: Sequence[Objective],
    pools: Mapping[str, Mapping[Pool, Sequence[int]]],
    score: Callable[[Job], Outcome],
    *,
    seed: int,
    clusters: Mapping[str, Mapping[int, str]] | None = None,
    say: Say = lambda line: None,
) -> Soup:
    """Make a greedy soup on the select pool and judge it on the report pool.

    Args:
        models: the checkpoints.
        objectives: what is scored.
        pools: objective -> pool -> item numbers.
        score: a CandidateScorer's.
        seed: of the interval's resampling.
        clusters: objective -> item -> the group of items that it belongs to; they are resampled together.
        say: called with a line for every score.

    Raises:
        NothingScored: see `greedy_soup`, or the winner cannot be scored on the report pool.
    """
    evaluator = _SoupEvaluator(models, objectives, pools, score, say)
    greedy = greedy_soup(len(models), evaluator.value)
    winner, best = greedy.members, greedy.members[:1]
    items = {members: evaluator.items("report", members) for members in dict.fromkeys([winner, best])}
    scored: dict[tuple[int, ...], Mapping[str, ItemScores]] = {}
    for members, found in items.items():
        if isinstance(found, Failure):
            raise NothingScored(f"{evaluator.name(members)} could not be scored on the report items: {found.reason}")
        scored[members] = found
    interval: Interval | None = None
    if winner != best:
        shares = {objective.name: objective.weight for objective in objectives}
        scale = {objective.name: scale_factor(objective) for objective in objectives}
        sources = {objective.name: objective.task for objective in objectives}
        interval = paired_interval(
            scored[winner], scored[best], shares, seed=seed, scale=scale, clusters=clusters, same_items=sources
        )
    return Soup(
        models=tuple(str(ref) for ref in models),
        objectives=tuple(objectives),
        greedy=greedy,
        report={"soup": scores_of(scored[winner]), "best": scores_of(scored[best])},
        interval=interval,
        unscored={str(models[number]): evaluator.reasons[(number,)] for number in greedy.unscored},
        document=soup_document([models[number] for number in winner]),
    )


class _SoupEvaluator:
    """Scores averages of the models, and keeps the reasons why some could not be scored."""

    def __init__(
        self,
        models: Sequence[ModelRef],
        objectives: Sequence[Objective],
        pools: Mapping[str, Mapping[Pool, Sequence[int]]],
        score: Callable[[Job], Outcome],
        say: Say,
    ):
        self._models, self._objectives, self._pools, self._score, self._say = models, objectives, pools, score, say
        self.reasons: dict[tuple[int, ...], str] = {}

    def name(self, members: tuple[int, ...]) -> str:
        """Return how an average is called in messages."""
        return " + ".join(str(self._models[number]) for number in members)

    def items(self, pool: Pool, members: tuple[int, ...]) -> Mapping[str, ItemScores] | Failure:
        """Score one average on a whole pool."""
        document = soup_document([self._models[number] for number in members])
        chosen = {name: pools[pool] for name, pools in self._pools.items()}
        outcome = self._score(Job(candidate=0, pool=pool, document=document, items=chosen))
        if outcome.items is None:
            assert outcome.failure is not None
            return outcome.failure
        return outcome.items

    def value(self, members: tuple[int, ...]) -> float | None:
        """Return an average's weighted mean on the select pool, or None after keeping the reason."""
        found = self.items("select", members)
        if isinstance(found, Failure):
            self.reasons[members] = found.reason
            self._say(f"{self.name(members)}: could not be scored ({found.reason})")
            return None
        value = fitness(self._objectives, values_of(scores_of(found)), {})
        self._say(f"{self.name(members)}: {value:.4f}")
        return value
