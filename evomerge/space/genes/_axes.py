"""The words of `per:`: what has a value of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evomerge.errors import did_you_mean

WORDS = ("model", "layer", "module")
DEPTH = ("layer", "bands", "curve")
INSIDE = ("module", "groups")
REST = "rest"  # name of the group of what is left
MAX_COUNT = 1000  # of bands or knots
_EXPECTED = "model, layer, module, {bands: K}, {curve: K} (K at least 2, at most 1000) or {groups: filters}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneAxis:
    """One thing that values are divided by.

    Attributes:
        kind: see `MergeSpace` and docs/spaces.md.
        count: number of bands, or of knots.
        filters: of `groups`: name of a group -> what one of its tensors' names has in it.
    """

    kind: Literal["model", "layer", "module", "bands", "curve", "groups"]
    count: int = 0
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()


def read_axes(value: object) -> tuple[GeneAxis, ...]:
    """Read the value of `per:`: one axis or a list of them.

    Raises:
        ValueError: an axis is unknown, or two of them divide the same.
    """
    axes = tuple(_axis(axis) for axis in (value if isinstance(value, list) else [value]))
    kinds = [axis.kind for axis in axes]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"found an axis twice in {value!r}")
    for part, known in (("the depth", DEPTH), ("a block", INSIDE)):
        both = [kind for kind in kinds if kind in known]
        if len(both) > 1:
            raise ValueError(f"{' and '.join(both)} both divide {part}; keep one")
    return axes


def _axis(value: object) -> GeneAxis:
    if isinstance(value, str) and value in WORDS:
        return GeneAxis(kind=value)  # type: ignore[arg-type]
    if isinstance(value, Mapping) and len(value) == 1:
        ((kind, content),) = value.items()
        if kind in ("bands", "curve") and type(content) is int and 2 <= content <= MAX_COUNT:
            return GeneAxis(kind=kind, count=content)
        if kind == "groups":
            return GeneAxis(kind="groups", filters=_filters(content))
    hint = did_you_mean(value, WORDS) if isinstance(value, str) else ""
    raise ValueError(f"found {value!r}, expected {_EXPECTED}.{hint}")


def _filters(content: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read {name: filter or list of filters}, or a list of filters that are their own names."""
    if isinstance(content, list) and len(set(map(str, content))) < len(content):
        raise ValueError(f"found a filter twice in groups: {content!r}")
    named = {str(part): part for part in content} if isinstance(content, list) else content
    if not isinstance(named, Mapping) or not named:
        raise ValueError(f"found groups: {content!r}, expected a list of parts of tensor names, or {{name: parts}}")
    found = []
    for name, parts in named.items():
        listed = parts if isinstance(parts, list) else [parts]
        if not listed or not all(isinstance(part, str) and part and part != "*" for part in listed):
            raise ValueError(f"found the group {name}: {parts!r}, expected parts of tensor names, such as q_proj")
        if str(name) == REST:
            raise ValueError(f"found a group called {REST}, which is what no group takes; choose another name")
        found.append((str(name), tuple(listed)))
    return tuple(found)


def _mapping(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: content}, "required": [name], "additionalProperties": False}


_COUNT = {"type": "integer", "minimum": 2, "maximum": MAX_COUNT}
_PARTS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
_NAMED = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "string", "minLength": 1}, _PARTS]},
    "minProperties": 1,
}
_AXIS: Sequence[Mapping[str, Any]] = (
    {"enum": list(WORDS)},
    _mapping("bands", _COUNT),
    _mapping("curve", _COUNT),
    _mapping("groups", {"anyOf": [_PARTS, _NAMED]}),
)
AXES_SCHEMA: dict[str, Any] = {"anyOf": [*_AXIS, {"type": "array", "items": {"anyOf": list(_AXIS)}}]}
