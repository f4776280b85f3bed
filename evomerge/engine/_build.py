"""Build planned tensors: fetch the parents' views, look up statistics, run the method."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch

from evomerge import methods
from evomerge.checkpoint import Parents, TensorInfo
from evomerge.engine._kept_rows import KeptRows
from evomerge.engine._plan_records import Origin, Rows, TensorPlan
from evomerge.engine._residency import Residency
from evomerge.engine._statistics_cache import StatisticsCache
from evomerge.errors import DegenerateModel
from evomerge.methods import Direction, Inputs, Scratch, Statistics

MAX_STATISTICS = 16384  # sets of tensors whose statistics stay in memory: more than any model has

_StatisticsKey = tuple[Origin | None, tuple[Origin, ...], Rows | None]


class MethodRunner:
    """Runs merge methods on one device, reusing their buffers."""

    def __init__(self, device: torch.device, block: int | None = None):
        """Choose the size of the buffers; none is allocated yet.

        Args:
            device: where the inputs are.
            block: elements worked on at a time; None = what suits the device. It changes no result.
        """
        self.device, self.block = device, block or methods.block_size(device)
        self._scratch: dict[torch.dtype, Scratch] = {}

    def merge(self, plan: TensorPlan, inputs: Inputs, statistics: Statistics, out: torch.Tensor) -> bool | torch.Tensor:
        """Write the merge of `inputs` as a plan describes it into `out`.

        Returns:
            Whether every element is finite; on a GPU as a 0-d bool tensor, so that nothing waits for the device.

        Raises:
            MergeFailed: the method has no result for these settings.
            StatisticsLocked: another process is computing statistics that this needs.
        """
        dtype = methods.working_dtype(inputs)
        if dtype not in self._scratch:
            self._scratch[dtype] = Scratch(self.block, dtype, self.device)
        return methods.merge_into(
            out,
            methods.get(plan.method),
            inputs,
            plan.settings,
            statistics=statistics,
            gain=plan.gain,
            block=self.block,
            scratch=self._scratch[dtype],
        )


class _PreparedMerge(NamedTuple):
    """The inputs of a merge, for candidates that merge the same tensors with other settings."""

    plan: TensorPlan
    inputs: Inputs
    statistics: Statistics

    def serves(self, plan: TensorPlan) -> bool:
        """Tell whether the inputs are those of a plan."""
        mine = self.plan
        return (
            mine.models == plan.models and mine.base == plan.base and mine.seed == plan.seed and plan.rows == mine.rows
        )


class Builder:
    """Builds tensors one at a time into the caller's memory, reusing buffers and statistics.

    Attributes:
        parents: the opened models.
        device: where tensors are merged.
        keep_statistics: whether whole-tensor reductions stay in memory between calls.
        residency: where the parents' weights come from.
    """

    def __init__(
        self,
        parents: Parents,
        *,
        keep_statistics: bool,
        device: torch.device | str = "cpu",
        block: int | None = None,
        residency: Residency | None = None,
        cache: StatisticsCache | None = None,
        row_bytes: int = 0,
    ):
        """Prepare; nothing is read yet.

        Args:
            parents: the opened models.
            keep_statistics: keep whole-tensor reductions in memory between calls (a search asks for the same tensors
                again and again; a single merge does not).
            device: where tensors are merged.
            block: elements worked on at a time; None = what suits the device. It changes no result.
            residency: where the parents' weights come from; None = their files.
            cache: where statistics are kept beyond this process; None = nowhere.
            row_bytes: of the parents' rows on the result's vocabulary that may be kept between merges (see `KeptRows`).
        """
        self.parents, self.device = parents, torch.device(device)
        self.keep_statistics = keep_statistics
        self.residency = residency or Residency("mapped", self.device)
        self._cache = cache
        self._rows = KeptRows(row_bytes, self.residency)
        self._runner = MethodRunner(self.device, block)
        self._statistics: OrderedDict[_StatisticsKey, Statistics] = OrderedDict()
        self._prepared: dict[str, _PreparedMerge] = {}  # by the tensor's name in the result
        self._computed: dict[Origin, torch.Tensor] = {}  # tensors of the current merge that are in no file
        self._memory: list[torch.Tensor] = []  # for those, used again for the next merge
        self._unchecked: list[tuple[TensorPlan, torch.Tensor]] = []  # whether they are finite, still on the device

    def source(self, origin: Origin, rows: Rows | None = None) -> torch.Tensor:
        """Return a parent's tensor on the working device (a view of the mapped file on CPU).

        A computed tensor is computed once for each merge and is valid until the next.

        Args:
            origin: which tensor.
            rows: brings it to the output's vocabulary, which takes memory for one tensor of the output's size.
        """
        if rows is not None:
            kept = self._rows.find(origin, rows)
            return self._gathered(origin, rows) if kept is None else kept
        if origin in self._computed:
            return self._computed[origin]
        model = self.parents[origin.model]
        parts = [self.residency.tensor(stored) for stored in model.stored(origin.tensor)]
        if not model.is_computed(origin.tensor):
            return model.assemble(origin.tensor, parts)
        memory = self._memory_for(model.tensors[origin.tensor])
        computed = model.assemble(origin.tensor, parts, memory).to(self.device)
        self._computed[origin] = computed
        return computed

    def _gathered(self, origin: Origin, rows: Rows) -> torch.Tensor:
        """Return a parent's tensor with the rows of the result's vocabulary."""
        sources, alignment = {other.model: other for other in (*rows.origins, origin)}, rows.alignment
        found = alignment.gather(origin.model, lambda ref: self.source(sources[ref]) if ref in sources else None)
        if not alignment.is_view(origin.model, self.parents[origin.model].tensors[origin.tensor].shape[0]):
            self._rows.keep(origin, rows, found)
        return found

    def prefetch(self, plan: TensorPlan) -> None:
        """Prepare for building a tensor soon."""
        for origin in plan.origins:
            self.residency.prefetch(self.parents[origin.model].stored(origin.tensor))

    def build(self, plan: TensorPlan, out: torch.Tensor) -> None:
        """Write one tensor. What a GPU finds wrong with it may be raised by `finish` only.

        Args:
            plan: of the tensor.
            out: of the planned shape and dtype, on the working device.

        Raises:
            DegenerateModel: the result has a non-finite element; says whether a parent is to blame.
            MergeFailed: the method has no result for these settings.
            StatisticsLocked: another process is computing statistics that this needs, and the cache does not wait.
        """
        try:
            if plan.copied:
                out.copy_(self.source(plan.models[0], plan.rows))
                self.check(plan, out)
            else:
                self._merge(plan, out)
        finally:
            self._computed.clear()
            self.residency.release()

    def derivatives(self, plan: TensorPlan, gradient: torch.Tensor, wanted: Sequence[Direction]) -> list[float]:
        """Return the derivative of a scalar by parameters of a tensor's merge (see `evomerge.methods.derivatives`).

        Args:
            plan: of the tensor.
            gradient: of the scalar by the tensor, of its shape, on the working device.
            wanted: which parameters; those that the plan's settings lack have 0.
        """
        method = methods.get(plan.method)
        known = set(methods.directions(method, plan.settings))
        own = [direction for direction in wanted if direction in known]
        prepared = self._prepared_for(plan)
        try:
            found = methods.derivatives(
                method, prepared.inputs, plan.settings, gradient, own, statistics=prepared.statistics
            )
        finally:
            prepared.statistics.end_merge()
            if plan.name not in self._prepared:
                prepared.statistics.release()
            self._computed.clear()
            self.residency.release()
        values = {direction: plan.gain * value for direction, value in zip(own, found, strict=True)}
        return [values.get(direction, 0.0) for direction in wanted]

    def _prepared_for(self, plan: TensorPlan) -> _PreparedMerge:
        prepared = self._prepared.get(plan.name)
        return prepared if prepared is not None and prepared.serves(plan) else self._prepare(plan)

    def _merge(self, plan: TensorPlan, out: torch.Tensor) -> None:
        prepared = self._prepared_for(plan)
        try:
            finite = self._runner.merge(plan, prepared.inputs, prepared.statistics, out)
        finally:
            prepared.statistics.end_merge()
            if plan.name not in self._prepared:
                prepared.statistics.release()
        if isinstance(finite, torch.Tensor):
            self._unchecked.append((plan, finite))
        elif not finite:
            raise DegenerateModel(self._reason(plan))

    def _prepare(self, plan: TensorPlan) -> _PreparedMerge:
        """Return the tensors of a merge and their statistics; both are kept if they stay where they are."""
        inputs = Inputs(
            models=[self.source(origin, plan.rows) for origin in plan.models],
            base=None if plan.base is None else self.source(plan.base, plan.rows),
            tensor=plan.name,
            parents=[str(origin.model) for origin in plan.models],
            seed=plan.seed,
        )
        prepared = _PreparedMerge(plan, inputs, self._statistics_of(plan, inputs))
        self._prepared.pop(plan.name, None)
        stays = plan.rows is None or self._rows.limit_bytes > 0
        if self.keep_statistics and self.residency.keeps and stays and not self._computed:
            self._prepared[plan.name] = prepared
        return prepared

    def discard_checks(self) -> None:
        """Leave open whether what was built so far is finite: its candidate was given up."""
        self._unchecked.clear()

    def finish(self) -> None:
        """Wait for the device and check what was built.

        Raises:
            DegenerateModel: as `build` does.
        """
        unchecked, self._unchecked = self._unchecked, []
        if unchecked and not bool(torch.stack([finite for _, finite in unchecked]).all()):
            raise DegenerateModel(self._reason(next(plan for plan, finite in unchecked if not finite)))

    def check(self, plan: TensorPlan, tensor: torch.Tensor) -> None:
        """Check a tensor that was taken from a parent unchanged.

        Raises:
            DegenerateModel: it is not finite.
        """
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DegenerateModel(self._reason(plan))

    def _statistics_of(self, plan: TensorPlan, inputs: Inputs) -> Statistics:
        if not self.keep_statistics:
            return Statistics(inputs.models, inputs.base)
        key = (plan.base, plan.models, plan.rows)
        if key in self._statistics:
            self._statistics.move_to_end(key)
            return self._statistics[key].bind(inputs.models, inputs.base)
        if len(self._statistics) >= MAX_STATISTICS:
            self._statistics.popitem(last=False)
        entry = None if self._cache is None else self._cache.entry(self.parents, plan, self.device)
        known = None if entry is None else entry.load()
        statistics = Statistics(inputs.models, inputs.base, known=known, store=entry)
        self._statistics[key] = statistics
        return statistics

    def _memory_for(self, info: TensorInfo) -> torch.Tensor:
        """Return memory for the next computed tensor of this merge."""
        number = len(self._computed)
        if number == len(self._memory):
            self._memory.append(torch.empty(0, dtype=torch.uint8, device=self.device))
        if self._memory[number].numel() < info.size_bytes:
            self._memory[number] = torch.empty(info.size_bytes, dtype=torch.uint8, device=self.device)
        return self._memory[number][: info.size_bytes].view(info.dtype).view(info.shape)

    def _reason(self, plan: TensorPlan) -> str:
        """Return the sentence of a tensor that is not finite."""
        bad = [str(origin) for origin in plan.origins if not bool(torch.isfinite(self.source(origin)).all())]
        if bad:
            return f"{plan.name} is not finite, because {bad[0]} holds NaN or infinity already"
        return f"{plan.name} is not finite in {str(plan.dtype).removeprefix('torch.')}: the weights are too large"
