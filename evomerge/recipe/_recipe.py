"""The recipe: one complete merge, checked, with a canonical form and a fingerprint."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from evomerge.errors import InvalidFile, InvalidInput, Problem
from evomerge.recipe._document import document_of, fingerprint_of
from evomerge.recipe._parameters import Setting
from evomerge.recipe._problems import bodies_of, problems
from evomerge.recipe._reference import ModelRef
from evomerge.recipe._schema import ModuleEntry, RecipeEntry
from evomerge.recipe._validation import check_document
from evomerge.recipe._vocabulary import VocabularyRule
from evomerge.recipe._yaml import parse_yaml

MAX_MERGES = 1000  # recipes within a recipe, at any depth
MAX_MERGE_DEPTH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input of an output slice.

    Attributes:
        model: the model.
        layers: its blocks [start, end); None = all of them.
        parameters: of the method, for this model.
    """

    model: ModelRef
    layers: tuple[int, int] | None = None
    parameters: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A sequence of output blocks, merged from as many blocks of each of its sources.

    Attributes:
        sources: what is merged.
        base: of this slice; None = the recipe's.
        parameters: of the method, for this slice.
        module_parameters: of the module that the slice belongs to, where the recipe names it; between the slice's and
            the recipe's own.
    """

    sources: tuple[Source, ...]
    base: ModelRef | None = None
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    module_parameters: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One complete merge.

    Attributes:
        method: name of the merge method.
        rules: (part of a tensor's name, name of its merge method) where it is another one; the first that fits.
        modules: name of a part of the model -> its slices, stacked in order; a merge of whole models is one slice
            whose sources have no layer range. The whole model is "default", a vision-language model's language model
            "text_decoder". A part that is not named stays that of the model that gives the config.
        base: the common ancestor of the models, where the method needs one.
        parameters: of the method, for the whole recipe.
        dtype: in which the merge is computed and, without `out_dtype`, stored; None = the models' own.
        out_dtype: in which the result is stored; None = `dtype`.
        vocabulary: the tokenizer of the result; None = not stated.
        chat_template: name of a template, "auto" or a Jinja text; None = the tokenizer's own.
        seed: of random masks.
        gains: one factor on the output of each block of the result; None = all 1.
        variants: of the method, where a paper and mergekit differ.
        commits: hub id (as the recipe names it, with @revision where it does) -> commit.
        merges: name -> a recipe whose result is used as a model of that name, in the order in which they are built.
        document: the recipe as plain data, as it would be written to a file.
        root: the folder that relative parent paths start at, besides the working directory; no part of the
            fingerprint.
        source: the text of the file that the recipe was read from, whose comments `to_yaml` keeps; "" = there is none.
    """

    method: str
    modules: Mapping[str, tuple[Slice, ...]]
    base: ModelRef | None
    parameters: Mapping[str, Setting]
    dtype: str | None
    out_dtype: str | None
    vocabulary: VocabularyRule | None
    chat_template: str | None
    seed: int
    gains: tuple[float, ...] | None
    variants: Mapping[str, str]
    commits: Mapping[str, str]
    merges: Mapping[str, "Recipe"]
    document: Mapping[str, Any]
    root: Path | None = None
    rules: tuple[tuple[str, str], ...] = ()
    source: str = field(default="", compare=False, repr=False)

    def method_of(self, tensor: str) -> str:
        """Return the name of the method that merges a tensor of the result."""
        return next((name for part, name in self.rules if part in tensor), self.method)

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of all methods, that of most tensors first."""
        return tuple(dict.fromkeys((self.method, *(name for _, name in self.rules))))

    @property
    def slices(self) -> tuple[Slice, ...]:
        """The slices of all modules."""
        return tuple(part for slices in self.modules.values() for part in slices)

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model that is read from a file, once each: the base first, then in the order of the recipe."""
        found: list[ModelRef] = []
        for ref in self.inputs:
            inner = self.merges.get(str(ref))
            found += [ref] if inner is None else inner.models
        return tuple(dict.fromkeys(found))

    @property
    def inputs(self) -> tuple[ModelRef, ...]:
        """Every model that the recipe itself names, once each: the base first; some may be names of `merges`."""
        found = list(self.merged)
        if self.vocabulary:
            found += [rule.model for rule in self.vocabulary.tokens.values() if rule.model]
            found += [self.vocabulary.source] if isinstance(self.vocabulary.source, ModelRef) else []
        return tuple(dict.fromkeys(found))

    @property
    def merged(self) -> tuple[ModelRef, ...]:
        """The inputs whose weights are merged; of the others only a tokenizer or single tokens are taken."""
        found = [self.base] if self.base else []
        for part in self.slices:
            found += [part.base] if part.base else []
            found += [source.model for source in part.sources]
        return tuple(dict.fromkeys(found))

    @property
    def config_source(self) -> ModelRef:
        """The model whose config and tokenizer the result takes: the base, else the first model named."""
        return self.base or self.slices[0].sources[0].model

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the document (see `fingerprint_of`)."""
        return fingerprint_of(self.document)

    def to_yaml(self, folder: Path | str | None = None) -> str:
        """Return the text of a recipe file that parses back to this recipe, with the comments of the file it is from.

        Args:
            folder: where the file will be; parents that the recipe names relative to its root are then found from
                there.
        """
        document = dict(self.document)
        if folder is not None and self.root is not None and self._has_relative_parents():
            parents_in = os.path.relpath(self.root, Path(folder).resolve())
            document["evomerge"] = {**document.get("evomerge", {}), "parents_in": parents_in}
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
        if not self.source:
            return text
        commented = self._commented(document)
        if commented is not None:
            return commented
        comments = [line.strip() for line in self.source.splitlines() if line.lstrip().startswith("#")]
        return "\n".join([*comments, text])

    def _commented(self, document: Mapping[str, Any]) -> str | None:
        """Return the text that the recipe is from, with what `evomerge:` gained; None if it says another thing."""
        text, extension = f"{self.source.rstrip()}\n", document.get("evomerge")
        try:
            own = parse_yaml(text, "recipe")
            if extension != own.get("evomerge"):
                text += yaml.safe_dump({"evomerge": extension}, sort_keys=False, allow_unicode=True, width=120)
            said = parse_recipe(parse_yaml(text, "recipe"), root=self.root).document
        except InvalidInput:  # several documents, or one that cannot be added to
            return None
        return text if said == document else None

    def _has_relative_parents(self) -> bool:
        assert self.root is not None
        paths = [Path(ref.path).expanduser() for ref in self.models]
        return any(not path.is_absolute() and (self.root / path).is_dir() for path in paths)

    def with_seed(self, seed: int) -> "Recipe":
        """Return the same recipe with another seed.

        Args:
            seed: of random masks.
        """
        extension = {**self.document.get("evomerge", {}), "seed": seed}
        return replace(self, seed=seed, document={**self.document, "evomerge": extension})

    def with_commits(self, commits: Mapping[str, str]) -> "Recipe":
        """Return the same recipe with its hub ids pinned to commits.

        Args:
            commits: hub id -> commit; those that the recipe pins itself stay.
        """
        pinned = {**commits, **self.commits}
        if pinned == self.commits:
            return self
        document = {**self.document, "evomerge": {**self.document.get("evomerge", {}), "commits": pinned}}
        return replace(self, commits=pinned, document=document)


def parse_recipe(data: object, *, where: str = "recipe", root: Path | None = None) -> Recipe:
    """Check plain data (what YAML gives) and return the recipe it describes.

    Args:
        data: of a recipe file, or what `Recipe.document` holds.
        where: its name, for messages.
        root: the folder that relative parent paths start at, besides the working directory.

    Raises:
        InvalidFile: every problem at once, each with its place.
    """
    _check_merges(data, where)
    return _parse(data, where, root, {})


def _check_merges(data: object, where: str) -> None:
    """Raise InvalidFile if recipes within recipes are too many, as YAML aliases can make them with a few lines."""
    level, count = [data], 0
    for _ in range(MAX_MERGE_DEPTH):
        level = [inner for outer in level for inner in _merges_of(outer)]
        count += len(level)
        if count > MAX_MERGES:
            break
        if not level:
            return
    text = f"holds more than {MAX_MERGES} recipes or {MAX_MERGE_DEPTH} levels of them, expected fewer"
    raise InvalidFile([Problem(f"{where}: evomerge.merges", text)])


def _merges_of(data: object) -> Sequence[Any]:
    """Return the recipes directly inside a recipe that is not checked yet."""
    extension = data.get("evomerge") if isinstance(data, Mapping) else None
    merges = extension.get("merges") if isinstance(extension, Mapping) else None
    return list(merges.values())[: MAX_MERGES + 1] if isinstance(merges, Mapping) else []


def _parse(data: object, where: str, root: Path | None, known: Mapping[str, Recipe]) -> Recipe:
    """Parse a recipe that may use the results of the `known` ones."""
    entry, found = check_document(RecipeEntry, data, where)
    if entry is None:
        raise InvalidFile(found)
    extension = entry.evomerge
    if extension.parents_in and root:
        root = (root / extension.parents_in).resolve()
    merges = dict(known)
    for name, document in extension.merges.items():
        try:
            merges[name] = _parse(document, f"{where}: evomerge.merges.{name}", root, merges)
        except InvalidFile as error:
            found += error.problems
    reported = {problem.where for problem in found}  # what the schema dropped there must not be called missing
    found += [problem for problem in problems(entry, where) if problem.where not in reported]
    if found:
        raise InvalidFile(found)
    return _recipe(entry, root, merges)


def _recipe(entry: RecipeEntry, root: Path | None, merges: Mapping[str, Recipe]) -> Recipe:
    extension = entry.evomerge
    recipe = Recipe(
        method=entry.merge_method,
        modules={name: _slices(body, body is not entry) for name, body in bodies_of(entry).items()},
        base=entry.base_model,
        parameters=entry.parameters,
        dtype=entry.dtype,
        out_dtype=entry.out_dtype,
        vocabulary=_vocabulary(entry),
        chat_template=entry.chat_template,
        seed=extension.seed,
        gains=tuple(extension.gains) if extension.gains else None,
        variants=dict(extension.variants),
        commits=dict(extension.commits),
        merges={},
        document=document_of(entry),
        root=root,
        rules=tuple((rule.filter, rule.method) for rule in extension.methods),
    )
    return replace(recipe, merges=_used(recipe, merges))


def _used(recipe: Recipe, merges: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """Return those of `merges` that a recipe uses, directly or through another, in their order."""
    wanted = {str(ref) for ref in recipe.inputs}
    for name in wanted & set(merges):
        wanted |= set(merges[name].merges)
    return {name: inner for name, inner in merges.items() if name in wanted}


def _slices(body: RecipeEntry | ModuleEntry, named: bool) -> tuple[Slice, ...]:
    """Return the slices of a module.

    Args:
        body: of the module, or the recipe where it names none.
        named: whether it is a module.
    """
    outer = body.parameters if named else {}
    if body.models:
        sources = tuple(Source(model=m.model, parameters=m.parameters) for m in body.models)
        return (Slice(sources=sources, module_parameters=outer),)
    return tuple(
        Slice(
            sources=tuple(Source(model=s.model, layers=s.layer_range, parameters=s.parameters) for s in part.sources),
            base=part.base_model,
            parameters=part.parameters,
            module_parameters=outer,
        )
        for part in body.slices or []
    )


def _vocabulary(entry: RecipeEntry) -> VocabularyRule | None:
    if entry.tokenizer is not None:
        rule = entry.tokenizer
        return VocabularyRule(source=rule.source, tokens=rule.tokens, multiple=rule.pad_to_multiple_of)
    return None if entry.tokenizer_source is None else VocabularyRule(source=entry.tokenizer_source)
