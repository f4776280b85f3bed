"""One lm-eval task: loaded with its data, and cut into items that need no data."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import first_line
from evomerge.evaluation._items import ModelRequest, TaskItem, TaskItems, answer_limit
from evomerge.evaluation._request import InvalidTask, LmEvalOptions
from evomerge.evaluation._task_answers import code_replaced, processed
from evomerge.evaluation._user_code import FunctionRef, functions_of, with_functions
from evomerge.evaluation.metrics import ANSWER_TOKENS, Measure, choose_measure
from evomerge.evaluation.prepare._group import TaskConfig
from evomerge.evaluation.prepare._task_config import accept, anchor_files, config_digest, runs_code

# Parts of a configuration that mean nothing without the data set.
_NEEDS_DATA = {"process_docs", "dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "num_fewshot"}
_CLASS_SPLITS = ("training", "validation", "test")  # what a Python class calls its documents
_NEEDS_DATA |= {"fewshot_config", "fewshot_split", "training_split", "validation_split", "test_split"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTask:
    """A task with its data.

    Attributes:
        name: of the task.
        config: as read, before data files were made absolute.
        task: lm-eval's.
        functions: the code it runs.
        digest: of the configuration and its functions.
    """

    name: str
    config: Mapping[str, Any]
    task: Any
    functions: tuple[FunctionRef, ...]
    digest: str

    def documents(self, split: str) -> Sequence[Any]:
        """Return the documents of a split, processed as the task asks. Raises InvalidTask when there is none."""
        if "class" in self.config:
            return list(getattr(self.task, f"{split}_docs")())
        if split not in self.task.dataset:
            raise InvalidTask(f'its data has no split "{split}" (it has: {", ".join(self.task.dataset)})')
        docs = self.task.dataset[split]
        process = self.task.config.process_docs
        return list(process(docs) if process else docs)


def load_task(source: TaskConfig, options: LmEvalOptions, *, allow_code: bool) -> LoadedTask:
    """Check a task and load its data.

    Args:
        source: the task.
        options: for its prompts.
        allow_code: whether it may run code that a model writes, or be a Python class.

    Raises:
        InvalidTask: with a sentence for the user.
    """
    from evomerge.evaluation import _lm_eval

    config = dict(source.config)
    accept(config, source.name, allow_code=allow_code)
    for key in ("tag", "group", "task_list"):
        config.pop(key, None)
    if not isinstance(config.get("metadata") or {}, dict):
        config["metadata"] = {"version": config["metadata"]}
    digest = config_digest(config)
    try:
        with code_replaced(config):
            task = _lm_eval.new_task(with_functions(anchor_files(config, source.folder) if source.folder else config))
    except InvalidTask:
        raise
    except StopIteration as error:
        raise InvalidTask("one of its splits has no documents") from error
    except Exception as error:
        text = f"lm-eval could not load it: {type(error).__name__}: {first_line(error)}"
        raise InvalidTask(text) from error
    if "class" in config:
        for split in _CLASS_SPLITS:
            task.set_config(f"{split}_split", split if getattr(task, f"has_{split}_docs")() else None)
    _apply_options(task, options)
    return LoadedTask(name=source.name, config=config, task=task, functions=tuple(functions_of(config)), digest=digest)


def _apply_options(task: Any, options: LmEvalOptions) -> None:
    """Override a task's settings as lm-eval's command line would."""
    own = task.get_config("num_fewshot")
    if options.num_fewshot is not None and own != 0:  # lm-eval: a task that says 0 means it
        task.set_config("num_fewshot", options.num_fewshot)
    elif own is None:
        task.set_config("num_fewshot", 0)
    if task.OUTPUT_TYPE == "generate_until":
        task.set_config("generation_kwargs", dict(options.gen_kwargs), update=True)
        if options.max_gen_toks is not None:
            kwargs = task.get_config("generation_kwargs")
            kwargs["max_gen_toks"] = min(answer_limit(kwargs), options.max_gen_toks)
    task.set_fewshot_seed(options.fewshot_random_seed)


def document_key(task: Any, doc: Any) -> str:
    """Return a hash of what a document asks and answers: two documents with one key are the same question.

    Raises:
        InvalidTask: the task cannot render the document.
    """
    try:
        text: list[Any] = [task.doc_to_text(doc), task.doc_to_target(doc)]
        if task.config.doc_to_choice is not None:
            text.append(task.doc_to_choice(doc))
    except Exception as error:
        raise InvalidTask(f"one of its documents cannot be rendered: {type(error).__name__}: {error}") from error
    return hashlib.sha256(json.dumps(text, default=str).encode()).hexdigest()


def build_items(
    task: Any,
    docs: Sequence[Any],
    wanted: Mapping[int, int],
    options: LmEvalOptions,
    chat_template: Callable[..., str] | None,
) -> dict[int, TaskItem]:
    """Build the prompts of some documents of one split, exactly as lm-eval would over the whole split.

    Args:
        task: lm-eval's.
        docs: of one split.
        wanted: position in `docs` -> item number.
        options: for prompts.
        chat_template: where prompts are chats.

    Returns:
        item number -> item.
    """
    task.set_fewshot_seed(options.fewshot_random_seed)
    shots = task.config.num_fewshot or 0
    names_doc = task.fewshot_cfg.split == task.config.test_split
    items = {}
    for position, doc in enumerate(docs[: max(wanted, default=-1) + 1]):
        if position not in wanted:
            # The examples of each prompt come from one random stream, which every document moves on.
            if shots:
                task.sampler.sample(n=shots, eval_doc=doc if names_doc else None)
            continue
        items[wanted[position]] = _build_item(task, doc, shots, options, chat_template)
    return items


def _build_item(
    task: Any, doc: Any, shots: int, options: LmEvalOptions, chat_template: Callable[..., str] | None
) -> TaskItem:
    """Build one document's prompt and questions."""
    chat = {"apply_chat_template": options.apply_chat_template, "chat_template": chat_template}
    context = task.fewshot_context(
        doc,
        num_fewshot=shots,
        system_instruction=options.system_instruction,
        fewshot_as_multiturn=options.fewshot_as_multiturn and options.apply_chat_template,
        gen_prefix=task.doc_to_prefix(doc),
        **chat,
    )
    made = task.construct_requests(doc=doc, ctx=context, metadata=(None, None, 1), **chat)
    requests = [
        ModelRequest(kind=instance.request_type, arguments=tuple(instance.args), index=instance.idx)
        for instance in (made if isinstance(made, list) else [made])
    ]
    if any((request.kind == "generate_until") != (task.OUTPUT_TYPE == "generate_until") for request in requests):
        raise InvalidTask("it asks for log-likelihoods and for generated answers; only one of them is supported")
    return TaskItem(doc=doc, requests=tuple(sorted(requests, key=lambda request: request.index)))


def measure_of(task: Any, packed: TaskItems, wanted: str | None) -> tuple[Measure, list[str]]:
    """Choose the metric of a task.

    Args:
        task: lm-eval's.
        packed: its items.
        wanted: "metric", "metric,filter" or None for its first one; `ANSWER_TOKENS` where it generates.

    Returns:
        How the metric is measured, and the names of all metrics of the task.

    Raises:
        InvalidTask: there is no such metric, or it cannot be computed from what single items give.
    """
    from evomerge.evaluation import _lm_eval

    filters = [ensemble.name for ensemble in task._filters]
    if wanted == ANSWER_TOKENS and task.OUTPUT_TYPE == "generate_until":
        measure = Measure(metric=wanted, filter=filters[0], aggregation=ANSWER_TOKENS, direction="min")
        return measure, [*task.aggregation(), wanted]
    computed = _metrics_of_code(task, packed, filters[0]) if task.config.unsafe_code else None
    aggregations = {
        name: _lm_eval.aggregation_name(how)
        for name, how in task.aggregation().items()
        if not computed or name in computed
    }
    measure = choose_measure(wanted, aggregations, task.higher_is_better(), filters)
    item = next(iter(packed.items.values()), None)
    if item is not None and not computed:
        check_metric(task, item, measure)
    return measure, list(aggregations)


def _metrics_of_code(task: Any, packed: TaskItems, filter_name: str) -> dict[str, Any]:
    """Return what a task computes for an empty answer, which runs no code; "pass@1" has its name from there."""
    item = next(iter(packed.items.values()), None)
    if item is None:
        return {}
    try:
        return processed(task, filter_name, item.doc, [[""] * packed.repeats for _ in item.requests])
    except Exception:  # the task's own code may not expect it; what it computes is then what it says
        return {}


def check_metric(task: Any, item: TaskItem, measure: Measure) -> None:
    """Try a task's scoring on made-up answers. Raises InvalidTask when it does not yield the metric, item by item."""
    own = callable(task.config.process_results) or measure.metric not in task._metric_fn_list
    if task.OUTPUT_TYPE == "generate_until" and not own and task._metric_fn_list.get(measure.metric) is None:
        raise InvalidTask(f'its metric "{measure.metric}" is known neither to lm-eval nor to the evaluate library')
    answer: Any = {"loglikelihood": (-1.0, False), "loglikelihood_rolling": -1.0, "generate_until": ""}
    try:
        metrics = task.process_results(item.doc, [answer[request.kind] for request in item.requests])
    except Exception:
        return  # made-up answers may be too strange for a task's own code; real ones are checked when they come
    if measure.metric not in metrics:
        raise InvalidTask(f'it computes no "{measure.metric}" (it computes: {", ".join(metrics)})')
    try:
        measure.value(metrics[measure.metric])
    except (TypeError, ValueError) as error:
        kind = type(metrics[measure.metric]).__name__
        raise InvalidTask(
            f'its metric "{measure.metric}" is a {kind} for one item, which {measure.aggregation} cannot use ({error})'
        ) from error


def pack(loaded: LoadedTask, items: Mapping[int, TaskItem], sample: Any) -> TaskItems:
    """Return the task's items as plain data."""
    task = loaded.task
    return TaskItems(
        name=loaded.name,
        config={key: value for key, value in loaded.config.items() if key not in _NEEDS_DATA},
        output_type=task.OUTPUT_TYPE,
        repeats=task.config.repeats,
        features=tuple(task.features),
        sample=sample,
        multiple_input=task.multiple_input,
        multiple_target=task.multiple_target,
        items=items,
        code=runs_code(loaded.config),
    )
