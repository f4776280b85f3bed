"""Lists the tensors of the result in its order: those before the blocks, of each block, and after them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evomerge import methods
from evomerge.checkpoint import (
    SHIFTED_NORM_FAMILIES,
    Layout,
    Model,
    Parents,
    is_block_output,
    is_tied_copy,
)
from evomerge.recipe import (
    TEXT_MODULE,
    WHOLE_MODEL,
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
        part: the slice that it belongs to; None = none: the model that gives the config keeps its own.
        inputs: each source of the slice and what it calls this tensor.
        base: the base and what it calls this tensor, if the method has one.
        t: depth in the slice, 0 to 1.
        gain: factor on the tensor.
    """

    name: str
    part: Slice | None
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
        self._has_base = any(methods.get(name).base != "input" for name in recipe.methods)
        self._config_source = parents[recipe.config_source]
        self._whole = WHOLE_MODEL in recipe.modules
        self._stack = recipe.modules.get(WHOLE_MODEL) or recipe.modules.get(TEXT_MODULE) or ()
        self._check_modules()
        self._ranges = [self._layer_ranges(part) for part in self._stack]
        self._check_depth()
        self._check_gains()

    def _check_modules(self) -> None:
        """Note modules that a model has no part for, and layer ranges where it is not known what they are of."""
        for name, slices in self.recipe.modules.items():
            models = [self._config_source, *(model for part in slices for model in self._participants(part))]
            for model in models if name != WHOLE_MODEL else ():
                known = dict.fromkeys(model.part_of(tensor) for tensor in model.tensors)
                if name not in known:
                    self.problems.append(f"modules: {model.name} has no part {name}; it has {', '.join(known)}")
        ranged = [source.model for part in self._stack for source in part.sources if source.layers is not None]
        for model in {ref: self.parents[ref] for ref in ranged}.values():
            if model.config.get("is_encoder_decoder"):
                self.problems.append(
                    f"{model.name} has an encoder and a decoder, so a layer_range is ambiguous; merge them whole, by "
                    "models:"
                )
            elif model.parts is None and model.unknown_parts is not None:
                self.problems.append(
                    f"{model.name} has several parts, and which blocks a layer_range means is not known: "
                    f"{model.unknown_parts}"
                )

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
        ranged = any(source.layers is not None for part in self._stack for source in part.sources)
        if ranged and not self.problems and not any(True for _ in self.layers()):
            self.problems.append("slices: hold no layer at all; a model needs at least one")

    def _check_gains(self) -> None:
        gains, family = self.recipe.gains, self._config_source.language_type
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

    @property
    def layout(self) -> Layout:
        """Which tensors of the result are in which block."""
        return replace(self._config_source.layout, num_layers=len(list(self.layers())))

    def layers(self) -> Iterator[tuple[ModelRef, int]]:
        """Yield, for each block of the result, the first source's model and the block there that it stands for."""
        for part, ranges in zip(self._stack, self._ranges, strict=True):
            start, end = ranges[0]
            for index in range(start, end):
                yield part.sources[0].model, index
        if not self._stack:
            for index in range(self._config_source.layout.num_layers):
                yield self.recipe.config_source, index

    def tensors(self) -> Iterator[OutputTensor]:
        """Yield the tensors before the blocks (from the first slice), of the blocks, and after them (from the last).

        Of a model of several parts, those of the other parts come first.
        """
        if not self._whole:
            yield from self._unnamed_parts()
            for name in self.recipe.modules:
                for part in self.recipe.modules[name] if name != TEXT_MODULE else ():
                    yield from self._non_block(part, "before", name)
                    yield from self._non_block(part, "after", name)
        if not self._stack:
            return
        first, last = self._stack[0], self._stack[-1]
        only = None if self._whole else TEXT_MODULE
        yield from self._non_block(first, "before", only)
        layer = 0
        for part, ranges in zip(self._stack, self._ranges, strict=True):
            start, end = ranges[0]
            for offset in range(end - start):
                t = 1.0 if end - start == 1 else offset / (end - start - 1)
                yield from self._block(part, [begin + offset for begin, _ in ranges], layer, t)
                layer += 1
        yield from self._non_block(last, "after", only)

    def _unnamed_parts(self) -> Iterator[OutputTensor]:
        """Yield the tensors of the parts that no module names, as the model that gives the config has them."""
        source, ref = self._config_source, self.recipe.config_source
        outline = source.outline
        blocks = (source.layout.name(i, suffix) for i, names in outline.blocks.items() for suffix in names)
        for name in (*outline.before, *blocks, *outline.after):
            if source.part_of(name) in self.recipe.modules or (self.tied and is_tied_copy(name)):
                continue
            inputs = ((Source(model=ref), name),)
            yield OutputTensor(name=name, part=None, inputs=inputs, base=None, t=0.0, gain=1.0)

    def _non_block(self, part: Slice, where: Literal["before", "after"], only: str | None) -> Iterator[OutputTensor]:
        """Yield the tensors before or after all blocks.

        Args:
            part: the slice that they belong to.
            where: which.
            only: the part of the model that they must belong to; None = any.
        """
        base = self._base(part)
        for name, owner in self._non_block_names(self._participants(part), where).items():
            if (self.tied and is_tied_copy(name)) or (only is not None and owner.part_of(name) != only):
                continue
            refs = [source.model for source in part.sources] + ([] if base is None else [base])
            names = {ref: self.parents[ref].counterpart(name, owner) or name for ref in refs}
            yield OutputTensor(
                name=self._config_source.counterpart(name, owner) or name,
                part=part,
                inputs=tuple((source, names[source.model]) for source in part.sources),
                base=None if base is None else (base, names[base]),
                t=self._config_source.layout.depth(name),
                gain=1.0,
            )

    def _non_block_names(self, models: Sequence[Model], where: Literal["before", "after"]) -> dict[str, Model]:
        """Return the names of the first model, then what others have beyond them under no other spelling, by owner."""
        names: dict[str, Model] = {}
        for model in models:
            for name in model.outline.before if where == "before" else model.outline.after:
                if name not in names and not any(model.counterpart(known, names[known]) == name for known in names):
                    names[name] = model
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
        outputs = {s for s in suffixes if is_block_output(s, lead.language_type)}
        if gain != 1 and not outputs:
            self.problems.append(f"evomerge.gains: no output projection is known for a block of {lead.language_type}")
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
