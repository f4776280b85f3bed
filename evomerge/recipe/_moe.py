"""The YAML of a mixture of experts: mergekit-moe's document, with unknown keys refused."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from evomerge import methods
from evomerge.errors import InvalidFile, Problem
from evomerge.recipe._reference import ModelRef
from evomerge.recipe._validation import StrictModel, check_document
from evomerge.recipe._yaml import read_yaml

GateMode = Literal["hidden", "cheap_embed", "random", "uniform_random"]
FAMILIES = {"mixtral": "mixtral", "qwen2_moe": "qwen moe", "qwen3_moe": "qwen3 moe"}  # -> mergekit-moe's name for it
DTYPE_WORDS = ("dtype", "out_dtype")  # keys of recipes, which mean something wherever they are no parameters
PROMPTED_GATES: tuple[GateMode, ...] = ("hidden", "cheap_embed")


def families_named(architecture: str) -> tuple[str, ...]:
    """Return the families that `architecture:` may mean.

    Args:
        architecture: a family's name, or the beginning of mergekit-moe's name for it.

    Raises:
        ValueError: it means none.
    """
    found = tuple(
        name for name, label in FAMILIES.items() if architecture == name or label.startswith(architecture.lower())
    )
    if not found or not architecture:
        deepseek = "deepseek" in architecture
        advice = "; its outputs need code from the hub, mixtral takes the same models" if deepseek else ""
        raise ValueError(f'found "{architecture}", expected one of {", ".join(FAMILIES)}{advice}')
    return found


def _checked(architecture: str) -> str:
    families_named(architecture)
    return architecture


_none_as_empty = BeforeValidator(lambda given: [] if given is None else given)
_Ref = Annotated[ModelRef, BeforeValidator(ModelRef.parse)]
_Prompts = Annotated[list[str], _none_as_empty]


class ExpertEntry(StrictModel):
    """One expert.

    Attributes:
        source_model: the model whose mlp it is.
        positive_prompts: texts that it is to be chosen for.
        negative_prompts: texts that it is not to be chosen for.
        noise_scale: standard deviation of Gaussian noise that is added to its weights, at least 0.
        residual_scale: factor on its output.
    """

    source_model: _Ref
    positive_prompts: _Prompts = Field(default_factory=list)
    negative_prompts: _Prompts = Field(default_factory=list)
    noise_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    residual_scale: Annotated[float, Field(allow_inf_nan=False)] | None = None


class MoeEntry(StrictModel):
    """A whole mixture file, with mergekit-moe's keys.

    Attributes:
        base_model: gives everything but the experts' mlps.
        experts: at least 2 of them.
        shared_experts: at most one, used for every token.
        gate_mode: how the routers are made.
        dtype: of the result; None = the base's.
        experts_per_token: how many are chosen for each token.
        architecture: a family's name or the beginning of one; None = the first that fits the models.
        tokenizer_source: of old mergekit files; has no effect, the tokenizer is the base's.
    """

    base_model: _Ref
    experts: list[ExpertEntry] = Field(min_length=1)
    shared_experts: Annotated[list[ExpertEntry], _none_as_empty] = Field(default_factory=list)
    gate_mode: GateMode = "hidden"
    dtype: Literal["bfloat16", "float16", "float32", "float64"] | None = None
    experts_per_token: int = Field(2, ge=1)
    architecture: Annotated[str, AfterValidator(_checked)] | None = None
    tokenizer_source: Any = None

    @property
    def families(self) -> tuple[str, ...]:
        """The families that the file allows; which of them it is follows from the models."""
        return families_named(self.architecture) if self.architecture else tuple(FAMILIES)


@dataclass(frozen=True, slots=True)
class MoeRecipe:
    """A checked mixture.

    Attributes:
        entry: content of the file.
        document: the same as plain data.
        root: where relative paths start, besides the working directory.
        unused: words of merge recipes that the file carries along and that mean nothing to a mixture.
    """

    entry: MoeEntry
    document: Mapping[str, Any]
    root: Path | None = None
    unused: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model that is read, once each, the base first."""
        experts = [*self.entry.experts, *self.entry.shared_experts]
        return tuple(dict.fromkeys([self.entry.base_model, *(expert.source_model for expert in experts)]))

    def to_yaml(self) -> str:
        """Return the text of a file that parses back to this mixture."""
        return yaml.safe_dump(dict(self.document), sort_keys=False, allow_unicode=True, width=120)


def load_moe(path: Path | str) -> MoeRecipe:
    """Read a mixture file.

    Args:
        path: of the YAML file; relative paths of models in it start at its folder.

    Raises:
        InvalidInput: the file cannot be read.
        InvalidFile: every problem of its content at once.
    """
    path = Path(path)
    return parse_moe(read_yaml(path), where=str(path), root=path.resolve().parent)


def parse_moe(data: Any, *, where: str = "mixture", root: Path | None = None) -> MoeRecipe:
    """Check plain data (what YAML gives) and return the mixture it describes.

    Args:
        data: of a mixture file.
        where: its name, for messages.
        root: where relative paths of models start, besides the working directory.

    Raises:
        InvalidFile: every problem at once, each with its place.
    """
    unused: list[str] = []
    entry, problems = check_document(MoeEntry, _read_past(data, MoeEntry, unused), where)
    if entry is not None:
        problems += _problems(entry, where)
    if problems:
        raise InvalidFile(problems)
    return MoeRecipe(entry=entry, document=dict(data), root=root, unused=tuple(dict.fromkeys(unused)))


def _read_past(data: object, schema: type[StrictModel], unused: list[str]) -> Any:
    """Return a mixture's data, or an expert's, without words of merge recipes, as mergekit-moe reads it.

    Args:
        data: what YAML gives.
        schema: of this place; its own words stay.
        unused: gets the words that were left out.
    """
    if not isinstance(data, Mapping):
        return data
    kept: dict[str, Any] = {}
    for name, value in data.items():
        if name == "parameters" and isinstance(value, Mapping) and all(map(_of_merges, value)):
            unused += value
        elif name not in schema.model_fields and name not in DTYPE_WORDS and _of_merges(name):
            unused.append(name)
        elif name in ("experts", "shared_experts") and isinstance(value, list):
            kept[name] = [_read_past(expert, ExpertEntry, unused) for expert in value]
        else:
            kept[name] = value
    return kept


def _of_merges(name: object) -> bool:
    """Tell whether a word is a parameter of merge recipes."""
    return isinstance(name, str) and methods.is_parameter(name)


def _problems(entry: MoeEntry, where: str) -> Iterator[Problem]:
    """Yield everything about a well-formed mixture that makes no sense."""
    count = len(entry.experts)
    if count < 2:
        yield Problem(f"{where}: experts", f"found {count}, expected at least 2 experts")
    if entry.experts_per_token > count >= 2:
        text = f"found {entry.experts_per_token}, expected at most the number of experts ({count})"
        yield Problem(f"{where}: experts_per_token", text)
    if len(entry.shared_experts) > 1:
        yield Problem(f"{where}: shared_experts", f"found {len(entry.shared_experts)}, expected one at most")
    if entry.gate_mode in PROMPTED_GATES:
        for key, experts in (("experts", entry.experts), ("shared_experts", entry.shared_experts)):
            for i, expert in enumerate(experts):
                if not expert.positive_prompts:
                    yield Problem(
                        f"{where}: {key}.{i}.positive_prompts",
                        f"is missing; gate_mode {entry.gate_mode} needs at least one prompt, or use gate_mode: random",
                    )
