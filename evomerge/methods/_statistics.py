"""Whole-tensor reductions that do not depend on genes: computed once for a set of tensors, then looked up.

Every sum has a fixed order or is exact, so no block size, number of threads or order of reading can change it.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch

from evomerge.methods import _gram, _random, _ranked, _selection
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
        return self.remember("gram", lambda: _gram.gram(self._models, self._base))

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
        return self.remember(("cut", model, count), lambda: _selection.select(self._sizes(model), self.size, count))

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
        asked = ("magnitude", model)
        if (density * GRID).is_integer() and ("cut", model, count) not in self._known:
            if asked in self._asked:
                self._tabulate(model, count)
            self._asked.add(asked)
        return count

    def _tabulate(self, model: int, count: int) -> None:
        """Answer `cut` and `kept_l1` of this count from the table of all densities on the grid."""
        if self.delta(model, 0, 1).dtype != torch.float32:
            return
        counts = [max(1, self.size * step // GRID) for step in range(1, GRID + 1)]
        table = self.remember(("table", model), lambda: _selection.table(self._sizes(model), self.size, counts))
        at = counts.index(count)
        end = _selection.tie_end(self._sizes(model), self.size, table.thresholds[at], table.ties[at])
        self._known["cut", model, count] = Cut(table.thresholds[at], end)
        self._known["l1", model, count] = table.l1[at]

    def random(self, model: int, density: float, address: tuple[int, int]) -> tuple[float, float]:
        """Return the L1 norms (kept, all) of a task vector under the random mask of that density and address."""
        step = density * GRID
        if step.is_integer():
            sums = self.remember(("random", model, address), lambda: self._random_table(model, address))
            return float(sums[int(step)]), float(sums[GRID])
        return self.remember(("random", model, address, density), lambda: self._random_alone(model, density, address))

    def _random_table(self, model: int, address: tuple[int, int]) -> torch.Tensor:
        """Return (GRID + 1,) float64: the L1 norm that density s / GRID keeps, for every s in one pass."""
        buckets = torch.zeros(GRID + 1, dtype=torch.float64)
        for start, end in _selection.chunks(self.size):
            delta = self.delta(model, start, end).abs_()
            bits = _random.uniform_bits(address, start, end - start, delta.device)
            which = (bits >> (_random.BITS - 10)).cpu()  # 2^10 = GRID buckets
            buckets[1:] += torch.bincount(which, weights=delta.double().cpu(), minlength=GRID)
        return buckets.cumsum(0)

    def _random_alone(self, model: int, density: float, address: tuple[int, int]) -> tuple[float, float]:
        kept = total = 0.0
        for start, end in _selection.chunks(self.size):
            delta = self.delta(model, start, end).abs_().double()
            mask = _random.uniform_bits(address, start, end - start, delta.device) < _random.cut(density)
            kept += float(delta[mask].sum())
            total += float(delta.sum())
        return kept, total

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
