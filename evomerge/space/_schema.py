"""The YAML of a space: which parameters of which method vary, by what, and in which range."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from evomerge.recipe import SettingField, StrictModel

AXES = ("model", "layer", "module")


def _read_axes(value: Any) -> Any:
    """Accept one axis or a list of them; `curve: K` is a mapping in the list."""
    axes = value if isinstance(value, list) else [value]
    read = []
    for axis in axes:
        if isinstance(axis, dict) and set(axis) == {"curve"} and isinstance(axis["curve"], int) and axis["curve"] >= 2:
            read.append(f"curve:{axis['curve']}")
        elif axis in AXES:
            read.append(axis)
        else:
            raise ValueError(f"found {axis!r}, expected model, layer, module or {{curve: K}} with K at least 2 knots")
    if len({axis.partition(":")[0] for axis in read}) < len(read):
        raise ValueError(f"found an axis twice in {value!r}")
    if any(axis.startswith("curve") for axis in read) and "layer" in read:
        raise ValueError("curve and layer both divide the depth; keep one")
    if any(axis.startswith("curve") for axis in read) and "module" in read:
        raise ValueError("curve and module cannot be combined yet; keep one")
    return tuple(read)


_CURVE = {"type": "integer", "minimum": 2}
_AXIS: dict[str, Any] = {
    "anyOf": [
        {"enum": list(AXES)},
        {"type": "object", "properties": {"curve": _CURVE}, "required": ["curve"], "additionalProperties": False},
    ]
}
_AXES_SCHEMA: dict[str, Any] = {"anyOf": [*_AXIS["anyOf"], {"type": "array", "items": _AXIS}]}


class GeneEntry(StrictModel):
    """One varied parameter.

    Attributes:
        per: what has a value of its own: `model`, `layer` (each block, plus one for embeddings, head and final norm),
            `module` (attention, mlp, rest), `curve: K` (K knots over depth). Empty: one value for all.
        range: (low, high); None: the parameter's own range.
        start: where a search begins; None: equal shares for weights, else the middle of the range.
    """

    per: Annotated[tuple[str, ...], BeforeValidator(_read_axes), WithJsonSchema(_AXES_SCHEMA)] = ()
    range: tuple[float, float] | None = None
    start: float | None = None


_LEVEL_SCHEMA: dict[str, Any] = {"type": "array", "items": _AXES_SCHEMA}


class SpaceEntry(StrictModel):
    """A space of merges or of layer stacks.

    Attributes:
        method: of the merge; a list makes it a choice; `passthrough` makes the space one of layer stacks.
        genes: parameter -> how it varies.
        parameters: fixed parameters, as in a recipe.
        dtype: of every candidate.
        evomerge: fixed `evomerge:` block of every recipe.
        levels: what a coarse-to-fine search varies, one after the other, each as a gene's `per`; empty: everything at
            once.
    """

    method: str | Annotated[list[str], Field(min_length=1)]
    genes: dict[str, GeneEntry] = Field(default_factory=dict)
    parameters: dict[str, SettingField] = Field(default_factory=dict)
    dtype: Literal["bfloat16", "float16", "float32"] | None = None
    evomerge: dict[str, Any] = Field(default_factory=dict)
    levels: Annotated[list[Annotated[tuple[str, ...], BeforeValidator(_read_axes)]], WithJsonSchema(_LEVEL_SCHEMA)] = (
        Field(default_factory=list)
    )
