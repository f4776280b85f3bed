"""lm-eval tasks, groups and tags: lm-eval's own prompts, filters and metrics, scored with few forward passes.

tasks:
  - {task: arc_easy, metric: acc_norm}
  - {task: mmlu, weight: 2}
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evomerge.evaluation._evaluator import BoundTasks, GeneratingEvaluator, PrepareContext, PreparedTask, TaskNeeds
from evomerge.evaluation._items import AnswerLimits, ItemRange, LmEvalItems, TaskItems
from evomerge.evaluation._request import InvalidTask
from evomerge.evaluation.metrics import Measure
from evomerge.evaluation.prepare import TaskLoader, clusters_of, count_tokens, measure_of
from evomerge.records import ItemScores, Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evomerge.evaluation.generation import Generator

_SHARED = "lm_eval_task"  # key of the loader among what the entries of a search share


class LmEvalTask(GeneratingEvaluator):
    """An lm-eval task, group or tag by name."""

    name = "lm_eval_task"
    description = "an lm-eval task, group or tag"
    only_reads = True  # a task's code gets documents and answers

    def prepare(self, options: Mapping[str, Any], context: PrepareContext) -> PreparedTask:
        """Load a task or group, divide its documents into pools and build their prompts.

        Args:
            options: none; the entry's `task`, `metric` and `num_fewshot` say everything.
            context: the search around the entry.

        Raises:
            InvalidTask: the task does not exist, cannot be loaded, or its metric is not known.
        """
        if options:
            raise InvalidTask(f"a task has no option {next(iter(options))!r}")
        if context.request.task is None:
            raise InvalidTask("needs task:, the name of an lm-eval task, group or tag")
        if context.request.items is not None or context.request.direction != "max":
            raise InvalidTask("items: and direction: are a scorer's; an lm-eval task has its own")
        if _SHARED not in context.shared:
            context.shared[_SHARED] = TaskLoader(settings=context.lm_eval, pools=context.pools, seed=context.seed)
        loader: TaskLoader = context.shared[_SHARED]
        if loader.is_group(context.request.task):
            return _prepare_group(context, loader)
        return _prepare_task(context, loader)

    def score(
        self,
        task: PreparedTask,
        ids: Sequence[int],
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
    ) -> ItemScores:
        """Score items of one objective (see `LmEvalScorer`)."""
        name = task.objective.name
        return self.bind({name: task}, model, tokenizer, batch_size=batch_size).score({name: ids})[name]

    def bind(
        self,
        tasks: Mapping[str, PreparedTask],
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
        generator: "Generator | None" = None,
    ) -> BoundTasks:
        """Return the tasks bound to a model; objectives that are metrics of one task share its forward passes.

        Raises:
            InvalidInput: the tokenizer and the model, or a task and the model's length, do not fit.
        """
        from evomerge.evaluation.score import LmEvalScorer

        packed = {name: task.items for name, task in tasks.items()}
        return LmEvalScorer(packed, model, tokenizer, batch_size=batch_size, generator=generator)

    def needs(self, task: PreparedTask) -> TaskNeeds:
        """Say whether a task generates answers, or reads log-likelihoods; a group may do both."""
        generates = {source.output_type == "generate_until" for source in task.items.sources.values()}
        return TaskNeeds(text=True in generates, model=False in generates)

    def describe(self, task: PreparedTask, number: int) -> str:
        """Return the prompt, and what may follow it where there are choices."""
        return _describe(task.items, number)

    def tokens(
        self,
        tasks: Mapping[str, PreparedTask],
        items: Mapping[str, Sequence[int]],
        tokenizer: "PreTrainedTokenizerBase",
    ) -> int:
        """Return about how many tokens are read and written (see `Prepared.tokens`)."""
        return count_tokens({name: task.items for name, task in tasks.items()}, items, tokenizer)


def _describe(items: LmEvalItems, number: int) -> str:
    """Return an item's prompt and its choices, which are several requests with one prompt."""
    part = next(part for part in items.ranges if number in part.numbers)
    requests = items.sources[part.source].items[number - part.numbers.start].requests
    prompt = str(requests[0].arguments[0])
    choices = [str(r.arguments[1]) for r in requests if r.kind == "loglikelihood" and r.arguments[0] == prompt]
    return prompt + (f" [{' | '.join(choice.strip() for choice in choices)}]" if choices else "")


def _prepare_task(context: PrepareContext, loader: TaskLoader) -> PreparedTask:
    """Return an objective that is a metric of a task."""
    request = context.request
    documents, prepared = loader.task(request)
    task, name = documents.loaded.task, documents.loaded.name
    measure, metrics = measure_of(task, prepared.packed, request.metric)
    notes = list(prepared.notes)
    if request.metric is None and len(metrics) > 1:
        others = ", ".join(metric for metric in metrics if metric != measure.metric)
        notes.append(f"is scored by {measure.metric}, its first metric (it also has: {others})")
    if measure.parts is not None:
        notes.append(
            f"is scored by {measure.metric}, a metric of the whole set of items: intervals resample items through it, "
            "and candidates of different subsets are compared without adjustment for the difficulty of their items"
        )
    return _prepared(
        context,
        name,
        measure=measure,
        pools=prepared.pools,
        facts=prepared.facts,
        notes=notes,
        sources={name: prepared.packed},
        ranges=(ItemRange(source=name, numbers=range(documents.total)),),
    )


def _prepare_group(context: PrepareContext, loader: TaskLoader) -> PreparedTask:
    """Return an objective that is a metric of a group or tag."""
    name, prepared = str(context.request.task), loader.group(context.request)
    ranges = []
    for task, pooled in prepared.tasks.items():
        first = prepared.offsets[task]
        numbers = range(first, first + sum(pooled.facts["documents"].values()))
        ranges.append(ItemRange(source=f"{name}: {task}", numbers=numbers))
    notes = list(prepared.notes)
    if context.request.metric is None:
        notes.append(f"is scored by {prepared.measure.metric}, the first metric that it averages")
    return _prepared(
        context,
        name,
        measure=prepared.measure,
        pools=prepared.pools,
        facts=prepared.facts,
        notes=notes,
        sources={f"{name}: {task}": pooled.packed for task, pooled in prepared.tasks.items()},
        ranges=tuple(ranges),
        weights=prepared.weights,
    )


def _prepared(
    context: PrepareContext,
    name: str,
    *,
    measure: Measure,
    pools: Any,
    facts: Mapping[str, Any],
    notes: Sequence[str],
    sources: Mapping[str, TaskItems],
    ranges: tuple[ItemRange, ...],
    weights: Mapping[int, float] | None = None,
) -> PreparedTask:
    """Return the prepared task of a task or group."""
    from evomerge.evaluation import _lm_eval

    options = context.lm_eval.options
    scored_by = {"metric": measure.metric, "filter": measure.filter, "aggregation": measure.aggregation}
    requests = (item.requests[0] for source in sources.values() for item in source.items.values())
    return PreparedTask(
        objective=_objective(context, name, measure),
        pools=pools,
        facts={"lm_eval": _lm_eval.VERSION, **facts, **scored_by},
        notes=tuple(f"{name} {note}" for note in notes),
        prompt=next(filter(None, (str(request.arguments[0]) for request in requests)), ""),
        clusters=_clusters(sources, ranges),
        # Log-likelihoods show a broken model; generated text would hide it.
        guards_itself=all(source.output_type != "generate_until" for source in sources.values()),
        items=LmEvalItems(
            sources=sources,
            ranges=ranges,
            measure=measure,
            weights=weights,
            model_options=options.model,
            answer_limits=AnswerLimits(seconds=options.max_gen_seconds, cut=options.max_cut_answers),
        ),
    )


def _clusters(sources: Mapping[str, TaskItems], ranges: Sequence[ItemRange]) -> dict[int, str]:
    """Return item number -> its cluster, in the objective's numbering; tasks of a group share none."""
    found = {}
    for part in ranges:
        source = sources[part.source]
        for number, cluster in clusters_of({i: item.doc for i, item in source.items.items()}).items():
            found[part.numbers.start + number] = f"{source.name}/{cluster}"
    return found


def _objective(context: PrepareContext, name: str, measure: Measure) -> Objective:
    """Return the objective of a task or group; where a task is named twice, the metric tells them apart."""
    metric = context.request.metric or measure.metric
    repeated = sum(request.task == name for request in context.requests) > 1
    return context.objective(
        f"{name}/{metric}" if repeated else name,
        task=name,
        metric=metric,
        direction=measure.direction,
        link=measure.link,
        weight=0.0 if measure.counts_tokens else 1.0,
    )
