"""One lm-eval task: loaded on the driver with its data, cut into items, and rebuilt on a worker without its data."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.errors import first_line
from evomerge.evaluation._items import Item, Request, TaskItems
from evomerge.evaluation._metrics import Measure
from evomerge.evaluation.prepare._group import Leaf
from evomerge.evaluation.prepare._options import Options
from evomerge.evaluation.prepare._request import Refused
from evomerge.evaluation.prepare._task_config import (
    FunctionRef,
    accept,
    anchor_files,
    config_digest,
    functions_of,
    with_functions,
)

# Parts of a configuration that mean nothing without the data set.
_NEEDS_DATA = {"process_docs", "dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "num_fewshot"}
_NEEDS_DATA |= {"fewshot_config", "fewshot_split", "training_split", "validation_split", "test_split"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTask:
    """A task with its data. config: as read, before data files were made absolute. functions: the code it runs."""

    name: str
    config: Mapping[str, Any]
    task: Any
    functions: tuple[FunctionRef, ...]
    digest: str

    def documents(self, split: str) -> Sequence[Any]:
        """Return the documents of a split, processed as the task asks. Raises Refused when there is no such split."""
        if split not in self.task.dataset:
            raise Refused(f'its data has no split "{split}" (it has: {", ".join(self.task.dataset)})')
        docs = self.task.dataset[split]
        process = self.task.config.process_docs
        return list(process(docs) if process else docs)


def load_task(leaf: Leaf, options: Options) -> LoadedTask:
    """Check a task and load its data.

    Raises: Refused, with a sentence for the user.
    """
    from evomerge.evaluation import _lm_eval

    config = dict(leaf.config)
    accept(config)
    for key in ("tag", "group", "task_list"):
        config.pop(key, None)
    if not isinstance(config.get("metadata") or {}, dict):
        config["metadata"] = {"version": config["metadata"]}
    digest = config_digest(config)
    runnable = with_functions(anchor_files(config, leaf.folder) if leaf.folder else config)
    try:
        task = _lm_eval.new_task(runnable)
    except Exception as error:
        text = f"lm-eval could not load it: {type(error).__name__}: {first_line(error)}"
        raise Refused(text) from error
    _apply_options(task, options)
    return LoadedTask(name=leaf.name, config=config, task=task, functions=tuple(functions_of(config)), digest=digest)


def _apply_options(task: Any, options: Options) -> None:
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


def answer_limit(generation_kwargs: Mapping[str, Any]) -> int:
    """Return how many tokens a generated answer may have; lm-eval knows four names for it, and 256 for none."""
    for key in ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"):
        if generation_kwargs.get(key) is not None:
            return int(generation_kwargs[key])
    return 256


def document_key(task: Any, doc: Any) -> str:
    """Return a hash of what a document asks and answers: two documents with one key are the same question.

    Raises: Refused when the task cannot render the document.
    """
    try:
        text: list[Any] = [task.doc_to_text(doc), task.doc_to_target(doc)]
        if task.config.doc_to_choice is not None:
            text.append(task.doc_to_choice(doc))
    except Exception as error:
        raise Refused(f"one of its documents cannot be rendered: {type(error).__name__}: {error}") from error
    return hashlib.sha256(json.dumps(text, default=str).encode()).hexdigest()


def build_items(
    task: Any,
    docs: Sequence[Any],
    wanted: Mapping[int, int],
    options: Options,
    chat_template: Callable[..., str] | None,
) -> dict[int, Item]:
    """Build the prompts of some documents of one split, exactly as lm-eval would over the whole split.

    wanted: position in `docs` -> item number.

    Returns: item number -> item.
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


def _build_item(task: Any, doc: Any, shots: int, options: Options, chat_template: Callable[..., str] | None) -> Item:
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
        Request(kind=one.request_type, arguments=tuple(one.args), index=one.idx)
        for one in (made if isinstance(made, list) else [made])
    ]
    return Item(doc=doc, requests=tuple(sorted(requests, key=lambda one: one.index)))


def check_metric(task: Any, item: Item, measure: Measure) -> None:
    """Try a task's scoring on made-up answers. Raises Refused when it does not yield the metric, item by item."""
    own = callable(task.config.process_results)
    if task.OUTPUT_TYPE == "generate_until" and not own and task._metric_fn_list.get(measure.metric) is None:
        raise Refused(f'its metric "{measure.metric}" is known neither to lm-eval nor to the evaluate library')
    answer: Any = {"loglikelihood": (-1.0, False), "loglikelihood_rolling": -1.0, "generate_until": ""}
    try:
        metrics = task.process_results(item.doc, [answer[request.kind] for request in item.requests])
    except Exception:
        return  # made-up answers may be too strange for a task's own code; real ones are checked when they come
    if measure.metric not in metrics:
        raise Refused(f'it computes no "{measure.metric}" (it computes: {", ".join(metrics)})')
    try:
        measure.value(metrics[measure.metric])
    except (TypeError, ValueError) as error:
        kind = type(metrics[measure.metric]).__name__
        raise Refused(f'its metric "{measure.metric}" is a {kind} for one item, not a number') from error


def keep_metrics(packed: TaskItems, metrics: Collection[str]) -> TaskItems:
    """Return the items with no more metrics of generated text than are used: others cost time, or need a download."""
    listed = packed.config.get("metric_list")
    if packed.output_type != "generate_until" or not listed or packed.config.get("process_results"):
        return packed

    def name(metric: Any) -> str:
        return metric.name.rpartition(".")[2] if isinstance(metric, FunctionRef) else str(metric)

    kept = [entry for entry in listed if name(entry["metric"]) in metrics]
    return replace(packed, config={**packed.config, "metric_list": kept})


class _Documents(list[Any]):
    """A list with the one attribute of a data set that lm-eval reads."""

    features: dict[str, None]


def pack(loaded: LoadedTask, items: Mapping[int, Item], sample: Any) -> TaskItems:
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
    )


def unpack(packed: TaskItems) -> Any:
    """Rebuild the lm-eval task of packed items, with one document for data; reads no data set."""
    from evomerge.evaluation import _lm_eval

    docs = _Documents([packed.sample])
    docs.features = dict.fromkeys(packed.features)
    config = with_functions(packed.config)
    data = {"custom_dataset": lambda **_: {"only": docs}, "test_split": "only"}
    task = _lm_eval.new_task({**config, **data})
    task.features, task.multiple_input = list(packed.features), packed.multiple_input
    task.multiple_target = packed.multiple_target
    return task
