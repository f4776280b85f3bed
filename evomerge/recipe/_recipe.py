"""The recipe: one complete merge, checked, with a canonical form and a fingerprint."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from evomerge import methods
from evomerge.errors import InvalidFile, InvalidInput, Problem, did_you_mean
from evomerge.recipe._parameters import Setting, values_in
from evomerge.recipe._reference import ModelRef
from evomerge.recipe._schema import RecipeEntry
from evomerge.recipe._yaml import check, read_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input of an output slice. layers: blocks [start, end) of the model; None = all of them."""

    model: ModelRef
    layers: tuple[int, int] | None = None
    parameters: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A run of output blocks, merged from the same blocks of its sources."""

    sources: tuple[Source, ...]
    base: ModelRef | None = None
    parameters: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One complete merge.

    slices: stacked in order; a merge of whole models is one slice whose sources have no layer range.
    root: the folder that relative parent paths start at, besides the working directory; no part of the fingerprint.
    document: the recipe as plain data, as it would be written to a file.
    """

    method: str
    slices: tuple[Slice, ...]
    base: ModelRef | None
    parameters: Mapping[str, Setting]
    dtype: str | None
    out_dtype: str | None
    tokenizer: Mapping[str, Any] | None
    chat_template: str | None
    seed: int
    gains: tuple[float, ...] | None
    variants: Mapping[str, str]
    document: Mapping[str, Any]
    root: Path | None = None

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model that is read, once each: the base first, then in the order of the recipe."""
        found = [self.base] if self.base else []
        for part in self.slices:
            found += [part.base] if part.base else []
            found += [source.model for source in part.sources]
        return tuple(dict.fromkeys(found))

    @property
    def donor(self) -> ModelRef:
        """The model whose config and tokenizer the result takes: the base, else the first model named."""
        return self.base or self.slices[0].sources[0].model

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical form: equal for recipes that say the same, whatever their layout or comments."""
        plain = json.dumps(_canonical(self.document), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(plain.encode()).hexdigest()

    def to_yaml(self, folder: Path | None = None) -> str:
        """Return the text of a recipe file that parses back to this recipe.

        folder: where the file will be; parents that the recipe names relative to its root are then found from there.
        """
        document = dict(self.document)
        if folder is not None and self.root is not None and self._has_relative_parents():
            extension = {**document.get("evomerge", {}), "parents_in": os.path.relpath(self.root, folder.resolve())}
            document["evomerge"] = extension
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)

    def _has_relative_parents(self) -> bool:
        assert self.root is not None
        paths = [Path(ref.path).expanduser() for ref in self.models]
        return any(not path.is_absolute() and (self.root / path).is_dir() for path in paths)

    def with_seed(self, seed: int) -> "Recipe":
        """Return the same recipe with another seed for its random masks."""
        extension = {**self.document.get("evomerge", {}), "seed": seed}
        return replace(self, seed=seed, document={**self.document, "evomerge": extension})


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe file.

    Raises:
        InvalidInput: the file cannot be read. InvalidFile: every problem of its content at once.
    """
    path = Path(path)
    data = read_yaml(path)
    if isinstance(data, Mapping) and "tasks" in data and "merge_method" not in data:
        raise InvalidInput(f"{path}: is a search file, not a recipe; run it with `evomerge search`")
    return parse_recipe(data, where=str(path), root=path.resolve().parent)


def parse_recipe(data: Any, *, where: str = "recipe", root: Path | None = None) -> Recipe:
    """Check plain data (what YAML gives) and return the recipe it describes.

    Raises:
        InvalidFile: every problem at once, each with its place.
    """
    entry, problems = check(RecipeEntry, data, where)
    if entry is not None:
        problems += _problems(entry, where)
    if problems:
        raise InvalidFile(problems)
    extension = entry.evomerge
    if extension.parents_in and root:
        root = (root / extension.parents_in).resolve()
    return Recipe(
        method=entry.merge_method,
        slices=_slices(entry),
        base=entry.base_model,
        parameters=entry.parameters,
        dtype=entry.dtype,
        out_dtype=entry.out_dtype,
        tokenizer=_tokenizer(entry),
        chat_template=entry.chat_template,
        seed=extension.seed,
        gains=tuple(extension.gains) if extension.gains else None,
        variants=dict(extension.variants),
        document=_document(entry),
        root=root,
    )


def _slices(entry: RecipeEntry) -> tuple[Slice, ...]:
    if entry.models:
        sources = tuple(Source(model=m.model, parameters=m.parameters) for m in entry.models)
        return (Slice(sources=sources),)
    return tuple(
        Slice(
            sources=tuple(Source(model=s.model, layers=s.layer_range, parameters=s.parameters) for s in part.sources),
            base=part.base_model,
            parameters=part.parameters,
        )
        for part in entry.slices or []
    )


def _tokenizer(entry: RecipeEntry) -> Mapping[str, Any] | None:
    if entry.tokenizer is not None:
        return entry.tokenizer.model_dump(exclude_defaults=True) | {"source": entry.tokenizer.source}
    return {"source": entry.tokenizer_source} if entry.tokenizer_source is not None else None


def _plain(value: Any) -> Any:
    """Turn schema objects back into plain data."""
    if isinstance(value, ModelRef):
        return value.plain()
    if isinstance(value, BaseModel):
        given = ((name, getattr(value, name)) for name in type(value).model_fields if name in value.model_fields_set)
        return {name: _plain(each) for name, each in given}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _document(entry: RecipeEntry) -> dict[str, Any]:
    """Return the recipe as plain data in the schema's order, without what was left at its default."""
    return {name: value for name, value in _plain(entry).items() if value is not None and value != {}}


def _canonical(value: Any) -> Any:
    """Make values that mean the same look the same: 1 and 1.0 (but not 1 and true), nothing said and an empty entry."""
    if isinstance(value, Mapping):
        said = {str(key): _canonical(each) for key, each in value.items() if key != "parents_in"}
        return {key: each for key, each in said.items() if each is not None and each != {}}
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _problems(entry: RecipeEntry, where: str) -> Iterator[Problem]:
    """Yield everything about a well-formed document that makes no sense."""
    if (entry.models is None) == (entry.slices is None):
        yield Problem(where, "needs exactly one of models: and slices:")
        return
    if entry.tokenizer is not None and entry.tokenizer_source is not None:
        yield Problem(where, "tokenizer: and tokenizer_source: say the same; keep one")
    if entry.merge_method not in methods.METHODS:
        hint = did_you_mean(entry.merge_method, methods.METHODS)
        known = ", ".join(methods.METHODS)
        yield Problem(f"{where}: merge_method", f'unknown method "{entry.merge_method}"; known are {known}.{hint}')
        return
    method = methods.get(entry.merge_method)
    yield from _shape_problems(entry, method, where)
    for place, parameters, per_model in _levels(entry, where):
        for name, setting in parameters.items():
            yield from _setting_problems(method, name, setting, f"{place}.{name}", per_model)
    yield from _missing_problems(entry, method, where)


def _shape_problems(entry: RecipeEntry, method: methods.Method, where: str) -> Iterator[Problem]:
    """Yield problems of bases, numbers of inputs and layer ranges."""
    groups = (
        [("models", entry.base_model, [m.model for m in entry.models])]
        if entry.models
        else [
            (f"slices.{i}", part.base_model or entry.base_model, [s.model for s in part.sources])
            for i, part in enumerate(entry.slices or [])
        ]
    )
    for place, base, models in groups:
        if method.base == "required" and base is None:
            yield Problem(f"{where}: base_model", f"is missing; {method.name} needs the model that the others share")
            return
        others = [m for m in models if m != base] if method.base != "input" else models
        low, high = method.inputs
        if len(others) < low or (high is not None and len(others) > high):
            expected = f"exactly {low}" if low == high else f"at least {low}"
            besides = " besides the base" if method.base == "required" else ""
            yield Problem(f"{where}: {place}", f"{method.name} takes {expected} model(s){besides}, found {len(others)}")
    for i, part in enumerate(entry.slices or []):
        lengths = {source.layer_range[1] - source.layer_range[0] for source in part.sources}
        for j, source in enumerate(part.sources):
            start, end = source.layer_range
            if start < 0 or end < start:
                yield Problem(
                    f"{where}: slices.{i}.sources.{j}.layer_range",
                    f"found [{start}, {end}], expected [start, end] with 0 <= start <= end (end not included)",
                )
        if len(lengths) > 1:
            yield Problem(
                f"{where}: slices.{i}", f"its sources have {sorted(lengths)} layers, expected the same number"
            )


def _levels(entry: RecipeEntry, where: str) -> Iterator[tuple[str, Mapping[str, Setting], bool]]:
    """Yield every place that holds parameters, and whether it belongs to one model."""
    yield f"{where}: parameters", entry.parameters, False
    for i, model in enumerate(entry.models or []):
        yield f"{where}: models.{i}.parameters", model.parameters, True
    for i, part in enumerate(entry.slices or []):
        yield f"{where}: slices.{i}.parameters", part.parameters, False
        for j, source in enumerate(part.sources):
            yield f"{where}: slices.{i}.sources.{j}.parameters", source.parameters, True


def _missing_problems(entry: RecipeEntry, method: methods.Method, where: str) -> Iterator[Problem]:
    """Yield required parameters that no level gives. (Filters may still leave gaps; planning finds those.)"""
    required = [p for p in method.parameters if p.default is None and p.name not in entry.parameters]
    for p in required:
        if p.per == "merge":
            if not entry.slices or not all(p.name in part.parameters for part in entry.slices):
                yield Problem(f"{where}: parameters.{p.name}", f"is missing; {method.name} needs it ({p.doc})")
            continue
        for i, model in enumerate(entry.models or []):
            if p.name not in model.parameters and (p.per == "input" or model.model != entry.base_model):
                yield Problem(
                    f"{where}: models.{i}.parameters.{p.name}", f"is missing; {method.name} needs it for {model.model}"
                )
        for i, part in enumerate(entry.slices or []):
            for j, source in enumerate(part.sources):
                given = p.name in source.parameters or p.name in part.parameters
                if not given and (p.per == "input" or source.model != (part.base_model or entry.base_model)):
                    place = f"{where}: slices.{i}.sources.{j}.parameters.{p.name}"
                    yield Problem(place, f"is missing; {method.name} needs it for {source.model}")


def _setting_problems(
    method: methods.Method, name: str, setting: Setting, place: str, per_model: bool
) -> Iterator[Problem]:
    parameter = method.parameter(name)
    if parameter is None:
        known = [p.name for p in method.parameters]
        listed = ", ".join(known) if known else "none"
        yield Problem(place, f"{method.name} has no such parameter; it has {listed}.{did_you_mean(name, known)}")
        return
    if per_model and parameter.per == "merge":
        yield Problem(
            place, f"{name} is one value for the whole merge; put it under the recipe's or slice's parameters"
        )
    for value in values_in(setting):
        if parameter.kind != "flag" and isinstance(value, bool):
            yield Problem(place, f"found {value}, expected a number")
        elif not math.isfinite(value):
            yield Problem(place, f"found {value}, expected a finite number")
        elif parameter.kind == "integer" and value != int(value):
            yield Problem(place, f"found {value}, expected a whole number")
        elif not parameter.low <= float(value) <= parameter.high:
            yield Problem(place, f"found {value}, expected a value from {parameter.low:g} to {parameter.high:g}")
