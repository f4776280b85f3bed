"""Build planned tensors: fetch the parents' views, look up statistics, run the method."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from evomerge import methods
from evomerge.checkpoint import Parents, TensorInfo
from evomerge.engine._statistics_cache import StatisticsCache
from evomerge.engine.live._residency import Residency
from evomerge.engine.plan._records import Origin, Rows, TensorPlan
from evomerge.errors import DegenerateModel
from evomerge.methods import Inputs, Scratch, Statistics

KNOWN = 16384  # sets of tensors whose statistics are remembered: more than any model has


class _Ready(NamedTuple):
    """The inputs of a merge, for candidates that merge the same tensors in another way."""

    plan: TensorPlan | None = None
    inputs: Inputs | None = None
    statistics: Statistics | None = None

    def of(self, plan: TensorPlan) -> tuple[Inputs, Statistics] | None:
        """Return them if they are those of a plan."""
        mine = self.plan
        if mine is None or self.inputs is None or self.statistics is None or mine.seed != plan.seed or plan.rows:
            return None
        same = mine.models == plan.models and mine.base == plan.base
        return (self.inputs, self.statistics) if same else None


_NOTHING_READY = _Ready()


class Builder:
    """Builds tensors one at a time into memory of the caller's, reusing buffers and statistics.

    keep_statistics: remember whole-tensor reductions between calls (a search asks for the same tensors again and
    again; a single merge does not). store: where they are kept beyond this process. residence: where the parents'
    weights come from; by default, from their files.
    """

    def __init__(
        self,
        parents: Parents,
        *,
        keep_statistics: bool,
        device: torch.device | str = "cpu",
        block: int | None = None,
        residence: Residency | None = None,
        store: StatisticsCache | None = None,
    ):
        self.parents, self.device = parents, torch.device(device)
        self.block = block or methods.block_size(self.device)
        self.residence = residence or Residency("mapped", self.device)
        self._store = store
        self._known: OrderedDict[tuple[Any, ...], Statistics] | None = OrderedDict() if keep_statistics else None
        self._ready: dict[str, _Ready] = {}  # by the tensor's name in the result: what was merged into it last
        self._scratch: dict[torch.dtype, Scratch] = {}
        self._computed: dict[Origin, torch.Tensor] = {}  # tensors of this merge that are in no file
        self._room: list[torch.Tensor] = []  # memory for them, which is used again for the next
        self._unchecked: list[tuple[TensorPlan, torch.Tensor]] = []  # whether they are finite, on the device

    def source(self, origin: Origin, rows: Rows | None = None) -> torch.Tensor:
        """Return a parent's tensor on the working device (a view of the mapped file on CPU).

        A computed tensor is worked out once for each merge and holds until the next.

        rows: brings it to the output's vocabulary; memory: one tensor of the output's size.
        """
        if rows is not None:
            lenders = {other.model: other for other in (*rows.origins, origin)}
            return rows.alignment.gather(
                origin.model, lambda ref: self.source(lenders[ref]) if ref in lenders else None
            )
        if origin in self._computed:
            return self._computed[origin]
        model = self.parents[origin.model]
        parts = [self.residence.tensor(stored) for stored in model.stored(origin.tensor)]
        if not model.is_computed(origin.tensor):
            return model.assemble(origin.tensor, parts)
        memory = self._memory(model.tensors[origin.tensor])
        made = model.assemble(origin.tensor, parts, memory).to(self.device)
        self._computed[origin] = made
        return made

    def ahead(self, plan: TensorPlan) -> None:
        """Prepare for building a tensor soon."""
        for origin in _origins(plan):
            self.residence.ahead(self.parents[origin.model].stored(origin.tensor))

    def build(self, plan: TensorPlan, out: torch.Tensor) -> None:
        """Write one tensor into `out`, which has the planned shape and dtype. A GPU may say in `finish` what is wrong.

        Raises:
            DegenerateModel: the result has a non-finite element; says whether a parent is to blame.
            MergeFailed: the method has no result for these settings.
            StatisticsLocked: another process is working out statistics that this needs, and the store is not patient.
        """
        try:
            if plan.copied:
                out.copy_(self.source(plan.models[0], plan.rows))
                self.check(plan, out)
            else:
                self._merge(plan, out)
        finally:
            self._computed.clear()
            self.residence.release()

    def _merge(self, plan: TensorPlan, out: torch.Tensor) -> None:
        inputs, statistics = self._ready.get(plan.name, _NOTHING_READY).of(plan) or self._prepare(plan)
        try:
            finite = methods.merge_into(
                out,
                methods.get(plan.method),
                inputs,
                plan.settings,
                statistics=statistics,
                gain=plan.gain,
                block=self.block,
                scratch=self._buffers(methods.working_dtype(inputs)),
            )
        finally:
            statistics.settle()
            if plan.name not in self._ready:
                statistics.release()
        if isinstance(finite, torch.Tensor):
            self._unchecked.append((plan, finite))
        elif not finite:
            raise DegenerateModel(self._blame(plan))

    def _prepare(self, plan: TensorPlan) -> tuple[Inputs, Statistics]:
        """Return the tensors of a merge and what is known of them; both are noted if they stay where they are."""
        inputs = Inputs(
            models=[self.source(origin, plan.rows) for origin in plan.models],
            base=None if plan.base is None else self.source(plan.base, plan.rows),
            tensor=plan.name,
            parents=[str(origin.model) for origin in plan.models],
            seed=plan.seed,
        )
        statistics = self._statistics(plan, inputs)
        self._ready.pop(plan.name, None)
        if self._known is not None and self.residence.keeps and plan.rows is None and not self._computed:
            self._ready[plan.name] = _Ready(plan, inputs, statistics)
        return inputs, statistics

    def forget(self) -> None:
        """Leave unasked whether what was built so far is finite: its candidate was given up."""
        self._unchecked.clear()

    def finish(self) -> None:
        """Wait for the device; every tensor that was built must be finite.

        Raises:
            DegenerateModel: as `build` does.
        """
        unchecked, self._unchecked = self._unchecked, []
        if unchecked and not bool(torch.stack([finite for _, finite in unchecked]).all()):
            raise DegenerateModel(self._blame(next(plan for plan, finite in unchecked if not finite)))

    def check(self, plan: TensorPlan, tensor: torch.Tensor) -> None:
        """Raise DegenerateModel if a tensor that was taken from a parent unchanged is not finite."""
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DegenerateModel(self._blame(plan))

    def _statistics(self, plan: TensorPlan, inputs: Inputs) -> Statistics:
        if self._known is None:
            return Statistics(inputs.models, inputs.base)
        key = (plan.base, plan.models, plan.rows)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key].bind(inputs.models, inputs.base)
        if len(self._known) >= KNOWN:
            self._known.popitem(last=False)
        shelf = None
        if self._store is not None:
            shelf = self._store.shelf(self.parents, plan.models, plan.base, plan.rows, self.device)
        known = None if shelf is None else shelf.load()
        return self._known.setdefault(key, Statistics(inputs.models, inputs.base, known=known, keeper=shelf))

    def _buffers(self, dtype: torch.dtype) -> Scratch:
        if dtype not in self._scratch:
            self._scratch[dtype] = Scratch(self.block, dtype, self.device)
        return self._scratch[dtype]

    def _memory(self, info: TensorInfo) -> torch.Tensor:
        """Return memory for the next computed tensor of this merge."""
        number = len(self._computed)
        if number == len(self._room):
            self._room.append(torch.empty(0, dtype=torch.uint8, device=self.device))
        if self._room[number].numel() < info.size_bytes:
            self._room[number] = torch.empty(info.size_bytes, dtype=torch.uint8, device=self.device)
        return self._room[number][: info.size_bytes].view(info.dtype).view(info.shape)

    def _blame(self, plan: TensorPlan) -> str:
        bad = [str(origin) for origin in _origins(plan) if not bool(torch.isfinite(self.source(origin)).all())]
        if bad:
            return f"{plan.name} is not finite, because {bad[0]} holds NaN or infinity already"
        return f"{plan.name} is not finite in {str(plan.dtype).removeprefix('torch.')}: the weights are too large"


def _origins(plan: TensorPlan) -> Sequence[Origin]:
    return [*([plan.base] if plan.base else []), *plan.models]
