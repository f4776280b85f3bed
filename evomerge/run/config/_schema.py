"""The YAML of a search: what a person writes to start a run."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.json_schema import SkipJsonSchema

from evomerge.errors import Problem
from evomerge.recipe import DescribedModel, ModelField, StrictModel, TokenizerEntry, check_document, json_schema

CHANGEABLE_KEYS = ("budget", "workers", "trackers")
"""What may differ between two sessions of one run: how long it takes and who hears of it, never what a score means."""

DEFAULT_CANDIDATES = 400


class ParentsEntry(StrictModel):
    """The models of a search.

    Attributes:
        base: the common ancestor that task vectors are taken against; methods without task vectors need none.
        models: what is merged: folders, relative to the search file, or hub ids; also @revision and +adapter.
    """

    base: ModelField | None = Field(None, examples=["mistralai/Mistral-7B-v0.1"])
    models: list[ModelField] = Field(min_length=1, examples=[["./models/math", "org/code@main"]])


class RelativeFloor(StrictModel):
    """A floor below a parent's own score.

    Attributes:
        parent: path or hub id of the parent, or the last part of it.
        minus: how far below, in the metric's own units.
    """

    parent: str = Field(examples=["math"])
    minus: float = Field(0.0, examples=[0.02])


class TaskEntry(StrictModel):
    """One objective: an lm-eval task, group or tag, a Python function with items of its own, or another kind of task.

    Attributes:
        task: name of an lm-eval task, group or tag.
        scorer: a Python function of your own, "file.py:function"; through the API also a function.
        items: what a scorer is called on: a JSONL file with one object a line, or a list of them.
        evaluator: `layers` (how many the model has, fewer being better), or a registered or installed kind of task; the
            entry's other keys are its options.
        options: of the evaluator; the keys beside `evaluator:` that this schema does not know are added to them.
        name: of the objective, where it is not to be called as the task, scorer or evaluator is.
        metric: of an lm-eval task; its first one where none is given. Tasks that generate have `answer_tokens`, too:
            the tokens of an answer, fewer being better.
        num_fewshot: examples in this task's prompts; as `lm_eval:` and the task say where none is given.
        direction: of a scorer's numbers: whether more or less of it is better.
        weight: share in the weighted mean of the objectives; 0 = none: its floor counts, and the front. Without it 1,
            and 0 for costs (`evaluator: layers`, `metric: answer_tokens`).
        floor: that the metric must reach, in its own units, or relative to a parent's own score; where lower is better,
            the most that it may be.
        scale: the values of the metric that count as 0 and as 1 in the weighted mean; without it, the metric as it is.
    """

    task: str | None = Field(None, examples=["gsm8k"])
    scorer: str | SkipJsonSchema[Callable[..., Any]] | None = Field(None, examples=["answers.py:gold_likelihood"])
    items: str | list[dict[str, Any]] | None = Field(None, examples=["questions.jsonl"])
    evaluator: str | None = Field(None, examples=["layers"])
    options: dict[str, Any] = Field(default_factory=dict, examples=[{"file": "lines.txt"}])
    name: str | None = Field(None, examples=["math"])
    metric: str | None = Field(None, examples=["acc_norm"])
    num_fewshot: int | None = Field(None, ge=0, examples=[5])
    direction: Literal["max", "min"] = Field("max", examples=["min"])
    weight: float | None = Field(None, ge=0, examples=[2.0])
    floor: float | RelativeFloor | None = Field(None, examples=[0.9, {"parent": "math", "minus": 0.02}])
    scale: tuple[float, float] | None = Field(None, examples=[[-5.0, 0.0]])

    @model_validator(mode="before")
    @classmethod
    def _options_beside(cls, data: object) -> Any:
        """Move the keys that only an evaluator knows into its options."""
        if not isinstance(data, dict) or data.get("evaluator") is None:
            return data
        known = {key: value for key, value in data.items() if key in cls.model_fields}
        beside = {key: value for key, value in data.items() if key not in cls.model_fields}
        return {**known, "options": {**_mapping(data.get("options")), **beside}}

    @model_validator(mode="after")
    def _one_source(self) -> "TaskEntry":
        if sum(source is not None for source in (self.task, self.scorer, self.evaluator)) != 1:
            raise ValueError(
                "needs exactly one of task: (an lm-eval task), scorer: (file.py:function) and evaluator: (its name)"
            )
        if self.options and self.evaluator is None:
            raise ValueError("options: has no effect without evaluator:; leave it out")
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}, expected [low, high] with low < high")
        return self


class PoolsEntry(StrictModel):
    """Items per task in each of the three disjoint pools.

    Attributes:
        search: that candidates are scored on.
        select: that finalists are scored on, to choose the pick.
        report: that the pick and references are scored on, last.
    """

    search: int = Field(256, ge=1, examples=[128])
    select: int = Field(256, ge=1, examples=[128])
    report: int = Field(512, ge=1, examples=[1000])


class SubsetEntry(StrictModel):
    """The items of the search pool that one candidate is scored on.

    Attributes:
        size: items per task; auto = few at first and more as differences shrink where the optimizer allows it, else 64.
        policy: rotate = another subset for each generation; fixed = always the same.
    """

    size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field("auto", examples=[32])
    policy: Literal["rotate", "fixed"] = Field("rotate", examples=["fixed"])


class BudgetEntry(StrictModel):
    """When the search ends: at whichever limit comes first.

    Attributes:
        candidates: that are scored; references are not counted. 400 where no limit is given.
        hours: of the whole run, references and proof included.
        items: that are scored in the search, those of references and of failed attempts included.
    """

    candidates: int | None = Field(None, ge=1, examples=[400])
    hours: float | None = Field(None, gt=0, examples=[8.0])
    items: int | None = Field(None, ge=1, examples=[100_000])

    @classmethod
    def default(cls) -> "BudgetEntry":
        """Return the budget of a search file that states none."""
        return cls(candidates=DEFAULT_CANDIDATES)

    @model_validator(mode="after")
    def _bounded(self) -> "BudgetEntry":
        if self.candidates is None and self.hours is None and self.items is None:
            raise ValueError("needs at least one of candidates:, hours: and items:")
        return self


class EngineEntry(StrictModel):
    """What writes the answers of tasks that generate.

    Attributes:
        name: transformers, or vllm (from an installation of its own; log-likelihoods stay with transformers).
        tensor_parallel: GPUs that vLLM spreads each tensor over; on a CPU, processes.
        max_length: tokens of a prompt and its answer that vLLM has memory for; without it, what the model reads, as
            far as memory goes.
        eager: whether vLLM runs without compiled graphs; without it, on a CPU.
    """

    name: Literal["transformers", "vllm"] = Field("transformers", examples=["vllm"])
    tensor_parallel: int = Field(1, ge=1, examples=[2])
    max_length: int | None = Field(None, ge=1, examples=[4096])
    eager: bool | None = Field(None, examples=[True])

    @model_validator(mode="after")
    def _heeded(self) -> "EngineEntry":
        given = sorted(self.model_fields_set - {"name"})
        if self.name == "transformers" and given:
            raise ValueError(f"{given[0]}: has no effect on transformers; leave it out, or set name: vllm")
        return self


def named(value: object) -> Any:
    """Return a name alone as a mapping without options, and anything else as it is."""
    return {"name": value} if isinstance(value, str) else value


def as_tokenizer(value: object) -> Any:
    """Return a source alone as a tokenizer without exceptions, and anything else as it is."""
    return {"source": value} if isinstance(value, str) else value


_TOKENIZER = {
    "anyOf": [{"type": "string"}, {"type": "object", "properties": {"source": {}, "tokens": {"type": "object"}}}],
}
_NAMED = {
    "anyOf": [{"type": "string"}, {"type": "object", "properties": {"name": {"type": "string"}}}],
}
_ENGINE = {
    "anyOf": [{"enum": ["transformers", "vllm"]}, {"type": "object", "properties": {"name": {"type": "string"}}}],
}


class WorkersEntry(StrictModel):
    """Who scores candidates.

    Attributes:
        count: processes; 0 = in this one, without Ray.
        threads: CPU threads of each worker.
        gpus: GPUs of each worker; fractions share one.
        address: of a Ray cluster; "auto" joins a running one; without it, one of this machine is started.
        batch_size: prompts that are run at once; where text is generated, more of the shorter ones.
        timeout: seconds for one candidate; without it, many times what candidates usually take.
        engine: what writes the answers of tasks that generate; `vllm` is short for {name: vllm}.
    """

    count: int = Field(2, ge=0, examples=[8])
    threads: int = Field(1, ge=1, examples=[4])
    gpus: float = Field(0.0, ge=0, examples=[0.5])
    address: str | None = Field(None, examples=["auto"])
    batch_size: int = Field(64, ge=1, examples=[16])
    timeout: float | None = Field(None, gt=0, examples=[600.0])
    engine: Annotated[EngineEntry, BeforeValidator(named), WithJsonSchema(_ENGINE)] = Field(
        default_factory=lambda: EngineEntry(), examples=["vllm"]
    )

    @model_validator(mode="after")
    def _heeded(self) -> "WorkersEntry":
        given = [name for name in ("address", "timeout") if getattr(self, name) is not None]
        if self.count == 0 and given:
            raise ValueError(f"{given[0]}: has no effect without Ray (count: 0); leave it out, or set a count")
        return self


class ProofEntry(StrictModel):
    """Who is re-scored on unseen items.

    Attributes:
        finalists: how many of the best candidates, besides the front and the mean.
        report: which references the pick is compared with on the report pool. "all" = every parent, simple merge and
            start recipe; "chosen" = the one of each of the three with the highest select score, which is cheaper but
            claims gains that are not there more often.
        front: whether the front's other members, as many as `finalists`, are scored on the report pool and judged, too,
            with Holm's correction for their number; auto = where the optimizer searches for a whole front.
        race: auto = finalists and references that are clearly worse after an eighth, a quarter or half of the select
            items are not scored on the rest, where all references are compared (`report: all`), no objective has a
            floor and no whole front is judged; off = all are scored on all of them.
        merges: how many averages of two members of the front are finalists, too, where several tasks leave a front and
            an average of two of the space's merges is a merge of the same parents (weights alone, by task_arithmetic
            or linear).
        ranking: how search scores on different items are made comparable to name the finalists. "effects" = ability of
            the candidate + easiness of the item; "irt" = MERGE^3's item-response model, in which a merge's ability is a
            mixture of its parents', for objectives whose item scores are from 0 to 1.
    """

    finalists: int = Field(8, ge=1, examples=[4])
    report: Literal["chosen", "all"] = Field("all", examples=["chosen"])
    front: bool | Literal["auto"] = Field("auto", examples=[True])
    race: Literal["auto", "off"] = Field("auto", examples=["off"])
    merges: int = Field(0, ge=0, examples=[3])
    ranking: Literal["effects", "irt"] = Field("effects", examples=["irt"])


class TrackerEntry(DescribedModel):
    """A tracker of the run: its name, and options of its own beside it.

    Attributes:
        name: of a built-in, registered or installed tracker.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(examples=["wandb"])

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class SearchEntry(StrictModel):
    """A whole search file.

    Attributes:
        parents: the models.
        space: which merges may be visited: a shipped name, a path, or the space itself.
        tokenizer: of every candidate, as in a recipe, where the parents' vocabularies differ: union (of all parents'
            tokens), base (the base's, or the first model's) or a parent; `union` is short for {source: union}.
        tasks: the objectives.
        task_path: folder of lm-eval task files of your own.
        lm_eval: settings of all lm-eval tasks.
        pools: items per task in each pool.
        subset: items of the search pool that one candidate is scored on.
        start: recipes of your own, scored with the references.
        optimizer: name and options; `cma` is short for {name: cma}. auto = guided for weights, catcma where there are
            choices or whole numbers.
        budget: when the search ends.
        workers: who scores candidates.
        proof: who is re-scored on unseen items.
        control: random = a random search of the same space with as many items follows, and its best candidate is one
            more rival of the pick.
        trackers: what receives the run's events; `jsonl` is short for {name: jsonl}.
        allow_test_split: tasks whose test split may be divided among the pools.
        allow_code: tasks that may run code that the model writes, or that are Python classes.
        seed: the only source of randomness.
    """

    parents: ParentsEntry = Field(examples=[{"base": "./models/base", "models": ["./models/math", "./models/code"]}])
    space: str | dict[str, Any] = Field(examples=["auto", "layerwise_ties"])
    tokenizer: Annotated[TokenizerEntry, BeforeValidator(as_tokenizer), WithJsonSchema(_TOKENIZER)] | None = Field(
        None, examples=["union", {"source": "./models/math", "pad_to_multiple_of": 64}]
    )
    tasks: list[TaskEntry] = Field(min_length=1, examples=[[{"task": "gsm8k"}]])
    task_path: str | None = Field(None, examples=["./tasks"])
    lm_eval: dict[str, Any] = Field(default_factory=dict, examples=[{"num_fewshot": 0, "apply_chat_template": True}])
    pools: PoolsEntry = Field(default_factory=lambda: PoolsEntry(), examples=[{"search": 128, "report": 1000}])
    subset: SubsetEntry = Field(default_factory=lambda: SubsetEntry(), examples=[{"size": 32}])
    start: list[str] = Field(default_factory=list, examples=[["my_merge.yaml"]])
    optimizer: Annotated[dict[str, Any], BeforeValidator(named), WithJsonSchema(_NAMED)] = Field(
        default_factory=dict, examples=["cma", {"name": "guided", "steps": 48}]
    )
    budget: BudgetEntry = Field(default_factory=BudgetEntry.default, examples=[{"hours": 8.0}])
    workers: WorkersEntry = Field(default_factory=lambda: WorkersEntry(), examples=[{"count": 4, "gpus": 1.0}])
    proof: ProofEntry = Field(default_factory=lambda: ProofEntry(), examples=[{"finalists": 4}])
    control: Literal["random"] | None = Field(None, examples=["random"])
    trackers: list[Annotated[TrackerEntry, BeforeValidator(named), WithJsonSchema(_NAMED)]] = Field(
        default_factory=list, examples=[["jsonl", {"name": "wandb", "project": "merges"}]]
    )
    allow_test_split: list[str] = Field(default_factory=list, examples=[["zoo_add"]])
    allow_code: list[str] = Field(default_factory=list, examples=[["humaneval"]])
    seed: int = Field(0, ge=0, examples=[7])


def search_schema() -> dict[str, Any]:
    """Return the JSON Schema of a search file."""
    return json_schema(SearchEntry)


class ReadEntry(NamedTuple):
    """What the schema made of a search file.

    Attributes:
        entry: with stand-ins for `broken` sections; None if the file is no mapping.
        problems: everything that does not fit the schema.
        broken: required sections that cannot be used at all; what depends on them cannot be checked.
    """

    entry: SearchEntry | None
    problems: list[Problem]
    broken: Collection[str]


_STAND_INS: Mapping[str, Any] = {"parents": {"models": ["-"]}, "space": {}, "tasks": [{"task": "-"}]}


def read_entry(data: object, where: str) -> ReadEntry:
    """Hold a search file against its schema, so that sections that fit can be checked whatever the others hold."""
    entry, problems = check_document(SearchEntry, data, where)
    if entry is not None or not isinstance(data, Mapping):
        return ReadEntry(entry, problems, ())
    places = [problem.where.removeprefix(f"{where}: ").partition(".")[0] for problem in problems]
    kept = {key: value for key, value in data.items() if key in SearchEntry.model_fields and key not in places}
    broken = [key for key in _STAND_INS if key not in kept]
    stood_in = check_document(SearchEntry, {**kept, **{key: _STAND_INS[key] for key in broken}}, where)
    return ReadEntry(stood_in.value, problems, broken)


def with_overrides(data: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    """Return a search file's data with a caller's values in place.

    Args:
        data: what the file holds.
        values: hours, candidates, workers (their count), seed, control; None = as the file says.
    """
    result = dict(data)
    for name in ("hours", "candidates"):
        if values.get(name) is not None:
            result["budget"] = {**_mapping(result.get("budget")), name: values[name]}
    if values.get("workers") is not None:
        result["workers"] = {**_mapping(result.get("workers")), "count": values["workers"]}
    for name in ("seed", "control"):
        if values.get(name) is not None:
            result[name] = values[name]
    return result


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def resolve(folder: Path, path: str) -> Path:
    """Return a path of a search file, which starts at the file's own folder."""
    return (folder / Path(path).expanduser()).resolve()
