"""Where a tensor of a checkpoint file sits in a transformers model in memory: mostly under its own name.

Some families are held otherwise than they are stored: heads are renamed, and a block's experts are fused into two
parameters, of which each stored tensor is a contiguous part.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch

_EXPERT = re.compile(r"^(.*\.experts)\.(\d+)\.(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight$")
_HALF = {"w1": 0, "gate_proj": 0, "w3": 1, "up_proj": 1}  # of gate_up_proj (experts, 2 x inner, hidden)
_RENAMED = (
    (".block_sparse_moe.", ".mlp."),
    ("embed_out.", "lm_head."),
    (".block_sparse_moe.gate.", ".mlp.router."),  # Phi-3.5-MoE
    (".input_linear.weight", ".experts.gate_up_proj"),  # Granite's mixtures
    (".output_linear.weight", ".experts.down_proj"),
    (".router.layer.", ".router."),
)


class Slot(NamedTuple):
    """A parameter in memory, or a part of it: of expert `expert` the rows of `half` (0, 1; None = all)."""

    parameter: str
    expert: int | None = None
    half: int | None = None

    def part(self, fused: torch.Tensor) -> torch.Tensor:
        """Return this slot's part of a fused parameter (experts, rows, columns): a contiguous view."""
        assert self.expert is not None
        rows = fused[self.expert]
        if self.half is None:
            return rows
        middle = rows.shape[0] // 2
        return rows[:middle] if self.half == 0 else rows[middle:]


def slot_of(name: str, known: Mapping[str, torch.Size], root: str) -> Slot | None:
    """Return where a stored tensor goes, or None if the model has no place for it.

    Args:
        known: the model's own parameters and their shapes. root: its prefix, which files of base models lack.
    """
    for guess in (name, f"{root}.{name}", *(name.replace(old, new) for old, new in _RENAMED)):
        if guess in known:
            return Slot(guess)
    match = _EXPERT.match(name.replace(*_RENAMED[0]))
    if match is None:
        return None
    half = _HALF.get(match[3])
    fused = f"{match[1]}.{'down_proj' if half is None else 'gate_up_proj'}"
    return Slot(fused, int(match[2]), half) if len(known.get(fused, ())) == 3 else None


def unfilled(slots: Iterable[Slot], known: Mapping[str, torch.Size], tied: Mapping[str, str]) -> str | None:
    """Return a parameter that the slots leave wholly or partly empty, or None. tied: name -> name it is one with."""
    parts: dict[str, int] = {}
    for slot in slots:
        whole = slot.expert is None
        owner = tied.get(slot.parameter, slot.parameter)
        size = known[slot.parameter].numel()
        share = size if whole else size // known[slot.parameter][0] // (1 if slot.half is None else 2)
        parts[owner] = parts.get(owner, 0) + share
    for name, shape in known.items():
        if parts.get(tied.get(name, name), 0) < shape.numel():
            return name
    return None
