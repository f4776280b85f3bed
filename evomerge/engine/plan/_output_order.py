"""Lists the tensors of the result in its order: those before the blocks, of each block, and after them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from evomerge import methods
from evomerge.checkpoint import (
    SHIFTED_NORM_FAMILIES,
    Model,
    Parents,
    is_block_output,
    is_tied_copy,
)
from evomerge.recipe import (
    ModelRef,
    Recipe,
    Slice,
    Source,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTensor:
    """One tensor of the result, and where its inputs are.

    Attributes:
        name: in the result.
        part: the slice that it belongs to.
        inputs: each source of the slice and what it calls this tensor.
        base: the base and what it calls this tensor, if the method has one.
        t: depth in the slice, 0 to 1.
        gain: factor on the tensor.
    """

    name: str
    part: Slice
    inputs: tuple[tuple[Source, str], ...]
    base: tuple[ModelRef, str] | None
    t: float
    gain: float


class OutputOrder:
    """The order of a result.

    Attributes:
        recipe: what is planned.
        parents: its opened models.
        problems: of depth and gains; while there are any, `layers` and `tensors` make no sense.
        tied: whether the result's head is its embedding.
    """

    def __init__(self, recipe: Recipe, parents: Parents):
        self.recipe, self.parents = recipe, parents
        self.problems: list[str] = []
        self.tied = all(parents[ref].tied for ref in recipe.merged)
        self._has_base = methods.get(recipe.method).base != "input"
        self._config_source = parents[recipe.config_source]
        self._ranges = [self._layer_ranges(part) for part in recipe.slices]
        self._check_depth()
        self._check_gains()

    def _layer_ranges(self, part: Slice) -> list[tuple[int, int]]:
        """Return the block range, (first, end), of each source of a slice."""
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
        depths = [(source.model, end - start) for source, (start, end) in zip(part.sources, ranges, strict=True)]
        base = self._base(part)
        if base is not None and part.sources[0].layers is None:
            depths.append((base, self.parents[base].layout.num_layers))
        if len({depth for _, depth in depths}) > 1 and not self.problems:
            found = ", ".join(f"{model} {depth}" for model, depth in depths)
            self.problems.append(f"the models differ in their number of layers ({found}); give slices with layer_range")
        return ranges

    def _check_depth(self) -> None:
        ranged = any(source.layers is not None for part in self.recipe.slices for source in part.sources)
        if ranged and not self.problems and not any(True for _ in self.layers()):
            self.problems.append("slices: hold no layer at all; a model needs at least one")

    def _check_gains(self) -> None:
        gains, family = self.recipe.gains, self._config_source.model_type
        if gains is None:
            return
        depth = len(list(self.layers()))
        if len(gains) != depth:
            self.problems.append(f"evomerge.gains: found {len(gains)} values, expected one for each of {depth} layers")
        if family in SHIFTED_NORM_FAMILIES:
            self.problems.append(f"evomerge.gains cannot be applied to {family}: its norms add 1 to the stored weight")
        if self._config_source.text_config.get("do_layer_norm_before") is False:
            self.problems.append(
                f"evomerge.gains cannot be applied to this {family}: it normalizes the residual stream"
            )

    def layers(self) -> Iterator[tuple[ModelRef, int]]:
        """Yield, for each block of the result, the first source's model and the block there that it stands for."""
        for part, ranges in zip(self.recipe.slices, self._ranges, strict=True):
            start, end = ranges[0]
            for index in range(start, end):
                yield part.sources[0].model, index

    def tensors(self) -> Iterator[OutputTensor]:
        """Yield the tensors before the blocks (from the first slice), of the blocks, and after them (from the last)."""
        first, last = self.recipe.slices[0], self.recipe.slices[-1]
        yield from self._non_block(first, "before")
        layer = 0
        for part, ranges in zip(self.recipe.slices, self._ranges, strict=True):
            start, end = ranges[0]
            for offset in range(end - start):
                t = 1.0 if end - start == 1 else offset / (end - start - 1)
                yield from self._block(part, [begin + offset for begin, _ in ranges], layer, t)
                layer += 1
        yield from self._non_block(last, "after")

    def _non_block(self, part: Slice, where: Literal["before", "after"]) -> Iterator[OutputTensor]:
        """Yield the tensors before or after all blocks."""
        base = self._base(part)
        for name in self._non_block_names(self._participants(part), where):
            if self.tied and is_tied_copy(name):
                continue
            yield OutputTensor(
                name=self._config_source.local_name(name) or name,
                part=part,
                inputs=tuple((source, name) for source in part.sources),
                base=None if base is None else (base, name),
                t=self._config_source.layout.depth(name),
                gain=1.0,
            )

    def _non_block_names(self, models: Sequence[Model], where: Literal["before", "after"]) -> list[str]:
        """Return the names of the first model, then what others have beyond them under no other spelling."""
        names: list[str] = []
        for model in models:
            own = model.outline.before if where == "before" else model.outline.after
            for name in own:
                if name not in names and not any(model.local_name(known) == name for known in names):
                    names.append(name)
        return names

    def _block(self, part: Slice, indices: Sequence[int], layer: int, t: float) -> Iterator[OutputTensor]:
        """Yield the tensors of one block.

        Args:
            part: the block's slice.
            indices: the block in each source of the slice.
            layer: the block in the result.
            t: depth in the slice, 0 to 1.
        """
        lead, layout = self.parents[part.sources[0].model], self._config_source.layout
        base = self._base(part)
        numbered = list(zip(part.sources, indices, strict=True))
        base_index = next((i for source, i in numbered if source.model == base), indices[0])
        outlines = [(self.parents[source.model], i) for source, i in numbered]
        outlines += [] if base is None else [(self.parents[base], base_index)]
        suffixes = list(dict.fromkeys(s for model, i in outlines for s in model.outline.blocks.get(i, ())))
        gain = self.recipe.gains[layer] if self.recipe.gains else 1.0
        outputs = {s for s in suffixes if is_block_output(s, lead.model_type)}
        if gain != 1 and not outputs:
            self.problems.append(f"evomerge.gains: no output projection is known for a block of {lead.model_type}")
        for suffix in suffixes:
            yield OutputTensor(
                name=layout.name(layer, suffix),
                part=part,
                inputs=tuple((s, self.parents[s.model].layout.name(i, suffix)) for s, i in numbered),
                base=None if base is None else (base, self.parents[base].layout.name(base_index, suffix)),
                t=t,
                gain=gain if suffix in outputs else 1.0,
            )

    def _participants(self, part: Slice) -> list[Model]:
        """Return the models whose tensors a slice is made of, the base first: its names lead."""
        base = self._base(part)
        refs = [*([base] if base else []), *(source.model for source in part.sources)]
        return [self.parents[ref] for ref in dict.fromkeys(refs)]

    def _base(self, part: Slice) -> ModelRef | None:
        return (part.base or self.recipe.base) if self._has_base else None
