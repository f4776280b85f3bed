"""What becomes of a tensor that some inputs of a merge lack, such as a bias: mergekit's rules."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

BASE = -1  # position of the base in `AbsentRule.position`


class AbsentRule(NamedTuple):
    """What is done where a tensor is absent from some inputs.

    Attributes:
        action: "merge" = the inputs that have it are merged; "copy" = the one input at `position` is taken as it is;
            "drop" = the result goes without the tensor; "refuse" = no result makes sense.
        position: of the copied model among the models, or `BASE`.
    """

    action: Literal["merge", "copy", "drop", "refuse"]
    position: int = BASE


def merge_present(
    base: bool | None, models: Sequence[bool], fewest: int, too_few: Literal["drop", "refuse"] = "refuse"
) -> AbsentRule:
    """Merge the models that have the tensor, if there are at least `fewest`.

    Args:
        base: whether the base has the tensor; None = the merge has no base.
        models: whether each model has it.
        fewest: models that a merge needs.
        too_few: what is done with fewer.
    """
    if base is False:
        return AbsentRule("refuse")
    if not any(models):
        return AbsentRule("copy") if base else AbsentRule("drop")
    return AbsentRule("merge") if sum(models) >= fewest else AbsentRule(too_few)


def copy_only(candidates: Sequence[tuple[int, bool]]) -> AbsentRule:
    """Take over the only input that has the tensor; a method of two inputs has nothing to merge it with.

    Args:
        candidates: (position, whether it has the tensor) of each input that may stand alone.
    """
    present = [position for position, has in candidates if has]
    return AbsentRule("copy", present[0]) if len(present) == 1 else AbsentRule("refuse")
