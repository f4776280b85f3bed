"""Whole-tensor reductions that do not depend on genes: computed once for a set of tensors, then looked up.

Every sum has a fixed order or is exact, so no block size, number of threads or order of reading can change it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from evomerge.methods.core._random_mask import BITS, MagnitudeRanks, keep_bound, rank_bonus, uniform_bits
from evomerge.methods.kernels.cpu import _dispatch as cpu
from evomerge.methods.kernels.gpu import _statistics as gpu
from evomerge.methods.statistics import _gram, _selection
from evomerge.methods.statistics._selection import Cut

T = TypeVar("T")

GRID = 1024  # densities of a search are multiples of 1/GRID; one table then answers all of them
MAX_CACHED_PER_KIND = 4  # cached tensors of one kind and model: more seeds or epsilons than these are computed again
_THRESHOLD, _TIES, _L1, _TIE_END = range(4)  # rows of a table of densities; the last is -1 until it is needed


def load_kernels() -> None:
    """Load the compiled kernels now, as a process that merges does by itself after a while."""
    with cpu.use_kernels("always"):
        cpu.kernels([torch.empty(1)])


class StatisticsLocked(Exception):
    """Another process is computing these statistics; there may be something else to do meanwhile."""


class StatisticsStore(Protocol):
    """Stores the cached numbers of one set of tensors beyond the life of a process."""

    def begin(self, known: dict[str, torch.Tensor]) -> None:
        """Claim the work of computing a number that is not known, and add to `known` what others have stored since.

        Raises:
            StatisticsLocked: another process holds the claim.
        """
        ...

    def end(self, known: dict[str, torch.Tensor], changed: bool) -> None:
        """End a merge: store what is known if `changed`, and give up the claim."""
        ...


class Statistics:
    """Reductions over one set of tensors (a base and models of one shape), computed when first needed.

    Cached numbers cost a pass or more and are few, whatever a search tries: they stay as float64 tensors in main
    memory, and a store can hold them on disk. Of all others, the latest are memoized.

    Attributes:
        shape: of each tensor.
    """

    shape: tuple[int, ...]

    def __init__(
        self,
        models: Sequence[torch.Tensor],
        base: torch.Tensor | None,
        *,
        known: dict[str, torch.Tensor] | None = None,
        store: StatisticsStore | None = None,
    ):
        """Point at tensors.

        Args:
            models: the tensors that are merged.
            base: the tensor that task vectors are taken against, or None.
            known: cached numbers of the same tensors.
            store: where cached numbers go; with one, the table of densities is made when the first density is needed,
                not the second.
        """
        self.bind(models, base)
        self._cached: dict[str, torch.Tensor] = {} if known is None else known
        self._store, self._changed = store, False
        self._memo: OrderedDict[Hashable, Any] = OrderedDict()
        self._memo_size = 16 + 8 * len(models)
        self._last_table: dict[int, str] = {}  # model -> the table that would have answered last

    def bind(self, models: Sequence[torch.Tensor], base: torch.Tensor | None) -> "Statistics":
        """Point at the same tensors read anew, keeping what was computed."""
        self.shape = tuple(models[0].shape)
        self._models = [model.reshape(-1) for model in models]
        self._base = None if base is None else base.reshape(-1)
        return self

    def end_merge(self) -> None:
        """Store what is new, and let others compute these statistics."""
        if self._store is not None:
            self._store.end(self._cached, self._changed)
        self._changed = False

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

    @property
    def known(self) -> Mapping[str, torch.Tensor]:
        """The cached numbers, float64 in main memory, by key."""
        return MappingProxyType(self._cached)

    def cached(self, key: str, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return the float64 tensor that is cached under `key`, computing it if there is none.

        Args:
            key: words, the first of which is the kind and the second, if there is one, the model or the like.
            compute: returns a float64 tensor that depends on the tensors and the key alone.

        Raises:
            StatisticsLocked: another process is computing it.
        """
        found = self._cached.get(key)
        if found is None:
            if not self._has_room(key):
                return self.memoized(key, compute)
            if self._store is not None:
                self._store.begin(self._cached)
            if key not in self._cached:
                self._cached[key] = compute().cpu()
                self._changed = True
            found = self._cached[key]
        return found

    def _has_room(self, key: str) -> bool:
        """Return whether one more tensor of the kind and model of `key` would be cached."""
        kind = key.split()[:2]
        return sum(cached.split()[:2] == kind for cached in self._cached) < MAX_CACHED_PER_KIND

    def memoized(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what was computed for `key` lately, or what `compute()` returns."""
        if key not in self._memo:
            self._memo[key] = compute()
            if len(self._memo) > self._memo_size:
                self._memo.popitem(last=False)
        self._memo.move_to_end(key)
        found: T = self._memo[key]
        return found

    def gram(self) -> torch.Tensor:
        """Return the Gram matrix in float64, (n, n): base first if there is one, then the models as task vectors."""
        return self.cached("gram", self._inner_products)

    def _inner_products(self) -> torch.Tensor:
        code = cpu.kernels([*self._models, *([] if self._base is None else [self._base])])
        return cpu.gram(code, self._models, self._base) if code else _gram.gram(self._models, self._base)

    def fiber_gram(self, axis: _gram.Axis) -> torch.Tensor:
        """Return the Gram matrices of each row ("last") or column ("first") of the tensors, (groups, n, n) float64."""
        return self.cached(f"fiber_gram {axis}", lambda: _gram.fiber_gram(self._models, self._base, self.shape, axis))

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
        return self.memoized(("cut", model, count), lambda: self._select(model, count))

    def _select(self, model: int, count: int) -> Cut:
        assert self._base is not None
        if count > 0 and gpu.serves(self._models[model], sorting=True):
            threshold, _, _, end = gpu.density_table(self.delta(model).abs_(), [count])[:, 0].tolist()
            return Cut(threshold, int(end))
        code = cpu.kernels([self._base, self._models[model]]) if count > 0 else None
        found = cpu.select(code, self._base, self._models[model], count) if code else None
        return found or _selection.select(self._sizes(model), self.size, count)

    def _tie_end(self, model: int, threshold: float, ties: int) -> int:
        assert self._base is not None
        code = cpu.kernels([self._base, self._models[model]])
        if code is None:
            return _selection.tie_end(self._sizes(model), self.size, threshold, ties)
        return cpu.nth_equal(code, self._base, self._models[model], threshold, ties)

    def kept_l1(self, model: int, count: int) -> float:
        """Return the L1 norm of the `count` largest |delta| of a model."""
        if count == self.size and f"table {model}" in self._cached:
            return float(self._cached[f"table {model}"][_L1, -1])
        return self.memoized(
            ("l1", model, count),
            lambda: _selection.kept_l1(self._sizes(model), self.size, self.cut(model, count)),
        )

    def magnitude(self, model: int, density: float, above: int = 0) -> int:
        """Return above + int(density * n), at least 1; prepares `cut` and `kept_l1` for so many elements.

        The second density on the 1/1024 grid (with a store, the first) computes a table that answers all others.

        Args:
            model: position of the model.
            density: fraction of the n elements.
            above: how many more are kept, at most n - int(density * n); each number has its own table.
        """
        count = max(1, above + int(density * self.size))
        step = density * GRID
        if step.is_integer() and ("cut", model, count) not in self._memo:
            key = f"above {model} {above}" if above else f"table {model}"
            repeated = self._store is not None or self._last_table.get(model) == key
            worth = key in self._cached or (repeated and self._has_room(key))
            if worth and self._models[model].dtype != torch.float64:
                self._look_up(key, model, above, int(step), count)
            self._last_table[model] = key
        return count

    def _look_up(self, key: str, model: int, above: int, step: int, count: int) -> None:
        """Answer `cut` and `kept_l1` of density step / GRID from the table of all of them."""
        table = self.cached(key, lambda: self._tabulate(model, above))
        threshold, ties, l1, end = table[:, step - 1].tolist()
        if end < 0:
            end = self._tie_end(model, threshold, int(ties))
            table[_TIE_END, step - 1] = end
        self.memoized(("cut", model, count), lambda: Cut(threshold, int(end)))
        self.memoized(("l1", model, count), lambda: l1)

    def _tabulate(self, model: int, above: int) -> torch.Tensor:
        """Return (4, GRID) float64: threshold, ties, L1 norm and tie end, or -1 for it, of each density step / GRID."""
        size = self.size
        counts = [min(size, max(1, above + size * step // GRID)) for step in range(1, GRID + 1)]
        if gpu.serves(self._models[model], sorting=True):
            return gpu.density_table(self.delta(model).abs_(), counts)
        assert self._base is not None
        code = cpu.kernels([self._base, self._models[model]])
        if code is not None:
            return cpu.table(code, self._base, self._models[model], counts)
        found = _selection.select_all(self._sizes(model), size, counts)
        return torch.tensor([found.thresholds, found.ties, found.l1, [-1] * GRID], dtype=torch.float64)

    def random(self, model: int, density: float, address: tuple[int, int]) -> tuple[float, float]:
        """Return the L1 norms (kept, all) of a task vector under the random mask of that density and address."""
        step = density * GRID
        if step.is_integer():
            key = f"random {model} {address[0]} {address[1]}"
            sums = self.cached(key, lambda: self._masked_sums(model, address, None))
            return float(sums[int(step)]), float(sums[GRID])
        cut = keep_bound(density)
        sums = self.memoized(("random", model, address, density), lambda: self._masked_sums(model, address, cut))
        return float(sums[1]), float(sums[2])

    def _masked_sums(self, model: int, address: tuple[int, int], cut: int | None) -> torch.Tensor:
        """Return ascending L1 norms in float64, from 0: kept by densities s / GRID, or kept by `cut` and all."""
        assert self._base is not None
        buckets = GRID if cut is None else 2
        total = torch.zeros(buckets + 1, dtype=torch.float64)
        if gpu.serves(self._models[model]):
            pieces = _selection.chunks(self.size, gpu.PIECE_ELEMENTS)
            total[1:] = gpu.norms((self._masked(model, address, cut, *piece) for piece in pieces), buckets)
            return total.cumsum(0)
        code = cpu.kernels([self._base, self._models[model]])
        for start, end in _selection.chunks(self.size):
            if code is None:
                total[1:] += self._masked_chunk(model, address, cut, start, end)
            else:
                sums = np.zeros(buckets)
                where = (*cpu.address(self._base), *cpu.address(self._models[model]))
                code.masked_sums(*where, start, end - start, np.array(address, dtype=np.int64), cut or 0, sums)
                total[1:] += torch.from_numpy(sums)
        return total.cumsum(0)

    def _masked_chunk(
        self, model: int, address: tuple[int, int], cut: int | None, start: int, end: int
    ) -> torch.Tensor:
        """Return the L1 norms of one stretch by random bits, as `_masked` groups them."""
        size, which = self._masked(model, address, cut, start, end)
        return torch.bincount(which.cpu(), weights=size.double().cpu(), minlength=GRID if cut is None else 2)

    def _masked(
        self, model: int, address: tuple[int, int], cut: int | None, start: int, end: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return |delta| of one stretch, and its groups by random bits: GRID equal ranges, or below `cut` and not."""
        size = self.delta(model, start, end).abs_()
        bits = uniform_bits(address, start, end - start, size.device)
        return size, bits >> (BITS - 10) if cut is None else (bits >= cut).long()  # 2^10 = GRID ranges

    def ranked(
        self, model: int, density: float, ranking: MagnitudeRanks, address: tuple[int, int]
    ) -> tuple[float, float]:
        """Return the L1 norms (kept, all) of a task vector under DELLA's mask of that density, epsilon and address."""
        step = density * GRID
        if step.is_integer():
            rule = f"{ranking.length} {ranking.run} {ranking.epsilon!r} {address[0]} {address[1]}"
            every = range(1, GRID + 1)
            sums = self.cached(f"ranked {model} {rule}", lambda: self._ranked_sums(model, ranking, address, every))
            return float(sums[int(step) - 1]), float(sums[-1])
        alone = ("ranked", model, ranking, address, density)
        sums = self.memoized(alone, lambda: self._ranked_sums(model, ranking, address, [density * GRID]))
        return float(sums[0]), float(sums[-1])

    def _ranked_sums(
        self, model: int, ranking: MagnitudeRanks, address: tuple[int, int], steps: Sequence[float]
    ) -> torch.Tensor:
        """Return (len(steps) + 1,) float64: the L1 norms that densities step / GRID keep, ascending; the whole norm."""
        cuts = torch.tensor([keep_bound(step / GRID) for step in steps], device=self._models[model].device)

        def ranks(start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
            size = self.delta(model, start, end).abs_()
            bits = uniform_bits(address, start, end - start, size.device)
            needed = bits - rank_bonus(size, ranking)  # kept by a density whose cut is above this
            return size, torch.searchsorted(cuts, needed, right=True)

        exact = gpu.serves(self._models[model])
        length = gpu.PIECE_ELEMENTS if exact else _selection.CHUNK_ELEMENTS
        pieces = _selection.chunks(self.size, ranking.unit * max(1, length // ranking.unit))
        if exact:
            return gpu.norms((ranks(*piece) for piece in pieces), len(steps) + 1).cumsum(0)
        sums = torch.zeros(len(steps) + 1, dtype=torch.float64)
        for piece in pieces:
            size, which = ranks(*piece)
            sums += torch.bincount(which.cpu(), weights=size.double().cpu(), minlength=sums.numel())
        return sums.cumsum(0)
