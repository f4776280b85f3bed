"""What every optimizer is, and what it hands out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evomerge.records import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One point to be scored.

    number: counts the asks from 0. generation: never decreases; proposals of one generation share an item subset.
    """

    number: int
    generation: int
    point: Point


class Optimizer(Protocol):
    """Ask for points, tell their values; higher is better.

    An optimizer is a function of its arguments and of the sequence of calls it has seen: the same calls on a fresh one
    give the same points. That is how a run is resumed, so no implementation may look at a clock, at a global random
    state or at the order of a set.
    """

    @property
    def name(self) -> str:
        """The registered name, resolved ("tpe", never "auto")."""

    @property
    def objectives(self) -> int:
        """How many values tell() takes. 1: the caller scalarises; otherwise the number of objectives."""

    @property
    def generation_size(self) -> int:
        """Proposals in the generation now being handed out. It can grow when an optimizer restarts."""

    def ask(self) -> Proposal:
        """Return the next point. May be called at any time, also while earlier proposals are unanswered."""

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Answer a proposal, once, in any order.

        Args:
            number: of the proposal.
            values: `objectives` finite numbers, higher is better; None = the candidate could not be scored.

        Raises:
            InvalidInput: unknown or already answered number, wrong number of values, non-finite value.
        """

    def inject(self, points: Sequence[Point]) -> None:
        """Let the next asks return these points verbatim, in this order.

        Raises:
            InvalidInput: a point is not in the domain; then none of them is taken.
        """

    def mean(self) -> Point | None:
        """Return the center of the distribution, or None where there is none."""
