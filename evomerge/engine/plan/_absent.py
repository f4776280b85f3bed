"""What becomes of a tensor that some models of a merge lack, such as a bias: mergekit's rules."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from evomerge.methods import Method

# Methods of two inputs: one of them alone is taken as it is.
_PAIRS = {"slerp", "nuslerp", "arcee_fusion"}


class Verdict(NamedTuple):
    """merge: what is there is merged. copy: the one input at `position` (-1 = the base) is taken as it is. drop: the
    result goes without. refuse: no result makes sense."""

    what: Literal["merge", "copy", "drop", "refuse"]
    position: int = -1


def without_absent(method: Method, base: bool | None, models: Sequence[bool]) -> Verdict:
    """Say what to do where a tensor is absent somewhere.

    Args:
        base: whether the base has it; None = the merge has no base. models: whether each other input has it.
    """
    present = [i for i, has in enumerate(models) if has]
    if method.name in _PAIRS:
        holders = [*([-1] if base and method.base == "required" else []), *present]
        return Verdict("copy", holders[0]) if len(holders) == 1 else Verdict("refuse")
    if base is False:
        return Verdict("refuse")
    if not present:
        return Verdict("copy") if base else Verdict("drop")
    if method.name == "nearswap":
        return Verdict("refuse")
    if len(present) < method.inputs[0]:
        return Verdict("drop") if method.name == "model_stock" else Verdict("refuse")
    return Verdict("merge")
