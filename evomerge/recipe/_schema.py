"""The YAML of a recipe: mergekit's document, plus the `evomerge:` block for what mergekit cannot say."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from evomerge.recipe._parameters import mark_unused_texts, read_setting
from evomerge.recipe._reference import ModelRef
from evomerge.recipe._validation import StrictModel, json_schema
from evomerge.recipe._vocabulary import TokenRule, read_source, read_token

MAX_MAGNITUDE = 3.4e38  # of a parameter: what float32 holds
MAX_NAME_CHARACTERS = 200  # of a method, a parameter, a variant
MAX_LAYER = 100_000
MAX_SEED = 2**53  # beyond it the fingerprint, which holds numbers as float64, is the same for several seeds
MAX_ROWS_MULTIPLE = 1 << 20

_NAMED: dict[str, Any] = {"type": "string", "minLength": 1}
_PATH = {
    "type": "object",
    "properties": {"path": _NAMED, "revision": _NAMED},
    "required": ["path"],
    "additionalProperties": False,
}
_MODEL_PART: dict[str, Any] = {"anyOf": [_NAMED, _PATH]}
_REF_SCHEMA: dict[str, Any] = {
    "description": "A model: path or hub id, with @revision and +adapter where they apply; or the same as a mapping.",
    "anyOf": [
        *_MODEL_PART["anyOf"],
        {
            "type": "object",
            "properties": {"model": _MODEL_PART, "lora": _MODEL_PART, "override_architecture": _NAMED},
            "required": ["model"],
            "additionalProperties": False,
        },
    ],
}
_NUMBER = {"type": ["number", "boolean"]}
_VALUES: dict[str, Any] = {"anyOf": [_NUMBER, {"type": "array", "items": _NUMBER, "minItems": 1}]}
_FILTERED = {
    "type": "object",
    "properties": {"filter": {"type": ["string", "null"]}, "value": _VALUES},
    "required": ["value"],
    "additionalProperties": False,
}
_SETTING_SCHEMA: dict[str, Any] = {
    "description": "A number or flag, a list over the layers, or {filter, value} by part of a tensor's name.",
    "anyOf": [*_VALUES["anyOf"], _FILTERED, {"type": "array", "items": _FILTERED, "minItems": 1}],
}
_TOKEN_SOURCE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["zero", "model_token"]},
        "model": _REF_SCHEMA,
        "token": {"type": "string"},
        "token_id": {"type": "integer"},
    },
    "required": ["kind"],
    "additionalProperties": False,
}
_TOKEN_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"source": {"anyOf": [_REF_SCHEMA, _TOKEN_SOURCE]}, "force": {"type": "boolean"}},
    "required": ["source"],
    "additionalProperties": False,
}

ModelField = Annotated[ModelRef, BeforeValidator(ModelRef.parse), WithJsonSchema(_REF_SCHEMA)]
TokenizerSourceField = Annotated[str | ModelRef, BeforeValidator(read_source), WithJsonSchema(_REF_SCHEMA)]
TokenRuleField = Annotated[TokenRule, BeforeValidator(read_token), WithJsonSchema(_TOKEN_SCHEMA)]
DTYPES = ("bfloat16", "float16", "float32", "float64")
DtypeField = Annotated[
    Literal["bfloat16", "float16", "float32", "float64"],
    BeforeValidator(lambda given: given.removeprefix("torch.") if isinstance(given, str) else given),
]
_none_as_empty = BeforeValidator(lambda given: {} if given is None else given)  # a key without a value


SettingField = Annotated[Any, BeforeValidator(read_setting), WithJsonSchema(_SETTING_SCHEMA)]
NameField = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)]
ParametersField = Annotated[dict[NameField, SettingField], BeforeValidator(mark_unused_texts)]


class ModelEntry(StrictModel):
    """One input of a merge of whole models.

    Attributes:
        model: the model.
        parameters: of the method, for this model.
    """

    model: ModelField
    parameters: ParametersField = Field(default_factory=dict)


class SourceEntry(StrictModel):
    """One input of an output slice.

    Attributes:
        model: the model.
        layer_range: its blocks [start, end).
        parameters: of the method, for this model.
    """

    model: ModelField
    layer_range: tuple[Annotated[int, Field(le=MAX_LAYER)], Annotated[int, Field(le=MAX_LAYER)]]
    parameters: ParametersField = Field(default_factory=dict)


class SliceEntry(StrictModel):
    """One output slice; slices are stacked in order.

    Attributes:
        sources: what is merged.
        base_model: of this slice; None = the recipe's.
        residual_weight: of old mergekit files; has no effect.
        parameters: of the method, for this slice.
    """

    sources: list[SourceEntry] = Field(min_length=1)
    base_model: ModelField | None = None
    residual_weight: float | None = None
    parameters: ParametersField = Field(default_factory=dict)


class ModuleEntry(StrictModel):
    """A part of a model, in recipes that name the parts as mergekit does.

    Attributes:
        models: whole models; or
        slices: output slices.
        parameters: of the method, for all of it.
    """

    models: list[ModelEntry] | None = Field(None, min_length=1)
    slices: list[SliceEntry] | None = Field(None, min_length=1)
    parameters: ParametersField = Field(default_factory=dict)


class TokenizerEntry(StrictModel):
    """The tokenizer of the result.

    Attributes:
        source: "union", "base" or a model.
        tokens: exceptions for single tokens.
        pad_to_multiple_of: the number of rows is padded to a multiple of it.
    """

    source: TokenizerSourceField = "union"
    tokens: Annotated[dict[str, TokenRuleField], _none_as_empty] = Field(default_factory=dict)
    pad_to_multiple_of: int | None = Field(None, ge=1, le=MAX_ROWS_MULTIPLE)


class MethodRule(StrictModel):
    """The method of some tensors.

    Attributes:
        filter: what their names in the result have in them.
        method: their merge method.
    """

    filter: str = Field(min_length=1)
    method: NameField


class ExtensionEntry(StrictModel):
    """What mergekit has no keys for.

    Attributes:
        methods: of some tensors, the first rule that fits; all others are merged by `merge_method`.
        seed: of random masks.
        gains: one factor on the output of each block of the result.
        variants: of the method, where a paper and mergekit differ.
        commits: hub id -> commit that it is pinned to.
        merges: name -> a recipe whose result this one uses as a model of that name (what further documents of a
            mergekit-multi file are).
        parents_in: the folder that relative parent paths start at.
    """

    methods: list[MethodRule] = Field(default_factory=list)
    seed: int = Field(0, ge=-MAX_SEED, le=MAX_SEED)
    gains: list[Annotated[float, Field(gt=0, le=MAX_MAGNITUDE)]] | None = None
    variants: dict[NameField, NameField] = Field(default_factory=dict)
    commits: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{7,40}$")]] = Field(default_factory=dict)
    merges: dict[str, dict[str, Any]] = Field(default_factory=dict)
    parents_in: str | None = None


class RecipeEntry(StrictModel):
    """A whole recipe file, with mergekit's keys and `evomerge:`."""

    merge_method: NameField
    models: list[ModelEntry] | None = Field(None, min_length=1)
    slices: list[SliceEntry] | None = Field(None, min_length=1)
    modules: dict[str, ModuleEntry] | None = Field(None, min_length=1)
    base_model: ModelField | None = None
    parameters: ParametersField = Field(default_factory=dict)
    dtype: DtypeField | None = None
    out_dtype: DtypeField | None = None
    tokenizer_source: TokenizerSourceField | None = None
    tokenizer: TokenizerEntry | None = None
    chat_template: str | None = None
    evomerge: Annotated[ExtensionEntry, _none_as_empty] = Field(default_factory=ExtensionEntry)


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file."""
    return json_schema(RecipeEntry)
