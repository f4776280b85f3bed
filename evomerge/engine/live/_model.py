"""The live sink: a plan overwrites a resident transformers model in place."""

import copy
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch

from evomerge.checkpoint import ParameterPart, Parents, Tokenizer, generation_settings
from evomerge.engine._build import Builder
from evomerge.engine._plan_records import Origin, Plan, TensorPlan
from evomerge.engine._residency import (
    MemoryShare,
    Residency,
    Tier,
    free_memory,
    tier_of,
    visible_devices,
)
from evomerge.engine._statistics_cache import StatisticsCache
from evomerge.engine._tokenizer import template_of, vocabulary
from evomerge.engine.live._skeleton import Skeleton
from evomerge.methods import StatisticsLocked

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")

# Model objects kept, of more depths, or more orders of unlike layers, than searches visit often; and tokenizers.
MAX_KEPT = 32
_ROW_MAJOR = torch.contiguous_format
ACTIVATION_SHARE = 0.5  # of the main memory that is free for this process, that activations may take
PREFETCH_BYTES = 256 << 20  # of coming tensors that are prepared while one is merged


class _BuildTask(NamedTuple):
    """A tensor to build, and the memory that it is written into."""

    plan: TensorPlan
    memory: torch.Tensor


class LiveModel:
    """A model that becomes one candidate after another.

    Its parameters point either at memory of its own, which `apply` overwrites, or, for tensors that a plan takes from
    a parent unchanged, straight at the parent's: such a candidate, and every unscaled block of a layer stack, costs no
    copy at all. Tensors whose plan did not change since the last candidate are left alone.

    Attributes:
        parents: the opened models.
        devices: what the model's blocks are spread over.
        tier: where the parents' weights are.
        model: the transformers model of the last plan, None before the first; another object where the config
            changes, such as its depth.
        tokenizer: the tokenizer of the last plan; the same object whenever its files are the same.
    """

    def __init__(
        self,
        parents: Parents,
        *,
        device: str = "cpu",
        devices: Sequence[torch.device | str] | None = None,
        cache: Path | None = None,
        share: MemoryShare | None = None,
        row_bytes: int = 0,
    ):
        """Choose devices and tier; nothing is read yet.

        Args:
            parents: the opened models.
            device: "cuda" = as many of the GPUs that this process sees as it takes.
            devices: these, whatever `device` says; the model's blocks are spread over them.
            cache: folder that keeps statistics.
            share: of the machine's memory that is this process's; None = all.
            row_bytes: that the parents' rows may take on the vocabulary of the candidates, where that is another one;
                they are kept from one candidate to the next (0 = gathered for each).

        Raises:
            InvalidInput: there is no such device here.
        """
        self.parents = parents
        chosen = devices or visible_devices(parents, device, share, row_bytes)
        self.devices = [torch.empty(0, device=name).device for name in chosen]
        self.tier: Tier = tier_of(parents, self.devices, share, row_bytes)
        self.model: PreTrainedModel = None
        self.tokenizer: PreTrainedTokenizerBase = None
        self._share = share or MemoryShare()
        self._cache = None if cache is None else StatisticsCache(cache)
        self._builders = {device: self._builder(device, row_bytes) for device in self.devices}
        self._skeletons: dict[str, Skeleton] = {}
        self._memory: dict[tuple[str, torch.dtype], torch.Tensor] = {}  # by parameter
        self._built: dict[tuple[str, torch.dtype], tuple[TensorPlan, int]] = {}  # plan and address, by tensor
        self._finite: set[Origin] = set()  # parents' tensors that were checked
        self._tokenizers: dict[tuple[Tokenizer, str | None], PreTrainedTokenizerBase] = {}  # and by chat template
        self._settings: dict[tuple[str, Path], GenerationConfig] = {}  # by config and the folder of the tokenizer
        self._parts: Mapping[str, ParameterPart | None] = {}
        self._reversed = False

    def _builder(self, device: torch.device, row_bytes: int) -> Builder:
        return Builder(
            self.parents,
            keep_statistics=True,
            device=device,
            residency=Residency(self.tier, device),
            cache=self._cache,
            row_bytes=row_bytes,
        )

    @property
    def device(self) -> torch.device:
        """Where the model takes its inputs."""
        return self.devices[0]

    @property
    def activation_limit_bytes(self) -> int | None:
        """Bytes that the activations of a backward pass may take; None where the device itself says what is too much.

        Where several processes work side by side, each may take its share of what is free.
        """
        if self.device.type != "cpu":
            return None
        return int(ACTIVATION_SHARE * self._share.host * free_memory(self.device, self._share).host)

    @property
    def statistics_folder(self) -> Path | None:
        """The folder that keeps statistics, if there is one."""
        return None if self._cache is None else self._cache.folder

    def apply(self, plan: Plan) -> None:
        """Turn the live model into the merge that `plan` describes.

        Raises:
            DegenerateModel: a tensor is not finite.
            MergeFailed: tensors do not fit the model's class, or a method has no result for its settings.
        """
        skeleton = self._skeleton(plan)
        self._parts = skeleton.locate(plan)
        tasks: list[_BuildTask] = []
        with torch.inference_mode(False), torch.no_grad():
            for tensor in plan.tensors:
                part = self._parts[tensor.name]
                if part is None:
                    continue
                parameter = skeleton.parameters[part.parameter]
                parameter.data = self._target(tensor, part, skeleton, tasks)
            self._build_all(tasks)
        self.model = skeleton.model
        self._take_tokenizer(plan)

    def describe(self, plan: Plan) -> None:
        """Take the config, tokenizer and generation settings of a plan, and no weights: another engine holds those.

        Raises:
            MergeFailed: tensors do not fit the model's class.
        """
        skeleton = self._skeleton(plan)
        skeleton.locate(plan)
        self.model = skeleton.model
        self._take_tokenizer(plan)

    def release(self) -> None:
        """Free the weights of the live model; the parents stay as they are."""
        for skeleton in self._skeletons.values():
            for parameter in skeleton.parameters.values():
                parameter.data = parameter.data.new_empty(0)
        self._memory.clear()
        self._built.clear()
        self._parts = {}

    def tensors(self, plan: Plan) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the merge's tensors by name, each in memory of its own that nobody keeps: the parents' own for copies.

        Raises:
            DegenerateModel: a tensor is not finite.
            MergeFailed: a method has no result for its settings.
        """
        device = self.device
        builder = self._builders[device]
        for tensor in plan.tensors:
            if tensor.copied and self._is_kept(tensor.models[0], device):
                yield tensor.name, self._copied(tensor, device)
                continue
            memory = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
            if self._cache is not None:
                self._cache.waits = True
            with torch.inference_mode(False), torch.no_grad():
                builder.build(tensor, memory)
            yield tensor.name, memory
        builder.finish()

    def part(self, name: str) -> ParameterPart | None:
        """Return which parameter, or part of one, holds the tensor of this name; None = the model reads no such one."""
        return self._parts[name]

    def builder(self, device: torch.device) -> Builder:
        """Return what builds the tensors on one of the model's devices."""
        return self._builders[device]

    def tensor(self, name: str) -> torch.Tensor:
        """Return the live tensor that a checkpoint file would hold under this name; the model must read it."""
        part = self._parts[name]
        assert part is not None
        return part.view(self.model.get_parameter_or_buffer(part.parameter).data)

    def _target(
        self, plan: TensorPlan, part: ParameterPart, skeleton: Skeleton, tasks: list[_BuildTask]
    ) -> torch.Tensor:
        """Return a parameter's memory: a parent's or an own one; add to `tasks` what is to be written there."""
        device = skeleton.devices[part.parameter]
        if plan.copied and not part.steps and self._is_kept(plan.models[0], device):
            return self._copied(plan, device)
        whole = self._allocate(part.parameter, skeleton.shape(part.parameter), plan.dtype, device)
        memory = part.view(whole)
        if self._built.get((plan.name, plan.dtype)) != (plan, memory.data_ptr()):
            tasks.append(_BuildTask(plan, memory))
        return whole

    def _allocate(self, name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Return memory of the live model for a parameter; what it holds stays unless its shape changed."""
        memory = self._memory.get((name, dtype))
        if memory is None or memory.shape != shape or memory.device != device:
            memory = self._memory[name, dtype] = torch.empty(shape, dtype=dtype, device=device)
        return memory

    def _build_all(self, tasks: list[_BuildTask]) -> None:
        """Write tensors; those whose statistics another process is computing come last."""
        if self.tier == "streamed" and self._reversed:
            tasks.reverse()  # what was read last is still in memory
        self._reversed = not self._reversed
        for plan, _ in tasks:  # a failure half-way leaves nothing that could be taken for finished
            self._built.pop((plan.name, plan.dtype), None)
        for builder in self._builders.values():
            builder.discard_checks()
        left = tasks
        for waits in (False, True):
            if self._cache is not None:
                self._cache.waits = waits
            left = [task for task in self._prefetching(left) if not self._build(task)]
        for builder in self._builders.values():
            builder.finish()
        self._built |= {(plan.name, plan.dtype): (plan, memory.data_ptr()) for plan, memory in tasks}

    def _build(self, task: _BuildTask) -> bool:
        """Write a tensor; return whether that was done, or has to wait."""
        memory = task.memory if task.memory.is_contiguous() else torch.empty_like(task.memory, memory_format=_ROW_MAJOR)
        try:
            self._builders[task.memory.device].build(task.plan, memory)
        except StatisticsLocked:
            return False
        if memory is not task.memory:  # a part of a parameter that the model holds transposed
            task.memory.copy_(memory)
        return True

    def _prefetching(self, tasks: list[_BuildTask]) -> Iterator[_BuildTask]:
        """Yield all tasks, the coming tensors prepared: at least one, and up to PREFETCH_BYTES of results."""
        if self.tier in ("device", "mapped"):
            yield from tasks
            return
        requested = pending = 0
        for number, task in enumerate(tasks):
            pending -= task.plan.info.size_bytes if number < requested else 0
            requested = max(requested, number + 1)
            while requested < len(tasks) and (requested == number + 1 or pending < PREFETCH_BYTES):
                coming = tasks[requested]
                self._builders[coming.memory.device].prefetch(coming.plan)
                pending += coming.plan.info.size_bytes
                requested += 1
            yield task

    def _is_kept(self, origin: Origin, device: torch.device) -> bool:
        """Tell whether a parent's tensor is on a device for good."""
        return self._builders[device].residency.keeps and not self.parents[origin.model].is_computed(origin.tensor)

    def _copied(self, plan: TensorPlan, device: torch.device) -> torch.Tensor:
        """Return a parent's own tensor; it is searched for NaN the first time it is used."""
        tensor = self._builders[device].source(plan.models[0])
        if plan.models[0] not in self._finite:
            self._builders[device].check(plan, tensor)
            self._finite.add(plan.models[0])
        return tensor

    def _skeleton(self, plan: Plan) -> Skeleton:
        """Return a model object of the plan's config; those of the last configs are kept."""
        key = json.dumps([plan.config, str(plan.dtype)], sort_keys=True)
        return _latest(self._skeletons, key, lambda: Skeleton(plan, self.devices))

    def _take_tokenizer(self, plan: Plan) -> None:
        """Load the tokenizer of a plan and how its model generates; those of the last plans are kept."""
        files, template = vocabulary(plan.recipe, self.parents).tokenizer, template_of(plan.recipe, self.parents)

        def load() -> "PreTrainedTokenizerBase":
            tokenizer: PreTrainedTokenizerBase = files.load()
            if template is not None:
                tokenizer.chat_template = template
            return tokenizer

        self.tokenizer = _latest(self._tokenizers, (files, template), load)
        key = (json.dumps(plan.config, sort_keys=True), files.folder)
        settings = _latest(self._settings, key, lambda: generation_settings(plan.config, files.folder))
        if self.model.can_generate():
            self.model.generation_config = copy.deepcopy(settings)  # a scorer may change what it is given


def _latest(kept: dict[Key, Made], key: Key, make: Callable[[], Made]) -> Made:
    """Return what is kept under a key, made if it is not there; the last MAX_KEPT that were used stay.

    Args:
        kept: changed in place; the latest is at the end.
        key: of what is wanted.
        make: makes it.
    """
    found = kept.pop(key) if key in kept else make()
    kept[key] = found
    if len(kept) > MAX_KEPT:
        del kept[next(iter(kept))]
    return found
