"""Build planned tensors: fetch the parents' views, look up statistics, run the method."""

from collections.abc import Sequence
from typing import Any

import torch

from evomerge import methods
from evomerge.checkpoint import Parents
from evomerge.engine._plan import Origin, Rows, TensorPlan
from evomerge.errors import DegenerateModel
from evomerge.methods import BLOCK, Inputs, Scratch, Statistics


class Builder:
    """Builds tensors one at a time into memory of the caller's, reusing buffers and statistics.

    keep_statistics: remember whole-tensor reductions between calls (a search asks for the same tensors again and
    again; a single merge does not).
    """

    def __init__(
        self, parents: Parents, *, keep_statistics: bool, device: torch.device | str = "cpu", block: int = BLOCK
    ):
        self.parents, self.device, self.block = parents, torch.device(device), block
        self._known: dict[tuple[Any, ...], Statistics] | None = {} if keep_statistics else None
        self._scratch: dict[torch.dtype, Scratch] = {}

    def source(self, origin: Origin, rows: Rows | None = None) -> torch.Tensor:
        """Return a parent's tensor on the working device (a view of the mapped file on CPU).

        rows: brings it to the output's vocabulary; memory: one tensor of the output's size.
        """
        if rows is None:
            return self.parents[origin.model].tensor(origin.tensor).to(self.device)
        lenders = {other.model: other for other in (*rows.origins, origin)}
        return rows.alignment.gather(origin.model, lambda ref: self.source(lenders[ref]) if ref in lenders else None)

    def build(self, plan: TensorPlan, out: torch.Tensor) -> None:
        """Write one tensor into `out`, which has the planned shape and dtype.

        Raises:
            DegenerateModel: the result has a non-finite element; says whether a parent is to blame.
            MergeFailed: the method has no result for these settings.
        """
        models = [self.source(origin, plan.rows) for origin in plan.models]
        base = None if plan.base is None else self.source(plan.base, plan.rows)
        if plan.copied:
            out.copy_(models[0])
            self.check(plan, out)
        else:
            method = methods.get(plan.method)
            names = [str(origin.model) for origin in plan.models]
            inputs = Inputs(models=models, base=base, tensor=plan.name, parents=names, seed=plan.seed)
            statistics = self._statistics(plan, inputs)
            finite = methods.merge_into(
                out,
                method,
                inputs,
                plan.settings,
                statistics=statistics,
                gain=plan.gain,
                block=self.block,
                scratch=self._buffers(methods.working_dtype(inputs)),
            )
            statistics.release()
            if not finite:
                raise DegenerateModel(self._blame(plan))

    def check(self, plan: TensorPlan, tensor: torch.Tensor) -> None:
        """Raise DegenerateModel if a tensor that was taken from a parent unchanged is not finite."""
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DegenerateModel(self._blame(plan))

    def _statistics(self, plan: TensorPlan, inputs: Inputs) -> Statistics:
        if self._known is None:
            return Statistics(inputs.models, inputs.base)
        key = (plan.base, plan.models, plan.rows)
        if key in self._known:
            return self._known[key].bind(inputs.models, inputs.base)
        return self._known.setdefault(key, Statistics(inputs.models, inputs.base))

    def _buffers(self, dtype: torch.dtype) -> Scratch:
        if dtype not in self._scratch:
            self._scratch[dtype] = Scratch(self.block, dtype, self.device)
        return self._scratch[dtype]

    def _blame(self, plan: TensorPlan) -> str:
        origins: Sequence[Origin] = [*([plan.base] if plan.base else []), *plan.models]
        bad = [str(origin) for origin in origins if not bool(torch.isfinite(self.source(origin)).all())]
        if bad:
            return f"{plan.name} is not finite, because {bad[0]} holds NaN or infinity already"
        return f"{plan.name} is not finite in {str(plan.dtype).removeprefix('torch.')}: the weights are too large"
