"""`prepare_tasks`: from the tasks of a search file to items, on the driver, with every problem at once."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.errors import EvomergeError, InvalidFile, InvalidInput, Problem
from evomerge.evaluation import _registry
from evomerge.evaluation._evaluator import Evaluator, PrepareContext, PreparedTask
from evomerge.evaluation._prepared import Prepared
from evomerge.evaluation._request import (
    InvalidTask,
    LmEvalOptions,
    LmEvalSettings,
    PoolSizes,
    TaskRequest,
)
from evomerge.evaluation._rng import isolated_randomness
from evomerge.evaluation.prepare import callable_digest, plain, read_options, unused_names
from evomerge.records import POOLS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What the entries of the built-in evaluators consist of; the first key is needed.
_ENTRY_KEYS = {
    "lm_eval_task": ("task", "metric", "num_fewshot"),
    "python_scorer": ("scorer", "items", "direction"),
}


def prepare_tasks(
    requests: Sequence[TaskRequest],
    *,
    task_path: Path | None = None,
    pools: PoolSizes,
    seed: int,
    lm_eval_options: Mapping[str, Any] | None = None,
    allow_test_split: Collection[str] = (),
    allow_code: Collection[str] = (),
    tokenizer: "PreTrainedTokenizerBase | None" = None,
) -> Prepared:
    """Load tasks, divide their documents into pools and build their prompts.

    Runs on the driver; it may load data sets from the Hub, workers never do. The same arguments and data give the
    same items in any process.

    Args:
        requests: the objectives, in order.
        task_path: folder of the user's own lm-eval task files; its Python, where they name some, is run.
        pools: items per task.
        seed: of the division into pools.
        lm_eval_options: num_fewshot, apply_chat_template, max_gen_toks, ... (see `LmEvalOptions`).
        allow_test_split: tasks whose every pool may come from the split that is otherwise kept for the report.
        allow_code: tasks that may run code that the model writes, or that may be Python classes.
        tokenizer: needed only for apply_chat_template.

    Raises:
        InvalidFile: with every problem of every entry.
    """
    requests = [_spelled_out(request) for request in requests]
    options, problems = read_options(lm_eval_options or {})
    named = [request.task for request in requests if request.task]
    problems += unused_names("allow_test_split", allow_test_split, named)
    problems += unused_names("allow_code", allow_code, named)
    prepared = Prepared(tasks={}, evaluators={})
    if options.apply_chat_template and getattr(tokenizer, "chat_template", None) is None:
        problems.append(Problem("lm_eval.apply_chat_template", "is set, but the tokenizer has no chat template"))
    elif not requests:
        problems.append(Problem("tasks", "is empty; name at least one task"))
    elif task_path is not None and not task_path.is_dir():
        problems.append(Problem("task_path", f"{task_path} is not a folder"))
    else:
        settings = LmEvalSettings(
            task_path=task_path,
            options=options,
            allow_test_split=allow_test_split,
            allow_code=allow_code,
            chat_template=_chat_template(options, tokenizer),
        )
        prepared, found = _prepare_each(requests, pools, seed, settings)
        problems += found
    if problems:
        raise InvalidFile(problems)
    return prepared


def _prepare_each(
    requests: Sequence[TaskRequest], pools: PoolSizes, seed: int, settings: LmEvalSettings
) -> tuple[Prepared, list[Problem]]:
    """Return what could be prepared, and the problems of the other requests."""
    tasks: dict[str, PreparedTask] = {}
    evaluators: dict[str, Evaluator] = {}
    problems = []
    shared: dict[str, Any] = {}
    for request in requests:
        try:
            context = PrepareContext(
                request=request, requests=requests, pools=pools, seed=seed, lm_eval=settings, shared=shared
            )
            evaluator, task = _prepared(context)
            if task.objective.name in tasks:
                raise InvalidTask(f'there are two objectives called "{task.objective.name}"')
        except InvalidInput as error:
            problems.append(Problem(request.place, str(error)))
        else:
            tasks[task.objective.name], evaluators[task.objective.name] = task, evaluator
    return Prepared(tasks=tasks, evaluators=evaluators), problems


def _chat_template(options: LmEvalOptions, tokenizer: "PreTrainedTokenizerBase") -> Callable[..., str] | None:
    """Return the function that renders chats, when prompts are to be chats."""
    if not options.apply_chat_template:
        return None
    from evomerge.evaluation import _lm_eval

    return _lm_eval.chat_renderer(tokenizer, options.chat_template_args)


def _prepared(context: PrepareContext) -> tuple[Evaluator, PreparedTask]:
    """Return an entry's evaluator and what that prepared.

    Raises:
        InvalidInput: the entry cannot be used, or the evaluator raised, whatever it was.
    """
    request = context.request
    evaluator = _evaluator(request)
    try:
        with isolated_randomness():
            task = evaluator.prepare(dict(request.options), context)
    except EvomergeError as error:
        raise error if isinstance(error, InvalidInput) else InvalidTask(str(error)) from error
    except Exception as error:  # an evaluator may be anybody's
        if request.evaluator is None:
            raise
        raise InvalidTask(f"the evaluator raised {type(error).__name__}: {error}") from error
    if request.evaluator is None or request.evaluator in _registry.BUILT_IN:
        return evaluator, task
    return evaluator, _checked(task, evaluator, request)


def _spelled_out(request: TaskRequest) -> TaskRequest:
    """Return an entry with its evaluator's options in one place.

    One that names a built-in evaluator becomes what `task:` or `scorer:` would say; for any other evaluator, what the
    entry says besides its options is one of them, as nothing else would read it.
    """
    if request.evaluator is None:
        return request
    keys = _ENTRY_KEYS.get(request.evaluator) if isinstance(request.evaluator, str) else None
    if keys is None:
        beside = {"items": request.items, "metric": request.metric, "num_fewshot": request.num_fewshot}
        beside["direction"] = None if request.direction == "max" else request.direction
        stated = {
            key: str(value) if isinstance(value, Path) else value for key, value in beside.items() if value is not None
        }
        return replace(request, options=stated | dict(request.options))
    given = {key: request.options[key] for key in keys if key in request.options}
    options = {key: value for key, value in request.options.items() if key not in keys}
    return replace(request, evaluator=None, options=options, **{keys[0]: ""} | given)


def _evaluator(request: TaskRequest) -> Evaluator:
    """Return the evaluator of an entry. Raises InvalidTask when the entry names none, or several."""
    given = [key for key in ("task", "scorer", "evaluator") if getattr(request, key) is not None]
    if len(given) != 1:
        raise InvalidTask("name either a task, a scorer or an evaluator")
    if request.task is not None:
        return _registry.get("lm_eval_task")
    if request.scorer is not None:
        return _registry.get("python_scorer")
    if isinstance(request.evaluator, str):
        return _registry.get(request.evaluator)
    return _registry.checked(request.evaluator)


def _checked(task: object, evaluator: Evaluator, request: TaskRequest) -> PreparedTask:
    """Return what an evaluator prepared, with the entry and the evaluator's own code in its facts."""
    if not isinstance(task, PreparedTask):
        raise InvalidTask(f"the evaluator prepared {type(task).__name__}, expected PreparedTask")
    numbers = [number for pool in POOLS for number in task.pools.get(pool, ())]
    if set(task.pools) != set(POOLS) or len(set(numbers)) < len(numbers):
        raise InvalidTask("the evaluator's pools are not search, select and report without a common item")
    identity = {
        "evaluator": evaluator.name,
        "evaluator_digest": callable_digest(type(evaluator)),
        "settings": plain(vars(evaluator)) if hasattr(evaluator, "__dict__") else {},
        "options": plain(request.options),
    }
    return replace(task, facts=identity | plain(task.facts))
