"""The YAML of a space: what varies, by what and in which range. docs/spaces.md explains it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from evomerge.recipe import SettingField, StrictModel
from evomerge.space.genes import AXES_SCHEMA, GeneAxis, read_axes

AxesField = Annotated[tuple[GeneAxis, ...], BeforeValidator(read_axes), WithJsonSchema(AXES_SCHEMA)]
LARGEST = 3.4e38  # number that a recipe may hold, as float32 does
_OPTION = {"type": ["number", "boolean", "string"]}


def _read_option(value: object) -> Any:
    """Accept a number, a flag or a word, as it is."""
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"found a number beyond {LARGEST:g}")
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"found {value!r}, expected a number, true or false, or a word")


def _read_total(value: object) -> Any:
    """Accept one number for both bounds."""
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


OptionField = Annotated[Any, BeforeValidator(_read_option), WithJsonSchema(_OPTION)]
_BOUND = {"anyOf": [{"type": "number"}, {"type": "null"}]}
_TOTAL: dict[str, Any] = {
    "anyOf": [{"type": "number"}, {"type": "array", "items": _BOUND, "minItems": 2, "maxItems": 2}]
}
TotalField = Annotated[
    tuple[float | None, float | None] | None, BeforeValidator(_read_total), WithJsonSchema({"anyOf": [_TOTAL]})
]


class GeneEntry(StrictModel):
    """One parameter, or one choice of the method's, that varies.

    Attributes:
        per: what has a value of its own: `model`; of the depth `layer` (each block, plus one for embeddings, head and
            final norm), `bands: K` (K bands of blocks, plus one) or `curve: K` (K knots over depth); inside a block
            `module` (attention, mlp, rest) or `groups` (of filters). Empty: one value for all.
        range: (low, high); without it, the parameter's own range.
        scale: "log": steps are equal factors; the range must lie above 0.
        values: what it may be, instead of a range.
        start: where a search begins; without it, equal shares for weights, else the middle of the range.
        total: (least, greatest) sum over the models in each group, null for no bound; one number is both.
    """

    per: AxesField = Field((), examples=[["model", "layer"], ["model", {"curve": 3}]])
    range: tuple[float, float] | None = Field(None, examples=[[0.0, 1.5]])
    scale: Literal["linear", "log"] = Field("linear", examples=["log"])
    values: list[OptionField] | None = Field(None, examples=[[0.3, 0.5, 1.0]])
    start: OptionField | None = Field(None, examples=[0.35])
    total: TotalField = Field(None, examples=[1.0])


def _read_genes(value: object) -> Any:
    """Accept a gene without keys (`normalize:`)."""
    return {name: {} if gene is None else gene for name, gene in value.items()} if isinstance(value, Mapping) else value


GenesField = Annotated[dict[str, GeneEntry], BeforeValidator(_read_genes)]


class MethodChoice(NamedTuple):
    """The method, or a choice of methods.

    Attributes:
        names: of the methods.
        axes: what has a method of its own; None = the whole merge has one.
    """

    names: tuple[str, ...]
    axes: tuple[GeneAxis, ...] | None = None


def _read_method(value: object) -> MethodChoice:
    """Read a name, a list of names, or {choose: names, per: axes}."""
    if isinstance(value, str):
        return MethodChoice((value,))
    axes = None
    if isinstance(value, Mapping):
        unknown = set(value) - {"choose", "per"}
        if unknown or "choose" not in value:
            raise ValueError(f"found the keys {', '.join(map(str, value))}, expected choose: a list, and per: axes")
        axes = read_axes(value.get("per", []))
        value = value["choose"]
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError(f"found {value!r}, expected the name of a method, or a list of names")
    if len(set(value)) < len(value):
        raise ValueError(f"found a method twice in {', '.join(value)}")
    return MethodChoice(tuple(value), axes or None)


_NAMES: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
_METHOD_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        _NAMES,
        {
            "type": "object",
            "properties": {"choose": _NAMES, "per": AXES_SCHEMA},
            "required": ["choose"],
            "additionalProperties": False,
        },
    ]
}
MethodField = Annotated[MethodChoice, PlainValidator(_read_method), WithJsonSchema(_METHOD_SCHEMA)]


class SelectionEntry(StrictModel):
    """Parents that take part or not.

    Attributes:
        least: number of them; without it, as few as the methods take.
        most: number of them, a cap that few models may not reach; without it, all.
        indicator: whether each has a choice of two, or a real that is rounded.
    """

    least: Annotated[int, Field(ge=0)] | None = Field(None, examples=[2])
    most: Annotated[int, Field(ge=1)] | None = Field(None, examples=[4])
    indicator: Literal["choice", "real"] = Field("choice", examples=["real"])


class PartEntry(StrictModel):
    """What varies in one part of a vision-language model.

    Attributes:
        genes: parameter -> how it varies.
        parameters: fixed parameters, as in a recipe.
    """

    genes: GenesField = Field(default_factory=dict, examples=[{"weight": {"per": ["model"]}}])
    parameters: dict[str, SettingField] = Field(default_factory=dict, examples=[{"normalize": True}])


_LEVEL_SCHEMA: dict[str, Any] = {"type": "array", "items": AXES_SCHEMA}
_LevelField = Annotated[tuple[GeneAxis, ...], BeforeValidator(read_axes)]
LevelsField = Annotated[list[_LevelField], WithJsonSchema(_LEVEL_SCHEMA)]


class SpaceEntry(StrictModel):
    """A space of merges or of layer stacks.

    Attributes:
        method: of the merge; a list makes it a choice, `{choose: list, per: axes}` a choice for each group of tensors;
            `passthrough` makes the space one of layer stacks.
        genes: parameter -> how it varies.
        parameters: fixed parameters, as in a recipe.
        parents: makes taking part a choice for each model; without it, all do.
        modules: part of a vision-language model -> what varies there; parts that are not named stay the base's.
        dtype: of every candidate.
        evomerge: fixed `evomerge:` block of every recipe.
        levels: what a coarse-to-fine search varies, one after the other, each as a gene's `per`; empty: everything at
            once.
    """

    method: MethodField = Field(examples=["dare_ties", ["ties", "dare_ties"]])
    genes: GenesField = Field(
        default_factory=dict, examples=[{"weight": {"per": ["model", "layer"], "range": [0.0, 1.5]}}]
    )
    parameters: dict[str, SettingField] = Field(default_factory=dict, examples=[{"normalize": True}])
    parents: SelectionEntry | None = Field(None, examples=[{"least": 2}])
    modules: dict[str, PartEntry] = Field(
        default_factory=dict, examples=[{"text_decoder": {"genes": {"weight": {"per": ["model"]}}}}]
    )
    dtype: Literal["bfloat16", "float16", "float32"] | None = Field(None, examples=["bfloat16"])
    evomerge: dict[str, Any] = Field(default_factory=dict, examples=[{"seed": 1}])
    levels: LevelsField = Field(default_factory=list, examples=[["model", ["model", "module"], ["model", "layer"]]])
