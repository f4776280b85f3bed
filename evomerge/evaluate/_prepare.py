"""`prepare`: from the tasks of a search file to items, on the driver, with every problem at once."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evomerge.errors import InvalidFile, Problem, did_you_mean
from evomerge.evaluate._items import ScorerItems, TaskItems
from evomerge.evaluate._metrics import Measure, choose_measure
from evomerge.evaluate._options import Options, read_options, unused_names
from evomerge.evaluate._prepare_task import PreparedTask, prepare_task
from evomerge.evaluate._prepared import Prepared
from evomerge.evaluate._python import parse_scorer, prepare_scorer
from evomerge.evaluate._random import isolated_randomness
from evomerge.evaluate._request import PoolSizes, Refused, TaskRequest, UnknownName
from evomerge.evaluate._task import LoadedTask, check_metric, keep_metrics, load_task
from evomerge.records import Objective, Pool


@dataclass(slots=True)
class _Draft:
    """What has been prepared so far, and what was wrong."""

    problems: list[Problem]
    objectives: list[Objective] = field(default_factory=list)
    pools: dict[str, Mapping[Pool, tuple[int, ...]]] = field(default_factory=dict)
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sources: dict[str, TaskItems | ScorerItems] = field(default_factory=dict)
    source_of: dict[str, str] = field(default_factory=dict)
    measures: dict[str, Measure] = field(default_factory=dict)

    def add(self, objective: Objective, source: str, pools: Mapping[Pool, tuple[int, ...]], facts: Any) -> None:
        """Add one objective. Raises Refused when its name is taken."""
        name = objective.name
        if name in self.pools:
            raise Refused(f'there are two objectives called "{name}"')
        self.objectives.append(objective)
        self.pools[name], self.facts[name], self.source_of[name] = pools, facts, source


def prepare(
    requests: Sequence[TaskRequest],
    *,
    task_path: Path | None,
    pools: PoolSizes,
    seed: int,
    lm_eval_options: Mapping[str, Any] | None = None,
    allow_test_split: Collection[str] = (),
    tokenizer: Any = None,
) -> Prepared:
    """Load tasks, divide their documents into pools and build their prompts.

    Runs on the driver; it may load data sets from the Hub, workers never do. The same arguments and data give the
    same items in any process.

    Args:
        requests: the objectives, in order.
        task_path: folder of the user's own lm-eval task files; its Python, where they name some, is run.
        pools: items per task. seed: of the division into pools.
        lm_eval_options: num_fewshot, apply_chat_template, max_gen_toks, ... (see `_options.py`).
        allow_test_split: tasks whose every pool may come from the split that is otherwise kept for the report.
        tokenizer: needed only for apply_chat_template.

    Raises: InvalidFile, with every problem of every entry.
    """
    options, problems = read_options(lm_eval_options or {})
    draft = _Draft(problems)
    draft.problems += unused_names(allow_test_split, [one.task for one in requests if one.task])
    if options.apply_chat_template and getattr(tokenizer, "chat_template", None) is None:
        draft.problems.append(Problem("lm_eval.apply_chat_template", "is set, but the tokenizer has no chat template"))
    elif not requests:
        draft.problems.append(Problem("tasks", "is empty; name at least one task"))
    elif task_path is not None and not task_path.is_dir():
        draft.problems.append(Problem("task_path", f"{task_path} is not a folder"))
    else:
        with isolated_randomness():
            template = _chat_template(options, tokenizer)
            _prepare_all(draft, requests, task_path, pools, seed, options, allow_test_split, template)
    if draft.problems:
        raise InvalidFile(draft.problems)
    return Prepared(
        objectives=tuple(draft.objectives),
        pools=draft.pools,
        facts=draft.facts,
        notes=tuple(dict.fromkeys(draft.notes)),
        _sources=draft.sources,
        _source_of=draft.source_of,
        _measures=draft.measures,
        _model_options=options.model,
    )


def _chat_template(options: Options, tokenizer: Any) -> Callable[..., str] | None:
    """Return the function that renders chats, when prompts are to be chats."""
    if not options.apply_chat_template:
        return None
    from evomerge.evaluate import _lm_eval

    return _lm_eval.chat_renderer(tokenizer, options.chat_template_args)


def _prepare_all(
    draft: _Draft,
    requests: Sequence[TaskRequest],
    task_path: Path | None,
    pools: PoolSizes,
    seed: int,
    options: Options,
    allow_test_split: Collection[str],
    template: Callable[..., str] | None,
) -> None:
    """Prepare each request, keeping what is wrong with it; a task that is named twice is loaded once."""
    uses = Counter(request.task for request in requests)
    loaded: dict[str, tuple[LoadedTask, PreparedTask] | Refused] = {}
    index = _index(task_path) if any(request.task for request in requests) else None

    def task_of(name: str) -> tuple[LoadedTask, PreparedTask]:
        if name not in loaded:
            try:
                with isolated_randomness():  # one task's loading must not depend on the others'
                    task = load_task(name, index, options)
                    loaded[name] = (
                        task,
                        prepare_task(
                            task,
                            sizes=pools,
                            seed=seed,
                            options=options,
                            allow_test_split=allow_test_split,
                            chat_template=template,
                        ),
                    )
            except UnknownName:
                loaded[name] = Refused(_unknown_text(name, index))
            except Refused as refusal:
                loaded[name] = refusal
        found = loaded[name]
        if isinstance(found, Refused):
            raise found
        return found

    for request in requests:
        try:
            if (request.task is None) == (request.scorer is None):
                raise Refused("name either a task or a scorer")
            if request.task is not None:
                _add_task(draft, request, *task_of(request.task), repeated=uses[request.task] > 1)
            else:
                _add_scorer(draft, request, pools, seed)
        except Refused as refusal:
            draft.problems.append(Problem(f"{request.where} ({request.task or request.scorer})", str(refusal)))


def _index(task_path: Path | None) -> Any:
    """Return lm-eval's index of task names (importing lm-eval takes seconds, and scorers alone do not need it)."""
    from evomerge.evaluate import _lm_eval

    return _lm_eval.Index(task_path)


def _unknown_text(name: str, index: Any) -> str:
    """Return what to say of a name that lm-eval does not know."""
    broken = "; ".join(f"{file} cannot be read: {error}" for file, error in index.unreadable().items())
    place = "in task_path or lm-eval" if index.folder else "in lm-eval"
    return f"there is no task of this name {place}.{did_you_mean(name, index.names())}" + (
        f" ({broken})" if broken else ""
    )


def _add_task(
    draft: _Draft, request: TaskRequest, loaded: LoadedTask, prepared: PreparedTask, *, repeated: bool
) -> None:
    """Add an objective that is a metric of a task."""
    from evomerge.evaluate import _lm_eval

    task = loaded.task
    aggregations = {name: _lm_eval.aggregation_name(how) for name, how in task.aggregation().items()}
    filters = [ensemble.name for ensemble in task._filters]
    measure = choose_measure(request.metric, aggregations, task.higher_is_better(), filters)
    check_metric(task, next(iter(prepared.packed.items.values())), measure)
    metric = request.metric or measure.metric
    objective = Objective(
        name=f"{loaded.name}/{metric}" if repeated else loaded.name,
        task=loaded.name,
        metric=metric,
        direction=measure.direction,
        link=measure.link,
        weight=request.weight,
        floor=request.floor,
        scale=request.scale,
    )
    facts = {"lm_eval": _lm_eval.VERSION, **prepared.facts, "metric": measure.metric, "filter": measure.filter}
    draft.add(objective, loaded.name, prepared.pools, facts | {"aggregation": measure.aggregation})
    draft.measures[objective.name] = measure
    used = {draft.measures[name].metric for name, source in draft.source_of.items() if source == loaded.name}
    draft.sources[loaded.name] = keep_metrics(prepared.packed, used)
    draft.notes += prepared.notes
    if request.metric is None and len(aggregations) > 1:
        others = ", ".join(name for name in aggregations if name != metric)
        draft.notes.append(f"{loaded.name} is scored by {metric}, its first metric (it also has: {others})")


def _add_scorer(draft: _Draft, request: TaskRequest, sizes: PoolSizes, seed: int) -> None:
    """Add an objective that is a Python function."""
    scorer = str(request.scorer)
    packed, pools, facts = prepare_scorer(scorer, request.items, request.direction, sizes, seed)
    name = parse_scorer(scorer)[1]
    objective = Objective(
        name=name,
        task=name,
        metric=name,
        direction=request.direction,
        weight=request.weight,
        floor=request.floor,
        scale=request.scale,
    )
    draft.add(objective, f"{packed.name}", pools, facts)
    draft.sources[packed.name] = packed
    draft.notes.append(f"{name} has a single set of items, divided among the pools")
