"""How one tensor of the result is made: where its inputs are, whether they fit, which settings hold."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

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
from evomerge.engine.plan._dtypes import ResultDtypes
from evomerge.engine.plan._output_order import OutputTensor
from evomerge.engine.plan._settings import settings_at
from evomerge.errors import MergeFailed
from evomerge.methods import BASE, Method, Settings
from evomerge.recipe import TEXT_MODULE, ModelRef, Recipe, Source


class TensorPlanner:
    """Plans tensors one at a time, collecting problems instead of stopping at the first.

    Attributes:
        recipe: what is planned.
        parents: its opened models.
        alignment: of the parents' rows to the output's vocabulary; None = every parent fits as it is.
        problems: why tensors cannot be planned.
        notes: what the user should know.
        dtypes: of the result.
        narrowed: dtype of stored tensors -> names of the result's tensors that hold fewer digits than they do.
    """

    def __init__(self, recipe: Recipe, parents: Parents, alignment: Alignment | None, *, union: bool = False):
        self.recipe, self.parents, self.alignment = recipe, parents, alignment
        self._found: dict[tuple[ModelRef, str], Origin | None] = parents.memo.setdefault("origins", {})
        self._union = union  # any tensor may be missing in some models; else only biases may
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.narrowed: dict[torch.dtype, set[str]] = {}
        self.dtypes = ResultDtypes(recipe, parents)

    def plan(self, output: OutputTensor) -> Iterator[TensorPlan]:
        """Yield the plan of one tensor; nothing if it is dropped, or after noting a problem."""
        if output.part is None:
            own = Origin(output.inputs[0][0].model, output.inputs[0][1])
            info = self.parents[own.model].tensors[own.tensor]
            yield self._copy(output.name, own, self._as_result(output.name, info), 1.0)
            return
        method = self.method_of(output)
        if method.base == "input":
            output = replace(output, base=None)
        inputs = [(s, n) for s, n in output.inputs if output.base is None or s.model != output.base[0]]
        found = [self._find(source.model, name) for source, name in inputs]
        base = None if output.base is None else self._find(*output.base)
        expected = [*([output.base] if output.base else []), *((source.model, name) for source, name in inputs)]
        present = [*([base] if output.base else []), *found]
        if base is not None and not inputs:  # a recipe of the base alone, such as a base with an adapter
            info = self.parents[base.model].tensors[base.tensor]
            yield self._copy(output.name, base, self._as_result(output.name, info), output.gain)
            return
        if None not in present:
            yield from self._merge(output, inputs, [origin for origin in found if origin], base)
            return
        missing = next(pair for pair, origin in zip(expected, present, strict=True) if origin is None)
        holder = next((origin for origin in present if origin), None)
        rule = method.when_absent(None if output.base is None else base is not None, [*map(bool, found)])
        if holder is None or not (self._union or is_optional(output.name)) or rule.action == "refuse":
            whose = f", which {holder.model} has" if holder else ""
            self.problems.append(f"{missing[0]} has no tensor {missing[1]}{whose}{self._advice(missing[0], holder)}")
        elif rule.action == "drop":
            self.notes.append(f"{output.name} is left out: too few of the models have it for {method.name}")
        elif rule.action == "copy":
            origin = base if rule.position == BASE else found[rule.position]
            assert origin is not None
            info = self.parents[origin.model].tensors[origin.tensor]
            yield self._copy(output.name, origin, self._as_result(output.name, info), output.gain)
        else:
            kept = [(pair, origin) for pair, origin in zip(inputs, found, strict=True) if origin]
            yield from self._merge(output, [pair for pair, _ in kept], [origin for _, origin in kept], base)

    def method_of(self, output: OutputTensor) -> Method:
        """Return what merges a tensor."""
        return methods.get(self.recipe.method_of(output.name))

    def _as_result(self, name: str, info: TensorInfo) -> TensorInfo:
        """Return a parent's tensor in the result's dtype, and note where that holds fewer digits.

        Args:
            name: in the result.
            info: of the parent's tensor; whole numbers stay what they are.
        """
        if not info.dtype.is_floating_point:
            return info
        dtype = self.dtypes.of(name)
        if info.dtype == dtype:
            return info
        if torch.promote_types(info.dtype, dtype) != dtype:
            self.narrowed.setdefault(info.dtype, set()).add(name)
        return info._replace(dtype=dtype)

    def _advice(self, missing: ModelRef, holder: Origin | None) -> str:
        """Return what to do where a language model is merged with one that also sees, or ""."""
        if holder is None or self.parents[missing].part_names >= self.parents[holder.model].part_names:
            return ""
        return f"; a model without these parts can be merged into {TEXT_MODULE} alone, by modules:"

    def _find(self, model: ModelRef, name: str) -> Origin | None:
        """Return a parent's tensor, which it may store under another name, or None."""
        if (model, name) not in self._found:
            stored = self.parents[model].stored_name(name)
            self._found[model, name] = None if stored is None else Origin(model, stored)
        return self._found[model, name]

    def _merge(
        self, output: OutputTensor, inputs: Sequence[tuple[Source, str]], models: Sequence[Origin], base: Origin | None
    ) -> Iterator[TensorPlan]:
        """Yield the plan of a tensor that all given inputs have."""
        part = output.part
        assert part is not None
        origins = [*([base] if base else []), *models]
        infos = [self.parents[origin.model].tensors[origin.tensor] for origin in origins]
        if not self._same_kind(output.name, origins, infos):
            return
        if not infos[0].dtype.is_floating_point:
            yield self._copy(output.name, models[0], infos[-len(models)], 1.0)
            return
        rows = self._rows(output.name, origins, infos)
        if rows is not None:
            infos = [info._replace(shape=(rows.alignment.size, *info.shape[1:])) for info in infos]
        if not self._same_shape(output.name, origins, infos):
            return
        try:
            method = self.method_of(output)
            settings = settings_at(method, self.recipe, part, inputs, output.name, output.t)
        except MergeFailed as error:
            self.problems.append(str(error))
            return
        infos = [self._as_result(output.name, info) for info in infos]
        dtype = infos[0].dtype
        copied = self._copied(method, settings, models, dtype, rows) if output.gain == 1 else None
        if copied is not None and copied != models[0]:
            yield self._copy(output.name, copied, TensorInfo(dtype, infos[0].shape), 1.0)
            return
        yield TensorPlan(
            name=output.name,
            method=method.name,
            models=tuple(models),
            base=base,
            settings=settings,
            dtype=dtype,
            shape=infos[0].shape,
            gain=output.gain,
            seed=self.recipe.seed,
            rows=rows,
            copied=copied is not None,
        )

    def _same_kind(self, name: str, origins: Sequence[Origin], infos: Sequence[TensorInfo]) -> bool:
        """Note a tensor that is whole numbers (codes, or packed) in one parent and weights in another."""
        for origin, info in zip(origins, infos, strict=True):
            if info.dtype.is_floating_point != infos[0].dtype.is_floating_point:
                kinds = [str(other.dtype).removeprefix("torch.") for other in (info, infos[0])]
                self.problems.append(
                    f"{name} is {kinds[0]} in {origin.model} but {kinds[1]} in {origins[0].model}; whole numbers "
                    "are no weights, give a parent that is not quantized"
                )
                return False
        return True

    def _copied(
        self, method: Method, settings: Settings, models: Sequence[Origin], dtype: torch.dtype, rows: Rows | None
    ) -> Origin | None:
        """Return the stored tensor that is the result, bit for bit, so that nothing need be computed; or None."""
        position = method.copied_model(settings)
        if position is None or rows is not None:
            return None
        origin = models[position]
        parent = self.parents[origin.model]
        stored = parent.tensors[origin.tensor].dtype == dtype and not parent.is_computed(origin.tensor)
        return origin if stored else None

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
        """Note a tensor that has another shape in one parent than in the first."""
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


def _shape(info: TensorInfo) -> str:
    return "x".join(str(extent) for extent in info.shape) or "a scalar"
