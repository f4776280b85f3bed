"""The live sink: a plan overwrites a resident transformers model in place."""

import json
from typing import Any

import torch

from evomerge.checkpoint import Parents
from evomerge.engine._build import Builder
from evomerge.engine._plan import Origin, Plan, TensorPlan
from evomerge.engine._skeleton import Skeleton
from evomerge.engine._slots import Slot
from evomerge.engine._tokenizer import template_of, vocabulary


class LiveModel:
    """A model that becomes one candidate after another.

    Its parameters point either at memory of its own, which `apply` overwrites, or, for tensors that a plan takes from
    a parent unchanged, straight at the parent's mapped file: such a candidate, and every unscaled block of a layer
    stack, costs no copy at all. Tensors whose plan did not change since the last candidate are left alone.

    `model` may be another object after `apply` when the depth changes; `tokenizer` stays the same.
    """

    def __init__(self, parents: Parents, *, device: str = "cpu"):
        self.parents, self.device = parents, torch.device(device)
        self.model: Any = None
        self.tokenizer: Any = None
        self._builder = Builder(parents, keep_statistics=True, device=device)
        self._skeletons: dict[str, Skeleton] = {}
        self._own: dict[tuple[str, torch.dtype], torch.Tensor] = {}
        self._made: dict[tuple[str, torch.dtype], tuple[TensorPlan, int]] = {}  # plan and address
        self._sound: set[Origin] = set()  # parents' tensors that were looked at and are finite
        self._tokenizer_of: Any = None

    def apply(self, plan: Plan) -> None:
        """Turn the live model into the merge that `plan` describes.

        Raises:
            DegenerateModel: a tensor is not finite. MergeFailed: tensors do not fit the model's class.
        """
        skeleton = self._skeleton(plan)
        slots = skeleton.slots(plan)
        with torch.inference_mode(False), torch.no_grad():
            for tensor in plan.tensors:
                slot = slots[tensor.name]
                skeleton.parameters[slot.parameter].data = (
                    self._memory(tensor) if slot.expert is None else self._fused(tensor, slot, skeleton)
                )
        self.model = skeleton.model
        self._take_tokenizer(plan)

    def _memory(self, plan: TensorPlan) -> torch.Tensor:
        """Return memory that holds the planned tensor: a parent's own, or ours after writing it."""
        if plan.copied:
            return self._copied(plan)
        memory = self._allocate(plan.name, plan.shape, plan.dtype)
        self._build(plan, memory)
        return memory

    def _fused(self, plan: TensorPlan, slot: Slot, skeleton: Skeleton) -> torch.Tensor:
        """Write a tensor into its part of a parameter that holds several, and return the whole."""
        memory = self._allocate(slot.parameter, tuple(skeleton.shape(slot.parameter)), plan.dtype)
        self._build(plan, slot.part(memory))
        return memory

    def _allocate(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return memory of ours for a parameter; what it holds stays unless its shape changed."""
        key = (name, dtype)
        memory = self._own.get(key)
        if memory is None or memory.shape != shape:
            memory = self._own[key] = torch.empty(shape, dtype=dtype, device=self.device)
        return memory

    def _build(self, plan: TensorPlan, memory: torch.Tensor) -> None:
        """Write a planned tensor, unless the memory holds it already."""
        key = (plan.name, plan.dtype)
        if self._made.get(key) != (plan, memory.data_ptr()):
            self._made.pop(key, None)  # a failure half-way leaves nothing that could be taken for finished
            self._builder.build(plan, memory)
            self._made[key] = (plan, memory.data_ptr())

    def _copied(self, plan: TensorPlan) -> torch.Tensor:
        """Return a parent's own tensor; it is searched for NaN the first time it is used."""
        tensor = self._builder.source(plan.models[0])
        if plan.models[0] not in self._sound:
            self._builder.check(plan, tensor)
            self._sound.add(plan.models[0])
        return tensor

    def _skeleton(self, plan: Plan) -> Skeleton:
        """Return a model object of the plan's config, one for each config that was seen."""
        key = json.dumps([plan.config, str(plan.dtype)], sort_keys=True)
        if key not in self._skeletons:
            self._skeletons[key] = Skeleton(plan, self.device)
        return self._skeletons[key]

    def _take_tokenizer(self, plan: Plan) -> None:
        files = vocabulary(plan.recipe, self.parents).tokenizer
        if self._tokenizer_of != (files, plan.recipe.chat_template):
            self.tokenizer = files.load()
            template = template_of(plan.recipe, self.parents)
            if template is not None:
                self.tokenizer.chat_template = template
            self._tokenizer_of = (files, plan.recipe.chat_template)
