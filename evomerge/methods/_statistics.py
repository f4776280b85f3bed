"""Whole-tensor reductions that do not depend on genes: computed once for a set of tensors, then looked up.

All sums run in float64 over fixed chunks of 2^20 elements, so no block size or number of threads can change them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from evomerge.methods import _random

CHUNK = 1 << 20
GRID = 1024  # densities of a search are multiples of 1/GRID; one table then answers all of them


class Cut(NamedTuple):
    """Which elements a sparsified task vector keeps, and the L1 norms before and after.

    Kept: |delta| > threshold, and those equal to it at flat positions below `tie_end`.
    """

    threshold: float
    tie_end: int
    kept_l1: float
    all_l1: float


class Statistics:
    """Reductions over one set of tensors (a base and models of one shape), computed when first asked for."""

    def __init__(self, models: Sequence[torch.Tensor], base: torch.Tensor | None):
        self._models = [model.reshape(-1) for model in models]
        self._base = None if base is None else base.reshape(-1)
        self._gram: torch.Tensor | None = None
        self._magnitude: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        self._random: dict[tuple[int, tuple[int, int]], torch.Tensor] = {}
        self._cuts: dict[tuple[int, float], Cut] = {}
        self._kept: dict[tuple[int, float, tuple[int, int]], tuple[float, float]] = {}

    def bind(self, models: Sequence[torch.Tensor], base: torch.Tensor | None) -> "Statistics":
        """Point at the same tensors read anew, keeping what was computed."""
        self._models = [model.reshape(-1) for model in models]
        self._base = None if base is None else base.reshape(-1)
        return self

    def release(self) -> None:
        """Let go of the tensors, keep the numbers."""
        self._models, self._base = [], None

    def gram(self) -> torch.Tensor:
        """Return the Gram matrix in float64, (n, n): base first if there is one, then the models as task vectors."""
        if self._gram is None:
            self._gram = self._compute_gram()
        return self._gram

    def _compute_gram(self) -> torch.Tensor:
        count = len(self._models) + (self._base is not None)
        total = torch.zeros(count, count, dtype=torch.float64)
        for start in range(0, self._models[0].numel(), CHUNK):
            rows = [model[start : start + CHUNK].double() for model in self._models]
            if self._base is not None:
                base = self._base[start : start + CHUNK].double()
                rows = [base, *(row - base for row in rows)]
            for i, left in enumerate(rows):
                for j in range(i, count):
                    total[i, j] += torch.dot(left, rows[j]).cpu()
        return total + total.triu(1).T

    def delta(self, model: int, start: int = 0, end: int | None = None) -> torch.Tensor:
        """Return a stretch of a model's task vector in working precision (float32; float64 for float64 tensors)."""
        piece = self._models[model][start:end]
        work = torch.float64 if piece.dtype == torch.float64 else torch.float32
        assert self._base is not None
        return piece.to(work) - self._base[start:end].to(work)

    def magnitude(self, model: int, density: float) -> Cut:
        """Return the cut that keeps the int(density * n) largest |delta| (at least 1), ties by position.

        Densities on the 1/1024 grid come from one table for each model; others are computed alone.
        """
        key = (model, density)
        if key not in self._cuts:
            step = density * GRID
            self._cuts[key] = self._from_table(model, int(step)) if step.is_integer() else self._alone(model, density)
        return self._cuts[key]

    def _from_table(self, model: int, step: int) -> Cut:
        if model not in self._magnitude:
            order, sums = self._sorted(model)
            count = order.numel()
            ranks = torch.tensor([max(1, count * s // GRID) - 1 for s in range(GRID + 1)])
            positions = order[ranks]
            self._magnitude[model] = (self.delta(model).abs()[positions], positions + 1, sums[ranks])
        thresholds, ends, sums = self._magnitude[model]
        return Cut(float(thresholds[step]), int(ends[step]), float(sums[step]), float(sums[GRID]))

    def _alone(self, model: int, density: float) -> Cut:
        order, sums = self._sorted(model)
        last = max(1, int(density * order.numel())) - 1
        position = int(order[last])
        return Cut(float(self.delta(model)[position].abs()), position + 1, float(sums[last]), float(sums[-1]))

    def _sorted(self, model: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return positions by falling |delta| (ties by position) and the running L1 norm in that order, float64."""
        values, order = self.delta(model).abs().sort(descending=True, stable=True)
        return order, values.double().cumsum(0)

    def random(self, model: int, density: float, address: tuple[int, int]) -> tuple[float, float]:
        """Return the L1 norms (kept, all) of a task vector under the random mask of that density and address."""
        key = (model, density, address)
        if key not in self._kept:
            step = density * GRID
            if step.is_integer():
                sums = self._random_table(model, address)
                self._kept[key] = (float(sums[int(step)]), float(sums[GRID]))
            else:
                self._kept[key] = self._random_alone(model, density, address)
        return self._kept[key]

    def _chunks(self, model: int) -> range:
        return range(0, self._models[model].numel(), CHUNK)

    def _random_table(self, model: int, address: tuple[int, int]) -> torch.Tensor:
        """Return (GRID + 1,) float64: the L1 norm that density s / GRID keeps, for every s in one pass."""
        key = (model, address)
        if key not in self._random:
            buckets = torch.zeros(GRID + 1, dtype=torch.float64)
            for start in self._chunks(model):
                delta = self.delta(model, start, start + CHUNK).abs()
                bits = _random.uniform_bits(address, start, delta.numel(), delta.device)
                which = (bits >> (_random.BITS - 10)).cpu()  # 2^10 = GRID buckets
                buckets[1:] += torch.bincount(which, weights=delta.double().cpu(), minlength=GRID)
            self._random[key] = buckets.cumsum(0)
        return self._random[key]

    def _random_alone(self, model: int, density: float, address: tuple[int, int]) -> tuple[float, float]:
        kept = total = 0.0
        for start in self._chunks(model):
            delta = self.delta(model, start, start + CHUNK).abs().double()
            mask = _random.uniform_bits(address, start, delta.numel(), delta.device) < _random.cut(density)
            kept += float(delta[mask].sum())
            total += float(delta.sum())
        return kept, total
