"""A file of mergekit-evolve as a search file: what it says in our words, and what could not be carried over."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from evomerge.errors import InvalidFile
from evomerge.recipe import ModelField, StrictModel, check_document
from evomerge.run.config._schema import named
from evomerge.run.config._template import relative_place

NORMALIZED = ("ties", "dare_ties", "linear")  # methods whose weights mergekit-evolve normalizes by default
GREATEST_WEIGHT = 1.5
LEAST_DENSITY = 0.05
NO_FILTER = "none"  # lm-eval's name for the filter that does nothing, as in "acc,none"


class GenomeEntry(StrictModel):
    """What a mergekit-evolve file searches.

    Attributes:
        models: what is merged.
        merge_method: of every candidate.
        base_model: the common ancestor.
        tokenizer_source: whose tokens the result has.
        layer_granularity: blocks that share their values; 0 = all of them.
        normalize: whether weights are divided by their sum; by default as the method does.
        allow_negative_weights: whether weights may be below 0.
        filters: parts of tensor names that have values of their own.
        smooth: whether values change gradually over the depth.
    """

    models: list[ModelField] = Field(min_length=1)
    merge_method: Literal["linear", "task_arithmetic", "ties", "dare_ties", "slerp"]
    base_model: ModelField | None = None
    tokenizer_source: str | None = None
    layer_granularity: int = Field(0, ge=0)
    normalize: bool | None = None
    allow_negative_weights: bool = False
    filters: list[str] | None = None
    smooth: bool = False


class GenomeTask(StrictModel):
    """An lm-eval task, its weight in the sum, and "metric,filter"."""

    name: str
    weight: float = 1.0
    metric: str = f"acc,{NO_FILTER}"


class EvolveEntry(StrictModel):
    """A whole mergekit-evolve file.

    Attributes:
        genome: what is searched.
        tasks: what candidates are scored on.
        limit: items of each task; None = all.
        num_fewshot: examples in each prompt.
        shuffle: whether the items are drawn anew for each candidate.
        random_init: whether the search starts at random.
        apply_chat_template: whether prompts are chats.
        fewshot_as_multiturn: whether the examples of a chat are turns of their own.
    """

    genome: GenomeEntry
    tasks: list[Annotated[GenomeTask, BeforeValidator(named)]] = Field(min_length=1)
    limit: int | None = Field(None, ge=1)
    num_fewshot: int | None = None
    shuffle: bool = False
    random_init: bool = False
    apply_chat_template: bool | None = None
    fewshot_as_multiturn: bool | None = None


class ModelFacts(NamedTuple):
    """What a genome needs to know of its first model.

    Attributes:
        num_layers: its blocks.
        has_chat_template: whether its tokenizer has one.
    """

    num_layers: int
    has_chat_template: bool


class TranslatedGenome(NamedTuple):
    """A search that a mergekit-evolve file describes.

    Attributes:
        search: content of the search file.
        notes: what was left out, or is not the same, one sentence each.
    """

    search: dict[str, Any]
    notes: list[str]


def translate_genome(data: object, where: str, folder: Path, facts: Callable[[str], ModelFacts]) -> TranslatedGenome:
    """Return the search that a mergekit-evolve file describes.

    Args:
        data: what the file holds.
        where: its name, for messages.
        folder: that the search file will be in.
        facts: returns what must be known of a model, by its name in the file.

    Raises:
        InvalidFile: with every problem of the file.
        InvalidInput: a model cannot be opened.
    """
    entry, problems = check_document(EvolveEntry, data, where)
    if problems or entry is None:
        raise InvalidFile(problems)
    notes: list[str] = []
    genome: GenomeEntry = entry.genome
    first = facts(str(genome.models[0]))
    search: dict[str, Any] = {
        "parents": _parents(genome, folder, notes),
        "space": _space(genome, first.num_layers, notes),
        "tasks": _tasks(entry, notes),
    }
    if tokenizer := _tokenizer(genome, search["parents"], folder, notes):
        search["tokenizer"] = tokenizer
    if options := _lm_eval(entry, first):
        search["lm_eval"] = options
    if entry.limit is not None:
        search["pools"] = {"search": entry.limit, "select": entry.limit, "report": 2 * entry.limit}
        notes.append(
            f"limit: {entry.limit} items for every candidate there; here as many in each of the pools search and "
            "select, and twice as many that judge the pick: lower them where a task has fewer"
        )
    if entry.shuffle:
        notes.append("shuffle: candidates of a generation share their items here, and generations rotate them")
    if entry.random_init:
        notes.append("random_init: the search starts at the best reference, or where the space says")
    return TranslatedGenome(search, notes)


def _parents(genome: GenomeEntry, folder: Path, notes: list[str]) -> dict[str, Any]:
    base = genome.base_model
    models = [model for model in genome.models if model != base]
    if base is not None and len(models) < len(genome.models) and genome.merge_method not in ("slerp", "linear"):
        notes.append(
            f"{base} is the base and was among the models, where its task vector is nothing: it is left out there"
        )
    if genome.merge_method == "linear" and base is not None:
        models, base = list(genome.models), None
        notes.append("base_model: a weighted average has none; it is no parent here")
    named = [relative_place(str(model), folder) for model in models]
    return {**({} if base is None else {"base": relative_place(str(base), folder)}), "models": named}


def _tokenizer(genome: GenomeEntry, parents: Mapping[str, Any], folder: Path, notes: list[str]) -> str | None:
    """Return whose tokens the result has, or None where the genome does not say or names what is no parent here."""
    if genome.tokenizer_source in (None, "union"):
        return genome.tokenizer_source
    named = genome.tokenizer_source
    if named == "base":
        named = str(genome.base_model or genome.models[0])
    place = relative_place(named, folder)
    if place in (parents.get("base"), *parents["models"]):
        return place
    notes.append(f"tokenizer_source: {named} is no parent here, so the result has the tokens of the first parent")
    return None


def _space(genome: GenomeEntry, num_layers: int, notes: list[str]) -> dict[str, Any]:
    """Return the space: what has a value of its own, and within which range."""
    per: list[Any] = [] if genome.merge_method == "slerp" else ["model"]
    per += _depth(genome, num_layers, notes)
    if genome.filters:
        per.append({"groups": list(genome.filters)})
    start = 1 / len(genome.models)
    least = -0.5 if genome.allow_negative_weights else 0.0
    if genome.merge_method == "slerp":
        genes: dict[str, Any] = {"t": {"per": per, "range": [0.0, 1.0], "start": 0.5}}
    else:
        genes = {"weight": {"per": per, "range": [least, GREATEST_WEIGHT], "start": round(start, 4)}}
        notes.append(f"weights have no bounds there; here they are searched from {least:g} to {GREATEST_WEIGHT:g}")
    if genome.merge_method in ("ties", "dare_ties"):
        genes["density"] = {"per": list(per), "range": [LEAST_DENSITY, 1.0], "start": 1.0}
        notes.append(f"densities are searched from {LEAST_DENSITY:g} to 1: nothing is left of a model at 0")
    normalize = genome.merge_method in NORMALIZED if genome.normalize is None else genome.normalize
    parameters = {} if genome.merge_method == "slerp" else {"parameters": {"normalize": normalize}}
    return {"method": genome.merge_method, "genes": genes, **parameters, "dtype": "bfloat16"}


def _depth(genome: GenomeEntry, num_layers: int, notes: list[str]) -> list[Any]:
    """Return how values are divided over the depth."""
    step = genome.layer_granularity
    if step < 1 or step >= num_layers:
        return []
    count = -(-num_layers // step)
    if num_layers % step:
        notes.append(
            f"layer_granularity: {step} does not divide {num_layers} blocks, which mergekit-evolve refuses; "
            f"here they make {count} parts of about equal size"
        )
    if genome.smooth:
        return [{"curve": count}]
    notes.append("embeddings, head and final norm have values of their own, which mergekit takes from the ends")
    return ["layer"] if step == 1 else [{"bands": count}]


def _tasks(entry: EvolveEntry, notes: list[str]) -> list[dict[str, Any]]:
    tasks = []
    for task in entry.tasks:
        metric = task.metric.removesuffix(f",{NO_FILTER}")
        if task.weight <= 0:
            notes.append(
                f"{task.name} has weight {task.weight:g}: scores are only ever improved here, so the task is left out. "
                "What must not get worse can be a task with a floor:, what must get worse a scorer with direction: min"
            )
            continue
        tasks.append({"task": task.name, "metric": metric, **({} if task.weight == 1 else {"weight": task.weight})})
    return tasks


def _lm_eval(entry: EvolveEntry, first: ModelFacts) -> dict[str, Any]:
    """Return settings for prompts; chats are on there unless the file says otherwise."""
    chats = first.has_chat_template if entry.apply_chat_template is None else entry.apply_chat_template
    given: Mapping[str, Any] = {
        "num_fewshot": entry.num_fewshot,
        "apply_chat_template": chats or None,
        "fewshot_as_multiturn": entry.fewshot_as_multiturn if chats else None,
    }
    return {key: value for key, value in given.items() if value is not None}
