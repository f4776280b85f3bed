"""Whole-tensor reductions that do not depend on genes: computed once for a set of tensors, then looked up.

Every sum has a fixed order or is exact, so no block size, number of threads or order of reading can change it.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch

from evomerge.methods import _fused, _gram, _random, _ranked, _selection
from evomerge.methods._selection import Cut

GRID = 1024  # densities of a search are multiples of 1/GRID; one table then answers all of them


class Statistics:
    """Reductions over one set of tensors (a base and models of one shape), computed when first asked for."""

    def __init__(self, models: Sequence[torch.Tensor], base: torch.Tensor | None):
        self.bind(models, base)
        self._known: dict[Hashable, Any] = {}
        self._asked: set[Hashable] = set()

    def bind(self, models: Sequence[torch.Tensor], base: torch.Tensor | None) -> "Statistics":
        """Point at the same tensors read anew, keeping what was computed."""
        self.shape = tuple(models[0].shape)
        self._models = [model.reshape(-1) for model in models]
        self._base = None if base is None else base.reshape(-1)
        return self

    def release(self) -> None:
        """Let go of the tensors, keep the numbers."""
        self._models, self._base = [], None

    @property
    def size(self) -> int:
        """Number of elements of each tensor."""
        return self._models[0].numel()

    @property
    def count(self) -> int:
        """Number of models."""
        return len(self._models)

    def remember(self, key: Hashable, compute: Any) -> Any:
        """Return what is known under `key`, or what `compute()` returns."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def gram(self) -> torch.Tensor:
        """Return the Gram matrix in float64, (n, n): base first if there is one, then the models as task vectors."""
        return self.remember("gram", self._inner_products)

    def _inner_products(self) -> torch.Tensor:
        code = _fused.kernels([*self._models, *([] if self._base is None else [self._base])])
        return _fused.gram(code, self._models, self._base) if code else _gram.gram(self._models, self._base)

    def fibre_gram(self, axis: _gram.Axis) -> torch.Tensor:
        """Return the Gram matrices of each row ("last") or column ("first") of the tensors, (groups, n, n) float64."""
        return self.remember(("fibre_gram", axis), lambda: _gram.fibre_gram(self._models, self._base, self.shape, axis))

    def delta(self, model: int, start: int = 0, end: int | None = None) -> torch.Tensor:
        """Return a stretch of a model's task vector in working precision (float32; float64 for float64 tensors)."""
        piece = self._models[model][start:end]
        work = torch.float64 if piece.dtype == torch.float64 else torch.float32
        assert self._base is not None
        return piece.to(work) - self._base[start:end].to(work)

    def _sizes(self, model: int) -> _selection.Values:
        return lambda start, end: self.delta(model, start, end).abs_()

    def cut(self, model: int, count: int) -> Cut:
        """Return the cut that keeps the `count` largest |delta| of a model, ties by position."""
        return self.remember(("cut", model, count), lambda: self._select(model, count))

    def _select(self, model: int, count: int) -> Cut:
        assert self._base is not None
        code = _fused.kernels([self._base, self._models[model]]) if count > 0 else None
        found = _fused.select(code, self._base, self._models[model], count) if code else None
        return found or _selection.select(self._sizes(model), self.size, count)

    def _tie_end(self, model: int, threshold: float, ties: int) -> int:
        assert self._base is not None
        code = _fused.kernels([self._base, self._models[model]])
        if code is None:
            return _selection.tie_end(self._sizes(model), self.size, threshold, ties)
        where = (*_fused.address(self._base), *_fused.address(self._models[model]))
        return int(code.nth_equal(*where, self.size, int(np.float32(threshold).view(np.int32)), ties))

    def kept_l1(self, model: int, count: int) -> float:
        """Return the L1 norm of the `count` largest |delta| of a model."""
        return self.remember(
            ("l1", model, count),
            lambda: _selection.kept_l1(self._sizes(model), self.size, self.cut(model, count)),
        )

    def magnitude(self, model: int, density: float) -> int:
        """Return how many elements a density keeps: int(density * n), at least 1; prepares `cut` and `kept_l1`.

        The second density on the 1/1024 grid that is asked for computes a table that answers all others.
        """
        count = max(1, int(density * self.size))
        step = density * GRID
        if step.is_integer() and ("cut", model, count) not in self._known:
            asked = ("magnitude", model)
            if asked in self._asked and self._models[model].dtype != torch.float64:
                self._look_up(model, count, int(step))
            self._asked.add(asked)
        return count

    def _look_up(self, model: int, count: int, step: int) -> None:
        """Answer `cut` and `kept_l1` of density step / GRID from the table of all of them."""
        table = self.remember(("table", model), lambda: self._tabulate(model))
        threshold = table.thresholds[step - 1]
        self._known["cut", model, count] = Cut(threshold, self._tie_end(model, threshold, table.ties[step - 1]))
        self._known["l1", model, count] = table.l1[step - 1]

    def _tabulate(self, model: int) -> _selection.Table:
        size = self.size
        return _selection.table(self._sizes(model), size, [max(1, size * step // GRID) for step in range(1, GRID + 1)])

    def random(self, model: int, density: float, address: tuple[int, int]) -> tuple[float, float]:
        """Return the L1 norms (kept, all) of a task vector under the random mask of that density and address."""
        step = density * GRID
        if step.is_integer():
            sums = self.remember(("random", model, address), lambda: self._masked_sums(model, address, None))
            return float(sums[int(step)]), float(sums[GRID])
        cut = _random.cut(density)
        sums = self.remember(("random", model, address, density), lambda: self._masked_sums(model, address, cut))
        return float(sums[1]), float(sums[2])

    def _masked_sums(self, model: int, address: tuple[int, int], cut: int | None) -> torch.Tensor:
        """Return rising L1 norms in float64, from 0: those that densities s / GRID keep, or kept by `cut` and all."""
        assert self._base is not None
        buckets = GRID if cut is None else 2
        total = torch.zeros(buckets + 1, dtype=torch.float64)
        code = _fused.kernels([self._base, self._models[model]])
        for start, end in _selection.chunks(self.size):
            if code is None:
                total[1:] += self._masked_chunk(model, address, cut, start, end)
            else:
                sums = np.zeros(buckets)
                where = (*_fused.address(self._base), *_fused.address(self._models[model]))
                code.masked_sums(*where, start, end - start, np.array(address, dtype=np.int64), cut or 0, sums)
                total[1:] += torch.from_numpy(sums)
        return total.cumsum(0)

    def _masked_chunk(
        self, model: int, address: tuple[int, int], cut: int | None, start: int, end: int
    ) -> torch.Tensor:
        """Return the L1 norms of one stretch by random bits: in GRID equal ranges, or below `cut` and not."""
        delta = self.delta(model, start, end).abs_()
        bits = _random.uniform_bits(address, start, end - start, delta.device)
        which = bits >> (_random.BITS - 10) if cut is None else (bits >= cut).long()  # 2^10 = GRID ranges
        return torch.bincount(which.cpu(), weights=delta.double().cpu(), minlength=GRID if cut is None else 2)

    def ranked(
        self, model: int, density: float, ranking: _ranked.Ranking, address: tuple[int, int]
    ) -> tuple[float, float]:
        """Return the L1 norms (kept, all) of a task vector under DELLA's mask of that density, epsilon and address."""
        step = density * GRID
        if step.is_integer():
            key = ("ranked", model, ranking, address)
            sums = self.remember(key, lambda: self._ranked_sums(model, ranking, address, range(1, GRID + 1)))
            return float(sums[int(step) - 1]), float(sums[-1])
        alone = ("ranked", model, ranking, address, density)
        sums = self.remember(alone, lambda: self._ranked_sums(model, ranking, address, [density * GRID]))
        return float(sums[0]), float(sums[-1])

    def _ranked_sums(
        self, model: int, ranking: _ranked.Ranking, address: tuple[int, int], steps: Sequence[float]
    ) -> torch.Tensor:
        """Return (len(steps) + 1,) float64: the L1 norms that densities step / GRID keep, rising; the whole norm."""
        cuts = torch.tensor([_random.cut(step / GRID) for step in steps])
        sums = torch.zeros(len(steps) + 1, dtype=torch.float64)
        length = ranking.unit * max(1, _selection.CHUNK // ranking.unit)
        for start, end in _selection.chunks(self.size, length):
            size = self.delta(model, start, end).abs_()
            bits = _random.uniform_bits(address, start, end - start, size.device)
            needed = (bits - _ranked.bonus(size, ranking)).cpu()  # kept by a density whose cut is above this
            which = torch.searchsorted(cuts, needed, right=True)
            sums += torch.bincount(which, weights=size.double().cpu(), minlength=sums.numel())
        return sums.cumsum(0)
