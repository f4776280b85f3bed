"""How one tensor of the result is made: where its inputs are, whether they fit, which settings hold."""

from collections.abc import Iterator, Sequence

import torch

from evomerge import methods
from evomerge.checkpoint import (
    Parents,
    TensorInfo,
    is_optional,
    is_vocabulary,
)
from evomerge.engine._alignment import Alignment
from evomerge.engine._plan_records import Origin, Rows, TensorPlan
from evomerge.engine.plan._output_order import OutputTensor
from evomerge.engine.plan._settings import settings_at
from evomerge.errors import MergeFailed
from evomerge.methods import BASE, Method, Settings
from evomerge.recipe import ModelRef, Recipe, Source


class TensorPlanner:
    """Plans tensors one at a time, collecting problems instead of stopping at the first."""

    def __init__(self, recipe: Recipe, parents: Parents, alignment: Alignment | None):
        self.recipe, self.parents, self.alignment = recipe, parents, alignment
        self.method: Method = methods.get(recipe.method)
        self._found: dict[tuple[ModelRef, str], Origin | None] = parents.memo.setdefault("origins", {})
        self.problems: list[str] = []
        self.notes: list[str] = []
        dtype = recipe.out_dtype or recipe.dtype
        self.dtype: torch.dtype | None = getattr(torch, dtype) if dtype else None

    def plan(self, place: OutputTensor) -> Iterator[TensorPlan]:
        """Yield the plan of one tensor; nothing if it is dropped, or after noting a problem."""
        inputs = [(s, n) for s, n in place.inputs if place.base is None or s.model != place.base[0]]
        found = [self._find(source.model, name) for source, name in inputs]
        base = None if place.base is None else self._find(*place.base)
        asked = [*([place.base] if place.base else []), *((source.model, name) for source, name in inputs)]
        present = [*([base] if place.base else []), *found]
        if None not in present:
            yield from self._merge(place, inputs, [origin for origin in found if origin], base)
            return
        missing = next(pair for pair, origin in zip(asked, present, strict=True) if origin is None)
        holder = next((origin for origin in present if origin), None)
        rule = self.method.when_absent(None if place.base is None else base is not None, [*map(bool, found)])
        if holder is None or not is_optional(place.name) or rule.action == "refuse":
            whose = f", which {holder.model} has" if holder else ""
            self.problems.append(f"{missing[0]} has no tensor {missing[1]}{whose}")
        elif rule.action == "drop":
            self.notes.append(f"{place.name} is left out: too few of the models have it for {self.method.name}")
        elif rule.action == "copy":
            origin = base if rule.position == BASE else found[rule.position]
            assert origin is not None
            info = self.parents[origin.model].tensors[origin.tensor]
            yield self._copy(place.name, origin, info._replace(dtype=self.dtype or info.dtype), place.gain)
        else:
            kept = [(pair, origin) for pair, origin in zip(inputs, found, strict=True) if origin]
            yield from self._merge(place, [pair for pair, _ in kept], [origin for _, origin in kept], base)

    def _find(self, model: ModelRef, name: str) -> Origin | None:
        if (model, name) not in self._found:
            stored = self.parents[model].stored_name(name)
            self._found[model, name] = None if stored is None else Origin(model, stored)
        return self._found[model, name]

    def _merge(
        self, place: OutputTensor, inputs: Sequence[tuple[Source, str]], models: Sequence[Origin], base: Origin | None
    ) -> Iterator[TensorPlan]:
        """Yield the plan of a tensor that all given inputs have."""
        origins = [*([base] if base else []), *models]
        infos = [self.parents[origin.model].tensors[origin.tensor] for origin in origins]
        if not self._same_kind(place.name, origins, infos):
            return
        if not infos[0].dtype.is_floating_point:
            yield self._copy(place.name, models[0], infos[-len(models)], 1.0)
            return
        rows = self._rows(place.name, origins, infos)
        if rows is not None:
            infos = [info._replace(shape=(rows.alignment.size, *info.shape[1:])) for info in infos]
        if not self._same_shape(place.name, origins, infos):
            return
        try:
            settings = settings_at(self.method, self.recipe, place.part, inputs, place.name, place.t)
        except MergeFailed as error:
            self.problems.append(str(error))
            return
        dtype = self.dtype or _promoted(infos)
        yield TensorPlan(
            name=place.name,
            method=self.method.name,
            models=tuple(models),
            base=base,
            settings=settings,
            dtype=dtype,
            shape=infos[0].shape,
            gain=place.gain,
            seed=self.recipe.seed,
            rows=rows,
            copied=self._is_copy(settings, models, dtype, rows) and place.gain == 1,
        )

    def _same_kind(self, name: str, origins: Sequence[Origin], infos: Sequence[TensorInfo]) -> bool:
        """Note a tensor that is whole numbers in one parent and weights in another: the former are codes or packed."""
        for origin, info in zip(origins, infos, strict=True):
            if info.dtype.is_floating_point != infos[0].dtype.is_floating_point:
                kinds = [str(each.dtype).removeprefix("torch.") for each in (info, infos[0])]
                self.problems.append(
                    f"{name} is {kinds[0]} in {origin.model} but {kinds[1]} in {origins[0].model}; whole numbers "
                    "are no weights, give a parent that is not quantized"
                )
                return False
        return True

    def _is_copy(self, settings: Settings, models: Sequence[Origin], dtype: torch.dtype, rows: Rows | None) -> bool:
        """Tell whether the result is a stored tensor, bit for bit, so that nothing need be computed or kept."""
        copied = self.method.copied_model(settings)
        if copied is None or rows is not None:
            return False
        parent, tensor = self.parents[models[copied].model], models[copied].tensor
        return parent.tensors[tensor].dtype == dtype and not parent.is_computed(tensor)

    def _copy(self, name: str, origin: Origin, info: TensorInfo, gain: float) -> TensorPlan:
        """Plan a tensor that is one input's as it is: integer buffers, and weights that no other input has."""
        stored = self.parents[origin.model].tensors[origin.tensor]
        return TensorPlan(
            name=name,
            method="passthrough",
            models=(origin,),
            base=None,
            settings=Settings.of({}, [{"scale": 1.0}]),
            dtype=info.dtype,
            shape=info.shape,
            gain=gain,
            copied=gain == 1 and stored.dtype == info.dtype,
        )

    def _rows(self, name: str, origins: Sequence[Origin], infos: Sequence[TensorInfo]) -> Rows | None:
        """Return how a vocabulary's tensor is aligned, or None where it fits as it is."""
        if self.alignment is None or not is_vocabulary(name) or not all(info.shape for info in infos):
            return None
        pairs = zip(origins, infos, strict=True)
        if all(self.alignment.leaves_alone(origin.model, info.shape[0]) for origin, info in pairs):
            return None
        sources = (self._find(ref, name) for ref in self.alignment.models)
        return Rows(self.alignment, tuple(origin for origin in sources if origin))

    def _same_shape(self, name: str, origins: Sequence[Origin], infos: Sequence[TensorInfo]) -> bool:
        for origin, info in zip(origins, infos, strict=True):
            if info.shape == infos[0].shape:
                continue
            advice = "only models of one architecture and vocabulary can be merged"
            if is_vocabulary(name) and info.shape[1:] == infos[0].shape[1:]:
                advice = (
                    "their vocabularies differ; set tokenizer: {source: union} to keep every parent's tokens, or "
                    "tokenizer: {source: base} to keep the base's"
                )
            self.problems.append(
                f"{origin.tensor} is {_shape(info)} in {origin.model} but {_shape(infos[0])} in {origins[0].model}; "
                + advice
            )
            return False
        return True


def _promoted(infos: Sequence[TensorInfo]) -> torch.dtype:
    dtype = infos[0].dtype
    for info in infos[1:]:
        dtype = torch.promote_types(dtype, info.dtype)
    return dtype


def _shape(info: TensorInfo) -> str:
    return "x".join(str(extent) for extent in info.shape) or "a scalar"
