"""The known kinds of space, and how the space of a search is read and built."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.errors import InvalidFile, InvalidInput, Problem, did_you_mean
from evomerge.plugins import Registry
from evomerge.recipe import json_schema, read_yaml
from evomerge.records import ParentSummary
from evomerge.space._merge_build import MERGE
from evomerge.space._paths import METHOD as STACK_METHOD
from evomerge.space._protocol import Space, SpaceKind
from evomerge.space._schema import SpaceEntry
from evomerge.space.data_flow import DATA_FLOW, DataFlowEntry
from evomerge.space.hybrid import HybridEntry, hybrid_kind
from evomerge.space.stack import STACK

HYBRID = hybrid_kind(MERGE, DATA_FLOW)
KINDS: Mapping[str, SpaceKind] = {kind.name: kind for kind in (MERGE, STACK, DATA_FLOW, HYBRID)}
"""The built-in kinds by name."""

_MEMBERS = ("domain", "coordinates", "start", "recipe_count", "dtype", "description", "decode", "encode")


def _checked_kind(given: Any) -> SpaceKind:
    if not isinstance(given, SpaceKind):
        raise InvalidInput(f"found {type(given).__name__}, expected an evomerge.space.SpaceKind")
    return given


REGISTRY = Registry("spaces", "space kind", KINDS, _checked_kind)


def register(kind: SpaceKind) -> None:
    """Make a kind of space known in this process. One of the same name that was registered before is replaced.

    Raises:
        InvalidInput: not a SpaceKind, or its name is that of a built-in kind.
    """
    REGISTRY.register(kind)


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds: built-in ones, then registered ones, then those of installed packages."""
    return REGISTRY.names()


def get_kind(name: str) -> SpaceKind:
    """Return a kind of space.

    Raises:
        InvalidInput: there is none of this name, or the package that brings it cannot be loaded.
    """
    return REGISTRY.get(name)


def shipped_folder() -> Path:
    """Return the folder of the spaces that come with evomerge."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_search_spaces"
    return installed if installed.is_dir() else package.parent / "search_spaces"


def shipped_spaces() -> dict[str, Path]:
    """Return name -> file of the spaces that come with evomerge."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.yaml"))}


def read_space(value: Any, folder: Path, where: str) -> tuple[Any, str]:
    """Return a space as plain data, and how to name it in messages.

    Args:
        value: a shipped name, a path, a mapping, or an object that is a `Space`, which is returned as it is.
        folder: that relative paths start from.
        where: the search file, for messages.

    Raises:
        InvalidInput: neither a space, a shipped name nor a readable file.
    """
    if isinstance(value, Mapping):
        return dict(value), f"{where}: space"
    if not isinstance(value, str | Path):
        return value, f"{where}: space"
    shipped = shipped_spaces()
    if value in shipped:
        return read_yaml(shipped[str(value)]), f"space {value}"
    path = folder / value
    if path.suffix in (".yaml", ".yml") or path.exists():
        return read_yaml(path), str(path)
    known = ", ".join(shipped)
    raise InvalidInput(
        f'{where}: space: "{value}" is no shipped space ({known}) and no file.{did_you_mean(str(value), shipped)}'
    )


def build_space(data: Any, where: str, base: ParentSummary | None, models: Sequence[ParentSummary]) -> Space:
    """Return the space of a search.

    Args:
        data: plain data as in a space file, or a `Space` of one's own.
        where: its name in messages.
        base: summary of the base model, or None.
        models: summaries of the other models.

    Raises:
        InvalidFile: every problem at once.
    """
    if not isinstance(data, Mapping):
        if isinstance(data, list | str | int | float | None):
            raise InvalidFile([Problem(where, f"found {data!r}, expected a mapping of keys to values")])
        return _checked(data, where)
    options = dict(data)
    name = options.pop("kind", None)
    if name is None:
        name = STACK.name if options.get("method") in (STACK_METHOD, [STACK_METHOD]) else MERGE.name
    try:
        kind = get_kind(str(name))
    except InvalidInput as error:
        raise InvalidFile([Problem(f"{where}: kind", str(error))]) from error
    space = kind.build(options, where=where, base=base, models=models)
    return space if kind.name in KINDS else _checked(space, where)


def _checked(space: Any, where: str) -> Space:
    """Return a space of another package, or of the user, after checking what a search relies on first."""
    missing = [name for name in _MEMBERS if not hasattr(space, name)]
    if missing:
        raise InvalidFile(
            [Problem(where, f"{type(space).__name__} is no space: it has no {', '.join(missing)}; see Space")]
        )
    problems = []
    names, expected = list(space.coordinates), space.domain.size
    if len(set(names)) != expected or len(names) != expected:
        problems.append(
            Problem(where, f"names {len(names)} coordinates ({len(set(names))} distinct), its domain has {expected}")
        )
    try:
        space.domain.check(space.start)
    except InvalidInput as error:
        problems.append(Problem(where, f"its start is not in its domain: {error}"))
    if problems:
        raise InvalidFile(problems)
    return space


def space_schema() -> dict[str, Any]:
    """Return the JSON Schema of a space file. What a file of a kind from elsewhere holds, it leaves open."""
    schema = json_schema(SpaceEntry)
    properties = {"kind": {"enum": [MERGE.name, STACK.name]}, **schema.pop("properties")}
    own = {"properties": properties, **{key: schema.pop(key) for key in ("required", "additionalProperties")}}
    others = []
    for name, entry in ((DATA_FLOW.name, DataFlowEntry), (HYBRID.name, HybridEntry)):
        found = json_schema(entry)
        properties = {"kind": {"const": name}, **found["properties"]}
        required = ["kind", *found.get("required", [])]
        others.append({"properties": properties, "required": required, "additionalProperties": False})
    other = {"properties": {"kind": {"type": "string", "not": {"enum": list(KINDS)}}}, "required": ["kind"]}
    return {**schema, "anyOf": [own, *others, other]}
