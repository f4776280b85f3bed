"""`prepare`: from the tasks of a search file to items, on the driver, with every problem at once."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evomerge.errors import InvalidFile, Problem
from evomerge.evaluation._items import AnswerLimits, ScorerItems, TaskItems
from evomerge.evaluation._metrics import Measure, choose_measure
from evomerge.evaluation._prepared import Prepared
from evomerge.evaluation._python_scorer import parse_scorer, prepare_scorer
from evomerge.evaluation._rng import isolated_randomness
from evomerge.evaluation._task import check_metric, keep_metrics
from evomerge.evaluation.prepare._loader import Loader
from evomerge.evaluation.prepare._options import Options, read_options, unused_names
from evomerge.evaluation.prepare._request import (
    Member,
    PoolSizes,
    Refused,
    TaskRequest,
)
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
    members: dict[str, tuple[Member, ...]] = field(default_factory=dict)
    measures: dict[str, Measure] = field(default_factory=dict)
    weights: dict[str, Mapping[int, float]] = field(default_factory=dict)

    def add(
        self,
        objective: Objective,
        members: Sequence[Member],
        pools: Mapping[Pool, tuple[int, ...]],
        facts: Mapping[str, Any],
    ) -> None:
        """Add one objective. Raises Refused when its name is taken."""
        name = objective.name
        if name in self.pools:
            raise Refused(f'there are two objectives called "{name}"')
        self.objectives.append(objective)
        self.pools[name], self.facts[name], self.members[name] = pools, facts, tuple(members)


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
            loader = Loader(
                task_path=task_path,
                pools=pools,
                seed=seed,
                options=options,
                allow_test_split=allow_test_split,
                chat_template=_chat_template(options, tokenizer),
            )
            _prepare_all(draft, requests, pools, seed, loader)
    if draft.problems:
        raise InvalidFile(draft.problems)
    return Prepared(
        objectives=tuple(draft.objectives),
        pools=draft.pools,
        facts=draft.facts,
        notes=tuple(dict.fromkeys(draft.notes)),
        _sources=draft.sources,
        _members=draft.members,
        _measures=draft.measures,
        _weights=draft.weights,
        _model_options=options.model,
        _answer_limits=AnswerLimits(seconds=options.max_gen_seconds, cut=options.max_cut_answers),
    )


def _chat_template(options: Options, tokenizer: Any) -> Callable[..., str] | None:
    """Return the function that renders chats, when prompts are to be chats."""
    if not options.apply_chat_template:
        return None
    from evomerge.evaluation import _lm_eval

    return _lm_eval.chat_renderer(tokenizer, options.chat_template_args)


def _prepare_all(draft: _Draft, requests: Sequence[TaskRequest], pools: PoolSizes, seed: int, loader: Loader) -> None:
    """Prepare each request, keeping what is wrong with it."""
    uses = Counter(request.task for request in requests)
    for request in requests:
        try:
            if (request.task is None) == (request.scorer is None):
                raise Refused("name either a task or a scorer")
            if request.task is None:
                _add_scorer(draft, request, pools, seed)
            elif loader.is_group(request.task):
                _add_group(draft, request, loader, repeated=uses[request.task] > 1)
            else:
                _add_task(draft, request, loader, repeated=uses[request.task] > 1)
        except Refused as refusal:
            draft.problems.append(Problem(f"{request.where} ({request.task or request.scorer})", str(refusal)))


def _add_task(draft: _Draft, request: TaskRequest, loader: Loader, *, repeated: bool) -> None:
    """Add an objective that is a metric of a task."""
    from evomerge.evaluation import _lm_eval

    survey, prepared = loader.task(request)
    task, name = survey.loaded.task, survey.loaded.name
    aggregations = {name: _lm_eval.aggregation_name(how) for name, how in task.aggregation().items()}
    filters = [ensemble.name for ensemble in task._filters]
    measure = choose_measure(request.metric, aggregations, task.higher_is_better(), filters)
    check_metric(task, next(iter(prepared.packed.items.values())), measure)
    objective = _objective(request, name, measure, repeated=repeated)
    facts = {"lm_eval": _lm_eval.VERSION, **prepared.facts, **_scored_by(measure)}
    draft.add(objective, [Member(source=name, numbers=range(survey.total))], prepared.pools, facts)
    draft.measures[objective.name] = measure
    used = {draft.measures[one].metric for one, members in draft.members.items() if members[0].source == name}
    draft.sources[name] = keep_metrics(prepared.packed, used)
    draft.notes += [f"{name} {note}" for note in prepared.notes]
    if request.metric is None and len(aggregations) > 1:
        others = ", ".join(name for name in aggregations if name != measure.metric)
        draft.notes.append(f"{name} is scored by {measure.metric}, its first metric (it also has: {others})")


def _add_group(draft: _Draft, request: TaskRequest, loader: Loader, *, repeated: bool) -> None:
    """Add an objective that is a metric of a group or tag."""
    from evomerge.evaluation import _lm_eval

    name, prepared = str(request.task), loader.group(request)
    objective = _objective(request, name, prepared.measure, repeated=repeated)
    facts = {"lm_eval": _lm_eval.VERSION, **prepared.facts, **_scored_by(prepared.measure)}
    members = []
    used = {prepared.measure.metric, *(draft.measures[one.name].metric for one in draft.objectives if one.task == name)}
    for task, one in prepared.tasks.items():
        source = f"{name}: {task}"
        draft.sources[source] = keep_metrics(one.packed, used)
        first = prepared.offsets[task]
        members.append(Member(source=source, numbers=range(first, first + sum(one.facts["documents"].values()))))
    draft.add(objective, members, prepared.pools, facts)
    draft.measures[objective.name] = prepared.measure
    if prepared.weights is not None:
        draft.weights[objective.name] = prepared.weights
    draft.notes += [f"{name} {note}" for note in prepared.notes]
    if request.metric is None:
        draft.notes.append(f"{name} is scored by {objective.metric}, the first metric that it averages")


def _objective(request: TaskRequest, name: str, measure: Measure, *, repeated: bool) -> Objective:
    """Return the objective of an lm-eval task or group."""
    metric = request.metric or measure.metric
    return Objective(
        name=f"{name}/{metric}" if repeated else name,
        task=name,
        metric=metric,
        direction=measure.direction,
        link=measure.link,
        weight=request.weight,
        floor=request.floor,
        scale=request.scale,
    )


def _scored_by(measure: Measure) -> dict[str, str]:
    """Return the facts that name a metric."""
    return {"metric": measure.metric, "filter": measure.filter, "aggregation": measure.aggregation}


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
    draft.add(objective, [Member(source=packed.name, numbers=range(max(packed.items, default=0) + 1))], pools, facts)
    draft.sources[packed.name] = packed
    draft.notes.append(f"{name} has a single set of items, divided among the pools")
