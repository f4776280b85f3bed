"""The live sink: a plan overwrites a resident transformers model in place."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoint import Parents
from evomerge.engine._build import Builder
from evomerge.engine._statistics_cache import StatisticsCache
from evomerge.engine._tokenizer import template_of, vocabulary
from evomerge.engine.live._parameter_map import Slot
from evomerge.engine.live._residency import (
    MemoryShare,
    Residency,
    Tier,
    tier_of,
    visible,
)
from evomerge.engine.live._skeleton import Skeleton
from evomerge.engine.plan._records import Origin, Plan, TensorPlan
from evomerge.methods import StatisticsLocked

SKELETONS = (
    32  # model objects that are kept: of more depths, or more orders of unlike layers, than searches visit often
)
AHEAD_BYTES = 256 << 20  # of coming tensors that are prepared while one is merged

Task = tuple[TensorPlan, torch.Tensor]  # what to build, and where


class LiveModel:
    """A model that becomes one candidate after another.

    Its parameters point either at memory of its own, which `apply` overwrites, or, for tensors that a plan takes from
    a parent unchanged, straight at the parent's: such a candidate, and every unscaled block of a layer stack, costs no
    copy at all. Tensors whose plan did not change since the last candidate are left alone.

    `model` may be another object after `apply` when the depth changes; `tokenizer` stays the same. `tier` says where
    the parents' weights are.
    """

    def __init__(
        self,
        parents: Parents,
        *,
        device: str = "cpu",
        devices: Sequence[torch.device | str] | None = None,
        cache: Path | None = None,
        share: MemoryShare | None = None,
    ):
        """Choose devices and tier; nothing is read yet.

        Args:
            device: "cuda" = as many of the GPUs that this process sees as it takes. devices: these, whatever `device`
                says; the model's blocks are spread over them. cache: folder that keeps statistics. share: of the
                machine's memory that is this process's.
        """
        self.parents = parents
        self.devices = [torch.empty(0, device=each).device for each in devices or visible(parents, device, share)]
        self.tier: Tier = tier_of(parents, self.devices, share)
        self.model: Any = None
        self.tokenizer: Any = None
        self._store = None if cache is None else StatisticsCache(cache)
        self._builders = {each: self._builder(each) for each in self.devices}
        self._skeletons: dict[str, Skeleton] = {}
        self._own: dict[tuple[str, torch.dtype], torch.Tensor] = {}
        self._made: dict[tuple[str, torch.dtype], tuple[TensorPlan, int]] = {}  # plan and address
        self._sound: set[Origin] = set()  # parents' tensors that were looked at and are finite
        self._tokenizer_of: Any = None
        self._slots: dict[str, Slot] = {}
        self._forth = True

    def _builder(self, device: torch.device) -> Builder:
        residence = Residency(self.tier, device)
        return Builder(self.parents, keep_statistics=True, device=device, residence=residence, store=self._store)

    @property
    def device(self) -> torch.device:
        """Where the model takes its inputs."""
        return self.devices[0]

    @property
    def remedy(self) -> str:
        """What a user can do about statistics that are wrong, as the end of a sentence."""
        return f"; delete {self._store.folder} and start again" if self._store else ""

    def apply(self, plan: Plan) -> None:
        """Turn the live model into the merge that `plan` describes.

        Raises:
            DegenerateModel: a tensor is not finite. MergeFailed: tensors do not fit the model's class.
        """
        skeleton = self._skeleton(plan)
        self._slots = skeleton.slots(plan)
        work: list[Task] = []
        with torch.inference_mode(False), torch.no_grad():
            for tensor in plan.tensors:
                slot = self._slots[tensor.name]
                parameter = skeleton.parameters[slot.parameter]
                parameter.data = self._place(tensor, slot, skeleton, work)
            self._build_all(work)
        self.model = skeleton.model
        self._take_tokenizer(plan)

    def tensor(self, name: str) -> torch.Tensor:
        """Return the live tensor that a checkpoint file would hold under this name."""
        slot = self._slots[name]
        whole = self.model.get_parameter_or_buffer(slot.parameter).data
        return whole if slot.expert is None else slot.part(whole)

    def _place(self, plan: TensorPlan, slot: Slot, skeleton: Skeleton, work: list[Task]) -> torch.Tensor:
        """Return the memory for a parameter: a parent's own, or ours; note in `work` what has to be written there."""
        device = skeleton.devices[slot.parameter]
        if plan.copied and slot.expert is None and self._is_kept(plan.models[0], device):
            return self._copied(plan, device)
        whole = self._allocate(slot.parameter, skeleton.shape(slot.parameter), plan.dtype, device)
        part = whole if slot.expert is None else slot.part(whole)
        if self._made.get((plan.name, plan.dtype)) != (plan, part.data_ptr()):
            work.append((plan, part))
        return whole

    def _allocate(self, name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Return memory of ours for a parameter; what it holds stays unless its shape changed."""
        memory = self._own.get((name, dtype))
        if memory is None or memory.shape != shape or memory.device != device:
            memory = self._own[name, dtype] = torch.empty(shape, dtype=dtype, device=device)
        return memory

    def _build_all(self, work: list[Task]) -> None:
        """Write tensors; those whose statistics another process is working out come last."""
        if self.tier == "streamed" and not self._forth:
            work.reverse()  # what was read last is still in memory
        self._forth = not self._forth
        for plan, _ in work:  # a failure half-way leaves nothing that could be taken for finished
            self._made.pop((plan.name, plan.dtype), None)
        for builder in self._builders.values():
            builder.forget()
        left = work
        for patient in (False, True):
            if self._store is not None:
                self._store.patient = patient
            left = [task for task in self._looking_ahead(left) if not self._build(*task)]
        for builder in self._builders.values():
            builder.finish()
        self._made |= {(plan.name, plan.dtype): (plan, memory.data_ptr()) for plan, memory in work}

    def _build(self, plan: TensorPlan, memory: torch.Tensor) -> bool:
        """Write a tensor; return whether that was done, or has to wait."""
        try:
            self._builders[memory.device].build(plan, memory)
        except StatisticsLocked:
            return False
        return True

    def _looking_ahead(self, work: list[Task]) -> Iterator[Task]:
        """Yield all of `work`, the coming tensors prepared: at least one, and up to AHEAD_BYTES of results."""
        if self.tier in ("device", "mapped"):
            yield from work
            return
        asked = pending = 0
        for number, (plan, memory) in enumerate(work):
            pending -= plan.info.size_bytes if number < asked else 0
            asked = max(asked, number + 1)
            while asked < len(work) and (asked == number + 1 or pending < AHEAD_BYTES):
                coming, place = work[asked]
                self._builders[place.device].ahead(coming)
                pending += coming.info.size_bytes
                asked += 1
            yield plan, memory

    def _is_kept(self, origin: Origin, device: torch.device) -> bool:
        """Tell whether a parent's tensor is on a device for good."""
        return self._builders[device].residence.keeps and not self.parents[origin.model].is_computed(origin.tensor)

    def _copied(self, plan: TensorPlan, device: torch.device) -> torch.Tensor:
        """Return a parent's own tensor; it is searched for NaN the first time it is used."""
        tensor = self._builders[device].source(plan.models[0])
        if plan.models[0] not in self._sound:
            self._builders[device].check(plan, tensor)
            self._sound.add(plan.models[0])
        return tensor

    def _skeleton(self, plan: Plan) -> Skeleton:
        """Return a model object of the plan's config; those of the last configs are kept."""
        key = json.dumps([plan.config, str(plan.dtype)], sort_keys=True)
        skeleton = self._skeletons.pop(key, None) or Skeleton(plan, self.devices)
        self._skeletons[key] = skeleton  # at the end: the latest
        if len(self._skeletons) > SKELETONS:
            del self._skeletons[next(iter(self._skeletons))]
        return skeleton

    def _take_tokenizer(self, plan: Plan) -> None:
        files = vocabulary(plan.recipe, self.parents).tokenizer
        if self._tokenizer_of != (files, plan.recipe.chat_template):
            self.tokenizer = files.load()
            template = template_of(plan.recipe, self.parents)
            if template is not None:
                self.tokenizer.chat_template = template
            self._tokenizer_of = (files, plan.recipe.chat_template)
