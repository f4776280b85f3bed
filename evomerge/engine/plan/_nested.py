"""A merge that another recipe uses as a model: its tensors are built when they are read, so nothing is stored."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock

import torch

from evomerge.checkpoint import (
    Model,
    Parents,
    StoredTensor,
    TensorInfo,
    Tokenizer,
)
from evomerge.engine._build import Builder
from evomerge.engine._plan_records import Plan
from evomerge.engine._tokenizer import output_tokenizer


class PlannedModel(Model):
    """The result of a plan, as a model. Memory: the one tensor that is read.

    Attributes:
        plan: of the merge.
    """

    def __init__(self, name: str, plan: Plan, parents: Parents):
        self.name, self.plan, self._parents = name, plan, parents
        self.folder, self.config = parents[plan.recipe.config_source].folder, dict(plan.config)
        self._plans = {tensor.name: tensor for tensor in plan.tensors}
        self._builder = Builder(parents, keep_statistics=False)
        self._building = Lock()  # several threads may ask for tensors

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Dtype and shape of each planned tensor."""
        return {name: plan.info for name, plan in self._plans.items()}

    def stored(self, name: str) -> tuple[StoredTensor, ...]:
        """Return nothing: no file holds any part of it."""
        return ()

    def assemble(self, name: str, parts: Sequence[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
        """Build a tensor, in the dtype that a folder would hold it in.

        Args:
            name: of the tensor.
            parts: nothing.
            out: memory to build it in, if it is the CPU's.

        Raises:
            DegenerateModel: see `Builder.build`.
            MergeFailed: see `Builder.build`.
        """
        plan = self._plans[name]
        if out is None or not out.is_cpu:
            out = torch.empty(plan.shape, dtype=plan.dtype)
        with self._building, torch.no_grad():
            self._builder.build(plan, out)
        return out

    def is_computed(self, name: str) -> bool:
        """Return True: even a copy is made anew."""
        return True

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The result's tokenizer."""
        return output_tokenizer(self.plan.recipe, self._parents)

    def _digest(self) -> str:
        """Hash the recipe's fingerprint and the parents' digests."""
        parts = [self.plan.recipe.fingerprint, *(self._parents[ref].digest for ref in self.plan.recipe.inputs)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()
