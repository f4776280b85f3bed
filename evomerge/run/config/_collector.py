"""Collecting every problem of a search file instead of stopping at the first."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from evomerge.errors import EvomergeError, InvalidFile, Problem, RefusedForSafety

T = TypeVar("T")


@dataclass
class ProblemCollector:
    """Collects problems while whatever does not depend on them is checked, too.

    Attributes:
        where: the file, as messages name it.
        problems: found so far.
        unchecked: what could not be checked because of them, one sentence each.
        unsafe: the refusal among the problems, if there is one.
    """

    where: str
    problems: list[Problem] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    unsafe: RefusedForSafety | None = None

    def attempt(self, place: str, action: Callable[[], T]) -> T | None:
        """Return what the action returns, or None after noting why it failed.

        Args:
            place: key of the file that the action checks.
            action: called without arguments.
        """
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
        """Note one problem of a key of the file."""
        self.problems.append(Problem(f"{self.where}: {place}", text))

    def skip(self, place: str, cause: str) -> None:
        """Note that a key could not be checked (fully), and what has to be corrected first."""
        self.unchecked.append(f"{self.where}: {place}: is not fully checked until {cause} is corrected")

    def fail(self) -> NoReturn:
        """Raise what was found.

        Raises:
            RefusedForSafety: the only problem is that something is unsafe.
            InvalidFile: every problem at once.
        """
        if self.unsafe is not None and len(self.problems) == 1:
            raise self.unsafe
        raise InvalidFile(self.problems, self.unchecked)
