"""Why merges by evomerge and mergekit differ by more than two bf16 units: every such element accounted for.

mergekit computes TIES in bf16: it rounds each difference x - base and ranks the rounded ones, keeps k of them in the
order of an unstable sort, rounds weights, weighted differences, their sum, the quotient and the result. Which of the
elements exactly as large as its threshold it keeps is chance. So an element is explained if this arithmetic, done here
again with one choice among its ties, gives mergekit's value bit for bit.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open

from evomerge.methods import Statistics

ALLOWED = 2  # bf16 units in the last place
CAUSES = (
    "rounding: the same decisions, rounded in between",
    "sign: another sign elected, by a sum that was rounded",
    "tie: as large as mergekit's threshold, which keeps any of these",
    "threshold: on its other side after rounding",
    "unexplained",
)
ROUNDING, SIGN, TIE, THRESHOLD, UNEXPLAINED = range(5)


class Parents(NamedTuple):
    """One tensor of a base and models in bf16, flat, and what a TIES recipe says of each model."""

    base: torch.Tensor
    models: Sequence[torch.Tensor]
    weight: float
    density: float


class Result(NamedTuple):
    """Some elements of a merge. kept: (models, elements); sign: (elements,), whether positive deltas count."""

    kept: torch.Tensor
    sign: torch.Tensor
    value: torch.Tensor


def units_apart(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Return each element's difference in bf16 units in the last place of the larger, float64.

    Elements near 0 are judged by the tensor's mean size, because mergekit rounds intermediate values to bf16.
    """
    a, b = ours.double(), theirs.double()
    scale = torch.maximum(torch.maximum(a.abs(), b.abs()), a.abs().mean())
    return (a - b).abs() / torch.exp2(torch.floor(torch.log2(scale.clamp_min(1e-30))) - 7)


def explain(parents: Parents, theirs: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Return the cause (an index of CAUSES) of the difference of the elements at flat positions `where`.

    theirs: mergekit's result, flat. Of several choices among ties that give its value, the one nearest to evomerge's
    decisions counts.
    """
    ours = _in_float32(parents, where)
    kept, tied = _kept_in_bf16(parents, where)
    causes = torch.full((len(where),), UNEXPLAINED)
    for choice in product((False, True), repeat=len(parents.models)):
        their = _in_bf16(parents, where, kept | (tied & torch.tensor(choice)[:, None]))
        otherwise = their.kept != ours.kept
        cause = torch.where(their.sign == ours.sign, ROUNDING, SIGN)
        cause = torch.where(otherwise.any(0), TIE, cause)
        cause = torch.where((otherwise & ~tied).any(0), THRESHOLD, cause)
        causes = torch.where(their.value == theirs[where], torch.minimum(causes, cause), causes)
    return causes


def _in_float32(parents: Parents, where: torch.Tensor) -> Result:
    """Return what evomerge decides: differences in float32, which is exact enough to rank them, ties by position."""
    kept, total = [], torch.zeros(len(where))
    for model in parents.models:
        delta = model[where].float() - parents.base[where].float()
        cut = Statistics([model], parents.base).cut(0, _count(parents))
        size = delta.abs()
        kept.append((size > cut.threshold) | ((size == cut.threshold) & (where < cut.tie_end)))
        total += delta * kept[-1] * parents.weight
    return Result(torch.stack(kept), total >= 0, torch.empty(0))


def _kept_in_bf16(parents: Parents, where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which elements mergekit certainly keeps, and which are as large as its threshold, (models, elements)."""
    kept, tied = [], []
    for model in parents.models:
        size = (model - parents.base).abs().float()
        threshold = size.kthvalue(size.numel() - _count(parents) + 1).values
        choice = int((size >= threshold).sum()) > _count(parents)
        kept.append(size[where] > threshold if choice else size[where] >= threshold)
        tied.append((size[where] == threshold) & choice)
    return torch.stack(kept), torch.stack(tied)


def _in_bf16(parents: Parents, where: torch.Tensor, kept: torch.Tensor) -> Result:
    """Return what mergekit makes of this choice. Sums of several models are rounded once, as observed."""
    base = parents.base[where]
    weight = torch.tensor(parents.weight, dtype=base.dtype)
    deltas = [(model[where] - base) * each * weight for model, each in zip(parents.models, kept, strict=True)]
    positive = _sum(deltas) >= 0
    agreeing = [torch.where(positive, delta > 0, delta < 0) for delta in deltas]
    divisor = _sum([each * weight for each in agreeing])
    mean = _sum([delta * each for delta, each in zip(deltas, agreeing, strict=True)]) / divisor.masked_fill(
        divisor == 0, 1
    )
    return Result(kept, positive, base + mean)


def _sum(terms: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([term.float() for term in terms]).sum(0).to(terms[0].dtype)


def _count(parents: Parents) -> int:
    return max(1, int(parents.density * parents.base.numel()))


class Account(NamedTuple):
    """Elements in all, the largest difference in units, and how many elements are ALLOWED apart or less or why not."""

    elements: int
    worst: int
    causes: Counter[str]

    def __str__(self) -> str:
        far = sum(self.causes.values())
        lines = [f"{far} of {self.elements} elements ({far / self.elements:.3%}) are more than {ALLOWED} units apart"]
        lines += [f"  {self.causes[cause]} ({self.causes[cause] / self.elements:.4%}) {cause}" for cause in CAUSES]
        return "\n".join(lines if far else lines[:1])


def account(
    ours: Path, theirs: Path, base: Path, models: Sequence[Path], ties: tuple[float, float] | None = None
) -> Account:
    """Compare two merges of the same parents and explain every element that is more than ALLOWED units apart.

    ties: weight and density of every model, if it is a TIES merge; other differences have no explanation.
    """
    elements, worst, causes = 0, 0, Counter[str]()
    parents = [dict(tensors(folder)) for folder in (base, *models)] if ties else []
    ours_by_name = dict(tensors(ours))
    for name, their in tensors(theirs):
        their = their.view(-1)
        units = units_apart(ours_by_name[name].view(-1), their)
        elements, worst = elements + their.numel(), max(worst, int(units.max().round()))
        where = (units.round() > ALLOWED).nonzero().view(-1)
        if len(where) and ties:
            first, *rest = (parent[name].view(-1) for parent in parents)
            found = explain(Parents(first, rest, *ties), their, where)
        else:
            found = torch.full((len(where),), UNEXPLAINED)
        causes.update(CAUSES[int(cause)] for cause in found)
    return Account(elements, worst, causes)


def tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of a model folder, mapped."""
    index = folder / "model.safetensors.index.json"
    files = (
        sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    )
    for file in files:
        with safe_open(folder / file, "pt") as stream:
            for name in stream.keys():  # noqa: SIM118  (not a mapping)
                yield name, stream.get_tensor(name)
