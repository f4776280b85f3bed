"""Everything about a well-formed recipe that makes no sense, each as a sentence with its place."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evomerge import methods
from evomerge.errors import InvalidInput, Problem, did_you_mean
from evomerge.recipe._parameters import Setting, values_in
from evomerge.recipe._reference import ModelRef, looks_local
from evomerge.recipe._schema import MAX_MAGNITUDE, ModuleEntry, RecipeEntry
from evomerge.recipe._validation import short_repr

WHOLE_MODEL = "default"  # mergekit's name for the only part of a language model
TEXT_MODULE = "text_decoder"  # mergekit's name for the language model of a vision-language model
CHAT_TEMPLATES = ("auto", "alpaca", "chatml", "exaone", "llama3", "mistral")


def bodies_of(entry: RecipeEntry) -> dict[str, RecipeEntry | ModuleEntry]:
    """Return what holds `models:` or `slices:`, by the name of its module; a recipe without modules is WHOLE_MODEL."""
    return dict(entry.modules) if entry.modules else {WHOLE_MODEL: entry}


def _places(entry: RecipeEntry, where: str) -> list[tuple[str, RecipeEntry | ModuleEntry]]:
    """Return each body with the beginning of its places in messages."""
    if not entry.modules:
        return [(f"{where}: ", entry)]
    return [(f"{where}: modules.{name}.", body) for name, body in entry.modules.items()]


def _module_problems(entry: RecipeEntry, where: str) -> Iterator[Problem]:
    """Yield problems of the modules themselves."""
    modules = entry.modules or {}
    if WHOLE_MODEL in modules and len(modules) > 1:
        text = f"found {', '.join(modules)}, expected {WHOLE_MODEL} alone, as it is the whole model, or parts of it"
        yield Problem(f"{where}: modules", text)
    for name, body in modules.items():
        place = f"{where}: modules.{name}"
        if (body.models is None) == (body.slices is None):
            yield Problem(place, "needs exactly one of models: and slices:")
        elif body.slices is not None and name not in (WHOLE_MODEL, TEXT_MODULE):
            text = f"only {TEXT_MODULE}, the language model, can be cut and stacked; merge {name} whole, by models:"
            yield Problem(f"{place}.slices", text)


def problems(entry: RecipeEntry, where: str) -> Iterator[Problem]:
    """Yield the problems of a document that fits the schema.

    Args:
        entry: the document.
        where: its name, for messages.
    """
    given = [name for name in ("models", "slices", "modules") if getattr(entry, name) is not None]
    if len(given) != 1:
        yield Problem(where, "needs exactly one of models: and slices: (or modules: around them)")
        return
    found = list(_module_problems(entry, where))
    yield from found
    if found:
        return
    if entry.tokenizer is not None and entry.tokenizer_source is not None:
        yield Problem(where, "tokenizer: and tokenizer_source: say the same; keep one")
    used: dict[str, methods.Method] = {}
    named = [(f"{where}: merge_method", entry.merge_method)]
    named += [(f"{where}: evomerge.methods.{i}", rule.method) for i, rule in enumerate(entry.evomerge.methods)]
    for place, name in named:
        try:
            used.setdefault(name, methods.get(name))
        except InvalidInput as error:
            yield Problem(place, str(error))
    if not {name for _, name in named} <= used.keys():
        return
    for method in used.values():
        yield from _shape_problems(entry, method, where)
    for level, parameters, per_model in _levels(entry, where):
        for name, setting in parameters.items():
            knowing = [method for method in used.values() if method.parameter(name)] or list(used.values())[:1]
            for method in knowing:
                yield from _setting_problems(method, name, setting, f"{level}.{name}", per_model)
    for place, body in _places(entry, where):
        for method in used.values():
            yield from _missing_problems(entry, body, method, where, place)
    yield from _extension_problems(entry, list(used.values()), where)


@dataclass(frozen=True)
class _Input:
    """One model of one slice.

    Attributes:
        place: "file: key" of its entry.
        model: the model.
        layers: its blocks [start, end); None = all.
        parameters: of its entry.
    """

    place: str
    model: ModelRef
    layers: tuple[int, int] | None
    parameters: Mapping[str, Setting]


@dataclass(frozen=True)
class _Group:
    """What is merged together: all models, or the sources of one slice.

    Attributes:
        place: "file: key" of its entry.
        base: the base of the merge.
        parameters: of the slice.
        inputs: the models.
    """

    place: str
    base: ModelRef | None
    parameters: Mapping[str, Setting]
    inputs: tuple[_Input, ...]


def _groups(entry: RecipeEntry, body: RecipeEntry | ModuleEntry, place: str) -> list[_Group]:
    if body.models:
        inputs = tuple(_Input(f"{place}models.{i}", m.model, None, m.parameters) for i, m in enumerate(body.models))
        return [_Group(f"{place}models", entry.base_model, {}, inputs)]
    return [
        _Group(
            f"{place}slices.{i}",
            part.base_model or entry.base_model,
            part.parameters,
            tuple(
                _Input(f"{place}slices.{i}.sources.{j}", source.model, source.layer_range, source.parameters)
                for j, source in enumerate(part.sources)
            ),
        )
        for i, part in enumerate(body.slices or [])
    ]


def _all_groups(entry: RecipeEntry, where: str) -> list[_Group]:
    return [group for place, body in _places(entry, where) for group in _groups(entry, body, place)]


def _count_range(low: int, high: int | None) -> str:
    """Return a number of models in words."""
    if high is None:
        return f"at least {low}"
    return f"exactly {low}" if low == high else f"{low} to {high}"


def _shape_problems(entry: RecipeEntry, method: methods.Method, where: str) -> Iterator[Problem]:
    """Yield problems of bases, numbers of inputs and layer ranges."""
    for group in _all_groups(entry, where):
        models = [source.model for source in group.inputs]
        if method.base == "required" and group.base is None:
            yield Problem(f"{where}: base_model", f"is missing; {method.name} needs the model that the others share")
            return
        others = [m for m in models if m != group.base] if method.base != "input" else models
        low, high = method.inputs
        alone = method.base == "required" and low == 1 and models == [group.base]  # the result is the base, as it is
        if (len(others) < low and not alone) or (high is not None and len(others) > high):
            expected = _count_range(low, high)
            besides = " besides the base" if method.base == "required" else ""
            yield Problem(group.place, f"{method.name} takes {expected} model(s){besides}, found {len(others)}")
        seen: set[tuple[ModelRef, tuple[int, int] | None]] = set()
        for item in group.inputs:
            if (item.model, item.layers) in seen:
                text = f"{item.model} is listed twice; give it once, with the sum of the weights"
                yield Problem(item.place, text)
            seen.add((item.model, item.layers))
    for place, body in _places(entry, where):
        yield from _range_problems(body, place)


def _range_problems(body: RecipeEntry | ModuleEntry, place: str) -> Iterator[Problem]:
    for i, part in enumerate(body.slices or []):
        lengths = {source.layer_range[1] - source.layer_range[0] for source in part.sources}
        for j, source in enumerate(part.sources):
            start, end = source.layer_range
            if start < 0 or end < start:
                yield Problem(
                    f"{place}slices.{i}.sources.{j}.layer_range",
                    f"found [{start}, {end}], expected [start, end] with 0 <= start <= end (end not included)",
                )
        if len(lengths) > 1:
            yield Problem(f"{place}slices.{i}", f"its sources have {sorted(lengths)} layers, expected the same number")


def _levels(entry: RecipeEntry, where: str) -> Iterator[tuple[str, Mapping[str, Setting], bool]]:
    """Yield every place that holds parameters, and whether it belongs to one model."""
    yield f"{where}: parameters", entry.parameters, False
    for place, body in _places(entry, where) if entry.modules else ():
        yield f"{place}parameters", body.parameters, False
    for group in _all_groups(entry, where):
        yield f"{group.place}.parameters", group.parameters, False
        for source in group.inputs:
            yield f"{source.place}.parameters", source.parameters, True


def _missing_problems(
    entry: RecipeEntry, body: RecipeEntry | ModuleEntry, method: methods.Method, where: str, place: str
) -> Iterator[Problem]:
    """Yield required parameters that no level gives. (Filters may still leave gaps; planning finds those.)"""
    outer = {**body.parameters, **entry.parameters}
    groups = _groups(entry, body, place)
    for p in [p for p in method.parameters if p.default is None and p.name not in outer]:
        if p.per == "merge":
            if not all(p.name in group.parameters for group in groups):
                yield Problem(f"{where}: parameters.{p.name}", f"is missing; {method.name} needs it ({p.doc})")
            continue
        for group in groups:
            for source in group.inputs:
                given = p.name in source.parameters or p.name in group.parameters
                if not given and (p.per == "input" or source.model != group.base):
                    text = f"is missing; {method.name} needs it for {source.model}"
                    yield Problem(f"{source.place}.parameters.{p.name}", text)


def _extension_problems(entry: RecipeEntry, used: Sequence[methods.Method], where: str) -> Iterator[Problem]:
    """Yield problems of variants, commits and the chat template."""
    variants = {variant.name: variant for method in used for variant in method.variants}
    for name, chosen in entry.evomerge.variants.items():
        variant, place = variants.get(name), f"{where}: evomerge.variants.{name}"
        if variant is None:
            listed, names = ", ".join(variants) or "none", " and ".join(method.name for method in used)
            yield Problem(place, f"{names} has no such variant; it has {listed}.{did_you_mean(name, variants)}")
        elif chosen not in variant.options:
            hint = did_you_mean(chosen, variant.options)
            yield Problem(place, f'found "{chosen}", expected one of {", ".join(variant.options)}.{hint}')
    refs = [ref for model in _refs(entry) for ref in (model, model.lora) if ref is not None]
    pinnable = {ref.pin for ref in refs if not looks_local(ref.path)}
    for name in entry.evomerge.commits:
        if name not in pinnable and not entry.evomerge.merges:
            text = f"is not how this recipe names a model of the hub.{did_you_mean(name, pinnable)}"
            yield Problem(f"{where}: evomerge.commits.{name}", text)
    template = entry.chat_template
    if template is not None and template not in CHAT_TEMPLATES and "{" not in template:
        text = f"found {short_repr(template)}, expected {', '.join(CHAT_TEMPLATES)} or a Jinja template"
        yield Problem(f"{where}: chat_template", f"{text}.{did_you_mean(template[:80], CHAT_TEMPLATES)}")


def _refs(entry: RecipeEntry) -> list[ModelRef]:
    groups = _all_groups(entry, "")
    bases = [entry.base_model, *(group.base for group in groups)]
    return [*(ref for ref in bases if ref), *(source.model for group in groups for source in group.inputs)]


def _setting_problems(
    method: methods.Method, name: str, setting: Setting, place: str, per_model: bool
) -> Iterator[Problem]:
    parameter = method.parameter(name)
    if parameter is None:
        if methods.without_effect(method, name) is not None:
            return  # planning notes it
        known = [p.name for p in method.parameters]
        listed = ", ".join(known) if known else "none"
        yield Problem(place, f"{method.name} has no such parameter; it has {listed}.{did_you_mean(name, known)}")
        return
    if per_model and parameter.per == "merge":
        yield Problem(
            place, f"{name} is one value for the whole merge; put it under the recipe's or slice's parameters"
        )
    plain = not isinstance(setting, list | Mapping)
    for value in values_in(setting):
        if parameter.kind != "flag" and isinstance(value, bool):
            yield Problem(place, f"found {value}, expected a number")
        elif isinstance(value, float) and not math.isfinite(value):
            yield Problem(place, f"found {value}, expected a finite number")
        elif abs(value) > MAX_MAGNITUDE:
            found = f"{value:g}" if isinstance(value, float) else short_repr(value)
            yield Problem(place, f"found {found}, expected a number of at most {MAX_MAGNITUDE:g}")
        elif parameter.kind == "flag" and not isinstance(value, bool) and (value not in (0, 1) or not plain):
            yield Problem(place, f"found {value}, expected true or false")
        elif parameter.kind == "integer" and value != int(value):
            yield Problem(place, f"found {value}, expected a whole number")
        elif not parameter.low <= float(value) <= parameter.high:
            yield Problem(place, f"found {value}, expected a value from {parameter.low:g} to {parameter.high:g}")
