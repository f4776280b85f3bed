"""The YAML of a recipe: mergekit's document, plus the `evomerge:` block for what mergekit cannot say."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from evomerge.recipe._parameters import read_setting
from evomerge.recipe._reference import ModelRef

Ref = Annotated[ModelRef, BeforeValidator(ModelRef.parse)]
DTYPES = ("bfloat16", "float16", "float32", "float64")
Dtype = Literal["bfloat16", "float16", "float32", "float64"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


SettingField = Annotated[Any, BeforeValidator(read_setting)]
Parameters = dict[str, SettingField]


class ModelEntry(_Strict):
    """One input of a merge of whole models."""

    model: Ref
    parameters: Parameters = Field(default_factory=dict)


class SourceEntry(_Strict):
    """One input of an output slice: blocks [start, end) of a model."""

    model: Ref
    layer_range: tuple[int, int]
    parameters: Parameters = Field(default_factory=dict)


class SliceEntry(_Strict):
    """One output slice; slices are stacked in order."""

    sources: list[SourceEntry] = Field(min_length=1)
    base_model: Ref | None = None
    parameters: Parameters = Field(default_factory=dict)


class TokenizerEntry(_Strict):
    """Where the output's tokenizer comes from."""

    source: str | Any = "union"
    tokens: dict[str, Any] = Field(default_factory=dict)
    pad_to_multiple_of: int | None = None


class ExtensionEntry(_Strict):
    """What mergekit cannot say.

    seed: of random masks. gains: one factor on the output of each block of the result. variants: where a paper and
    mergekit differ. commits: hub ids pinned to commits. parents_in: the folder that relative parent paths start at.
    """

    seed: int = 0
    gains: list[Annotated[float, Field(gt=0)]] | None = None
    variants: dict[str, str] = Field(default_factory=dict)
    commits: dict[str, str] = Field(default_factory=dict)
    parents_in: str | None = None


class RecipeEntry(_Strict):
    """A whole recipe file."""

    merge_method: str
    models: list[ModelEntry] | None = Field(None, min_length=1)
    slices: list[SliceEntry] | None = Field(None, min_length=1)
    base_model: Ref | None = None
    parameters: Parameters = Field(default_factory=dict)
    dtype: Dtype | None = None
    out_dtype: Dtype | None = None
    tokenizer_source: Any | None = None
    tokenizer: TokenizerEntry | None = None
    chat_template: str | None = None
    evomerge: ExtensionEntry = Field(default_factory=ExtensionEntry)
