"""From a recipe and its opened parents to a list of tensors to build. No tensor is read here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evomerge import methods
from evomerge.checkpoint import (
    SHIFTED_NORM_FAMILIES,
    Parents,
    TensorInfo,
    is_block_output,
    merged_config,
)
from evomerge.errors import MergeFailed
from evomerge.methods import Method, Settings, Value
from evomerge.recipe import ModelRef, Recipe, Slice, Source, lookup

SHOWN = 5  # problems that one message lists


@dataclass(frozen=True, slots=True)
class Origin:
    """A tensor of a parent."""

    model: ModelRef
    tensor: str

    def __str__(self) -> str:
        return f"{self.model}: {self.tensor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlan:
    """How one tensor of the result is made. Equal plans make equal bytes.

    gain: factor on the result. seed: of random masks.
    """

    name: str
    method: str
    models: tuple[Origin, ...]
    base: Origin | None
    settings: Settings
    dtype: torch.dtype
    shape: tuple[int, ...]
    gain: float = 1.0
    seed: int = 0
    copied: bool = False

    @property
    def info(self) -> TensorInfo:
        """Dtype and shape of the result."""
        return TensorInfo(self.dtype, self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything about a merge but the arithmetic.

    tensors: in the order in which they are written. layers: for each block of the result, the model and block there
    that it stands for (of its first source). notes: what the user should know of settings that have no effect.
    """

    recipe: Recipe
    tensors: tuple[TensorPlan, ...]
    layers: tuple[tuple[ModelRef, int], ...]
    dtype: torch.dtype
    config: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the result's tensors."""
        return sum(tensor.info.size_bytes for tensor in self.tensors)


def make_plan(recipe: Recipe, parents: Parents) -> Plan:
    """Resolve a recipe against its parents.

    Raises:
        MergeFailed: tensors missing or of different shapes, layers out of range, parameters without a value, things
            that cannot be merged; the first few problems in one message.
    """
    planner = _Planner(recipe, parents)
    tensors = tuple(planner.tensors())
    if planner.problems:
        more = len(planner.problems) - SHOWN
        tail = [f"and {more} more like these"] if more > 0 else []
        raise MergeFailed("\n".join([*planner.problems[:SHOWN], *tail]))
    sizes: dict[torch.dtype, int] = {}
    for tensor in tensors:
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.info.size_bytes
    dtype = max(sizes, key=lambda each: sizes[each])
    layers = tuple(planner.layers())
    config = merged_config(parents[recipe.donor], [(parents[ref], index) for ref, index in layers], dtype)
    return Plan(recipe=recipe, tensors=tensors, layers=layers, dtype=dtype, config=config, notes=tuple(_notes(recipe)))


def _notes(recipe: Recipe) -> Iterator[str]:
    """Yield a line for each parameter the recipe sets that changes no number."""
    method = methods.get(recipe.method)
    given: set[str] = set(recipe.parameters)
    for part in recipe.slices:
        given |= set(part.parameters)
        for source in part.sources:
            given |= set(source.parameters)
    for parameter in method.parameters:
        if not parameter.effect and parameter.name in given:
            yield f"{parameter.name} is accepted but has no effect with {method.name} ({parameter.doc})"


class _Planner:
    """Walks slices and layers in the order of the result, collecting problems instead of stopping at the first."""

    def __init__(self, recipe: Recipe, parents: Parents):
        self.recipe, self.parents = recipe, parents
        self.method: Method = methods.get(recipe.method)
        self.problems: list[str] = []
        dtype = recipe.out_dtype or recipe.dtype
        self.dtype: torch.dtype | None = getattr(torch, dtype) if dtype else None
        self._ranges = [self._layer_ranges(part) for part in recipe.slices]
        self._check_depth()
        self._check_gains()

    def _layer_ranges(self, part: Slice) -> list[tuple[int, int]]:
        """Return the block range of each source of a slice."""
        ranges = []
        for source in part.sources:
            available = self.parents[source.model].layout.num_layers
            start, end = source.layers if source.layers is not None else (0, available)
            if end > available:
                self.problems.append(
                    f"{source.model} has {available} layers, layer_range [{start}, {end}] asks for more"
                )
                end = max(start, available)
            ranges.append((start, end))
        if len({end - start for start, end in ranges}) > 1 and not self.problems:
            found = ", ".join(f"{s.model} {e - b}" for s, (b, e) in zip(part.sources, ranges, strict=True))
            self.problems.append(f"the models differ in their number of layers ({found}); give slices with layer_range")
        return ranges

    def _check_depth(self) -> None:
        ranged = any(source.layers is not None for part in self.recipe.slices for source in part.sources)
        if ranged and not self.problems and not any(True for _ in self.layers()):
            self.problems.append("the slices hold no layer at all; a model needs at least one")

    def _check_gains(self) -> None:
        gains, family = self.recipe.gains, self.parents[self.recipe.donor].model_type
        if gains is None:
            return
        depth = len(list(self.layers()))
        if len(gains) != depth:
            self.problems.append(f"evomerge.gains has {len(gains)} values, expected one for each of {depth} layers")
        if family in SHIFTED_NORM_FAMILIES:
            self.problems.append(f"evomerge.gains cannot be applied to {family}: its norms add 1 to the stored weight")

    def layers(self) -> Iterator[tuple[ModelRef, int]]:
        """Yield the (first source's model, block) behind each block of the result."""
        for part, ranges in zip(self.recipe.slices, self._ranges, strict=True):
            start, end = ranges[0]
            for index in range(start, end):
                yield part.sources[0].model, index

    def tensors(self) -> Iterator[TensorPlan]:
        """Yield plans for the tensors before the blocks (from the first slice), of the blocks, and after (the last)."""
        first, last = self.recipe.slices[0], self.recipe.slices[-1]
        yield from self._loose(first, "before")
        layer = 0
        for part, ranges in zip(self.recipe.slices, self._ranges, strict=True):
            if self.problems:
                return
            start, end = ranges[0]
            for offset in range(end - start):
                t = 1.0 if end - start == 1 else offset / (end - start - 1)
                yield from self._block(part, [begin + offset for begin, _ in ranges], layer, t)
                layer += 1
        yield from self._loose(last, "after")

    def _loose(self, part: Slice, where: str) -> Iterator[TensorPlan]:
        lead = self.parents[self._lead(part)]
        for name in lead.tensors:
            if lead.layout.place(name).part == where:
                names = [name] * len(part.sources)
                yield from self._tensor(part, name, names, name, 0.0, 1.0)

    def _block(self, part: Slice, indices: Sequence[int], layer: int, t: float) -> Iterator[TensorPlan]:
        lead = self.parents[part.sources[0].model]
        out = self.parents[self.recipe.donor].layout
        suffixes = [
            lead.layout.place(n).suffix for n in lead.tensors if lead.layout.place(n)[:2] == ("block", indices[0])
        ]
        gain = self.recipe.gains[layer] if self.recipe.gains else 1.0
        outputs = [s for s in suffixes if is_block_output(s, lead.model_type)]
        if gain != 1 and not outputs:
            self.problems.append(f"evomerge.gains: no output projection is known for a block of {lead.model_type}")
        for suffix in suffixes:
            names = [
                self.parents[source.model].layout.name(index, suffix)
                for source, index in zip(part.sources, indices, strict=True)
            ]
            base = self._base(part)
            base_name = ""
            if base is not None:
                listed = [i for s, i in zip(part.sources, indices, strict=True) if s.model == base]
                base_name = self.parents[base].layout.name(listed[0] if listed else indices[0], suffix)
            own = gain if suffix in outputs else 1.0
            yield from self._tensor(part, out.name(layer, suffix), names, base_name, t, own)

    def _lead(self, part: Slice) -> ModelRef:
        """The model whose tensor names lead: the base where the method has one, else the first source."""
        return self._base(part) or part.sources[0].model

    def _base(self, part: Slice) -> ModelRef | None:
        return None if self.method.base == "input" else part.base or self.recipe.base

    def _tensor(
        self, part: Slice, name: str, names: Sequence[str], base_name: str, t: float, gain: float
    ) -> Iterator[TensorPlan]:
        """Yield the plan of one tensor, or nothing after noting a problem."""
        base = self._base(part)
        pairs = [(s, n) for s, n in zip(part.sources, names, strict=True) if base is None or s.model != base]
        models = tuple(Origin(source.model, tensor) for source, tensor in pairs)
        origin = None if base is None else Origin(base, base_name)
        infos = self._infos([*([origin] if origin else []), *models])
        if infos is None:
            return
        if not infos[0].dtype.is_floating_point:
            yield self._plain_copy(name, models[0], infos[0])
            return
        settings = self._settings(part, [source for source, _ in pairs], [n for _, n in pairs], name, t)
        if settings is None:
            return
        dtype = self.dtype or _promoted(infos)
        copied = (
            self.method.name == "passthrough"
            and settings.each("scale") == [1.0]
            and gain == 1
            and infos[0].dtype == dtype
        )
        yield TensorPlan(
            name=name,
            method=self.method.name,
            models=models,
            base=origin,
            settings=settings,
            dtype=dtype,
            shape=infos[0].shape,
            gain=gain,
            seed=self.recipe.seed,
            copied=copied,
        )

    def _plain_copy(self, name: str, origin: Origin, info: TensorInfo) -> TensorPlan:
        """Integer buffers are copied from the first model."""
        return TensorPlan(
            name=name,
            method="passthrough",
            models=(origin,),
            base=None,
            settings=Settings(),
            dtype=info.dtype,
            shape=info.shape,
            copied=True,
        )

    def _infos(self, origins: Sequence[Origin]) -> list[TensorInfo] | None:
        """Return what is known of each tensor, or None after noting that one is missing or of another shape."""
        infos = []
        for origin in origins:
            info = self.parents[origin.model].tensors.get(origin.tensor)
            if info is None:
                self.problems.append(f"{origin.model} has no tensor {origin.tensor}, which {origins[0].model} has")
                return None
            infos.append(info)
        for origin, info in zip(origins, infos, strict=True):
            if info.shape != infos[0].shape:
                self.problems.append(
                    f"{origin.tensor} is {_shape(info)} in {origin.model} but {_shape(infos[0])} in "
                    f"{origins[0].model}; only models of one architecture and vocabulary can be merged"
                )
                return None
        return infos

    def _settings(
        self, part: Slice, sources: Sequence[Source], names: Sequence[str], name: str, t: float
    ) -> Settings | None:
        """Resolve every parameter of one tensor: the most specific level that has a value wins, then the default."""
        shared: dict[str, Value] = {}
        each: list[dict[str, Value]] = [{} for _ in sources]
        outer = [part.parameters, self.recipe.parameters]
        for parameter in self.method.parameters:
            if parameter.per == "merge":
                value = lookup(outer, parameter.name, name, t)
                targets = [(shared, value, "")]
            else:
                targets = [
                    (mapping, lookup([source.parameters, *outer], parameter.name, tensor, t), f" of {source.model}")
                    for mapping, source, tensor in zip(each, sources, names, strict=True)
                ]
            for mapping, found, whose in targets:
                final = parameter.default if found is None else found
                if final is None:
                    self.problems.append(f"{parameter.name}{whose} has no value for {name}: no filter matches it")
                    return None
                mapping[parameter.name] = final if parameter.kind == "flag" else float(final)
        return Settings.of(shared, each)


def _promoted(infos: Sequence[TensorInfo]) -> torch.dtype:
    dtype = infos[0].dtype
    for info in infos[1:]:
        dtype = torch.promote_types(dtype, info.dtype)
    return dtype


def _shape(info: TensorInfo) -> str:
    return "x".join(str(extent) for extent in info.shape) or "a scalar"
