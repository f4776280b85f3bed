"""Collecting every problem of a search file instead of stopping at the first."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from evomerge.errors import (
    EvomergeError,
    InvalidFile,
    Problem,
    RefusedForSafety,
)

T = TypeVar("T")


@dataclass
class Findings:
    """Collects problems while going on with whatever can still be checked."""

    where: str
    problems: list[Problem] = field(default_factory=list)
    unsafe: RefusedForSafety | None = None

    def attempt(self, place: str, action: Callable[[], T]) -> T | None:
        """Return what the action returns, or None after noting why it failed."""
        try:
            return action()
        except InvalidFile as error:
            self.problems += error.problems
        except RefusedForSafety as error:
            self.unsafe = error
            self.problems.append(Problem(f"{self.where}: {place}", str(error)))
        except EvomergeError as error:
            self.problems += [Problem(f"{self.where}: {place}", line) for line in str(error).splitlines()]
        return None

    def add(self, place: str, text: str) -> None:
        """Note one problem."""
        self.problems.append(Problem(f"{self.where}: {place}", text))
