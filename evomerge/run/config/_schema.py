"""The YAML of a search: what a person writes to start a run."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from evomerge.recipe import ModelField, StrictModel, json_schema


class ParentsEntry(StrictModel):
    """base: the common ancestor that task vectors are taken against. models: what is merged."""

    base: ModelField | None = None
    models: list[ModelField] = Field(min_length=1)


class RelativeFloor(StrictModel):
    """A floor below a parent's own score: that parent's, minus this much."""

    parent: str
    minus: float = 0.0


class TaskEntry(StrictModel):
    """One objective: an lm-eval task, group or tag, or a Python function with items of its own.

    num_fewshot: of this task; None = as `lm_eval:` and the task say.
    """

    task: str | None = None
    scorer: str | None = None
    items: str | None = None
    metric: str | None = None
    num_fewshot: int | None = Field(None, ge=0)
    direction: Literal["max", "min"] = "max"
    weight: float = Field(1.0, gt=0)
    floor: float | RelativeFloor | None = None
    scale: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "TaskEntry":
        if (self.task is None) == (self.scorer is None):
            raise ValueError("needs exactly one of task: (an lm-eval task) and scorer: (file.py:function)")
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}, expected [low, high] with low < high")
        return self


class PoolsEntry(StrictModel):
    """Items per task in each of the three disjoint pools."""

    search: int = Field(256, ge=1)
    select: int = Field(256, ge=1)
    report: int = Field(512, ge=1)


class SubsetEntry(StrictModel):
    """Items per task one candidate is scored on. rotate: another subset each generation; fixed: always the same."""

    size: int = Field(64, ge=1)
    policy: Literal["rotate", "fixed"] = "rotate"


class BudgetEntry(StrictModel):
    """When the search ends: whichever comes first. hours includes the time of the proof."""

    candidates: int | None = Field(None, ge=1)
    hours: float | None = Field(None, gt=0)
    items: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _bounded(self) -> "BudgetEntry":
        if self.candidates is None and self.hours is None and self.items is None:
            raise ValueError("needs at least one of candidates:, hours: and items:")
        return self


class WorkersEntry(StrictModel):
    """count: 0 = in this process, without Ray. gpus: for each worker. timeout: seconds for one candidate."""

    count: int = Field(2, ge=0)
    threads: int = Field(1, ge=1)
    gpus: float = Field(0.0, ge=0)
    address: str | None = None
    batch_size: int = Field(64, ge=1)
    timeout: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _heeded(self) -> "WorkersEntry":
        given = [name for name in ("address", "timeout") if getattr(self, name) is not None]
        if self.count == 0 and given:
            raise ValueError(f"{given[0]}: has no effect without Ray (count: 0); leave it out, or set a count")
        return self


class ProofEntry(StrictModel):
    """finalists: how many of the best candidates are re-scored, besides the front and the mean.

    report: "chosen" scores the pick, the best parent and the best simple merge on the report pool; "all" scores every
    parent and every simple merge there too.
    """

    finalists: int = Field(8, ge=1)
    report: Literal["chosen", "all"] = "chosen"


def _read_named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class TrackerEntry(BaseModel):
    """A tracker: its name, and options of its own beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


_NAMED = {
    "anyOf": [{"type": "string"}, {"type": "object", "properties": {"name": {"type": "string"}}}],
}


class SearchEntry(StrictModel):
    """A whole search file."""

    parents: ParentsEntry
    space: str | dict[str, Any]
    tasks: list[TaskEntry] = Field(min_length=1)
    task_path: str | None = None
    lm_eval: dict[str, Any] = Field(default_factory=dict)
    pools: PoolsEntry = Field(default_factory=lambda: PoolsEntry())
    subset: SubsetEntry = Field(default_factory=lambda: SubsetEntry())
    start: list[str] = Field(default_factory=list)
    optimizer: Annotated[dict[str, Any], BeforeValidator(_read_named), WithJsonSchema(_NAMED)] = Field(
        default_factory=dict
    )
    budget: BudgetEntry = Field(default_factory=lambda: BudgetEntry(candidates=400))
    workers: WorkersEntry = Field(default_factory=lambda: WorkersEntry())
    proof: ProofEntry = Field(default_factory=lambda: ProofEntry())
    trackers: list[Annotated[TrackerEntry, BeforeValidator(_read_named), WithJsonSchema(_NAMED)]] = Field(
        default_factory=list
    )
    allow_test_split: list[str] = Field(default_factory=list)
    seed: int = Field(0, ge=0)


def search_schema() -> dict[str, Any]:
    """Return the JSON Schema of a search file."""
    return json_schema(SearchEntry)


# What may differ between two calls of one run: it changes how long the night is, never what a score means.
FREE_KEYS = ("budget", "workers", "trackers")


def overridden(data: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Return a search file's data with command-line values in place: hours, candidates, workers, seed."""
    result = dict(data)
    for name in ("hours", "candidates"):
        if values.get(name) is not None:
            result["budget"] = {**_mapping(result.get("budget")), name: values[name]}
    if values.get("workers") is not None:
        result["workers"] = {**_mapping(result.get("workers")), "count": values["workers"]}
    if values.get("seed") is not None:
        result["seed"] = values["seed"]
    return result


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def resolve(folder: Path, path: str) -> Path:
    """Return a path of a search file, which starts at the file's own folder."""
    return (folder / Path(path).expanduser()).resolve()
