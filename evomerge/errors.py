"""One tree of exceptions, from which every sentence for users comes.

A message says where (file: key), what was found, what was expected and what to do. `exit_code` is what the command
line returns for it: 2 usage or invalid file, 3 ended without one scored candidate, 4 refused for safety, 1 otherwise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class EvomergeError(Exception):
    """Anything evomerge raises on purpose.

    Attributes:
        exit_code: of a command that ends with it.
    """

    exit_code = 1


class InvalidInput(EvomergeError, ValueError):
    """A file, value or command line that the user can correct."""

    exit_code = 2


class NothingScored(EvomergeError):
    """A search ended without one scored candidate."""

    exit_code = 3


class RefusedForSafety(EvomergeError):
    """The input would run foreign code or leave its folder."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a user's file.

    Attributes:
        where: "file: key.path".
        text: what was found, what was expected, what to do, in one sentence.
    """

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


class InvalidFile(InvalidInput):
    """A user's file with all of its problems at once.

    Attributes:
        problems: at least one, each with its place.
        unchecked: what could not be checked because of them, one sentence each.
    """

    def __init__(self, problems: Iterable[Problem], unchecked: Iterable[str] = ()):
        self.problems = tuple(problems)
        self.unchecked = tuple(unchecked)
        super().__init__("\n".join([*(str(problem) for problem in self.problems), *self.unchecked]))


class MergeFailed(EvomergeError):
    """A recipe that cannot be built from its parents (shapes, missing tensors, damaged files)."""

    exit_code = 2


class DegenerateModel(EvomergeError):
    """A merge that was built but is no sane model (non-finite or constant): recipe or parents are at fault."""

    exit_code = 2


class MemoryFull(EvomergeError):
    """The memory of a device does not suffice for what was to be computed; a smaller batch may."""


class CannotGoOn(EvomergeError):
    """What is wrong is no candidate's fault, and would spoil every further score: it ends a run, which can resume."""


class SelfCheckFailed(CannotGoOn):
    """A live model is not what its export gives, in weights or in answers: no score of this machine can be trusted."""


class ParentChanged(CannotGoOn):
    """A parent's file changed, shrank or vanished while it was in use."""

    exit_code = 2


class ModelChanged(EvomergeError):
    """A scorer changed the weights or modules of the model that it was given."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class where it has none.

    Args:
        error: of any library, whose message may be long.
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ' Did you mean "x"?' for the closest known word, or ''.

    Args:
        word: what the user wrote.
        known: what it may have been meant to be.
    """
    close = get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else ""


def first_few(problems: Iterable[str], limit: int = 5) -> str:
    """Return the first different problems, one a line, and how many more there are.

    Args:
        problems: sentences.
        limit: most of them to return.
    """
    different = list(dict.fromkeys(problems))
    more = len(different) - limit
    return "\n".join([*different[:limit], *([f"and {more} more like these"] if more > 0 else [])])


def some_of(names: Sequence[str], limit: int = 4) -> str:
    """Return the first names of a list with commas, and how many more there are.

    Args:
        names: in their order.
        limit: most of them to return.
    """
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def format_bytes(count: float) -> str:
    """Return a number of bytes with a unit, such as "1.5 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
