"""Python scorers: a function of the user's that gets a live model and returns one number per item.

    tasks:
      - {scorer: scorers.py:spells_backwards, items: words.jsonl}

Through the API the function and the items may be Python objects: `{"scorer": function, "items": [{...}, ...]}`.
"""

import copy
import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.errors import EvomergeError
from evomerge.evaluation._evaluator import Evaluator, PrepareContext, PreparedTask
from evomerge.evaluation._request import InvalidTask, ScorerFunction
from evomerge.evaluation._user_code import UserCode, function_in, read_code
from evomerge.evaluation.prepare import callable_digest, prepare_items, read_items
from evomerge.records import ItemScores

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerItems:
    """What a worker needs to run a scorer.

    Attributes:
        name: in messages.
        function: the scorer itself, or its name in `code`.
        code: of the scorer's file, or None where `function` is the scorer.
        items: item number -> what the function is given.
    """

    name: str
    function: ScorerFunction | str
    code: UserCode | None
    items: Mapping[int, Mapping[str, Any]]

    def load(self) -> ScorerFunction:
        """Return the function. Raises InvalidTask when its file cannot be run."""
        if isinstance(self.function, str):
            assert self.code is not None
            return function_in(self.code, self.function)
        return self.function


class PythonScorer(Evaluator):
    """A function (model, tokenizer, items) -> one number per item, with items of its own."""

    name = "python_scorer"
    description = "a Python function of one's own, on items of a JSONL file"

    def prepare(self, options: Mapping[str, Any], context: PrepareContext) -> PreparedTask:
        """Load the function and divide its items among the pools.

        Args:
            options: none; the entry's `scorer`, `items` and `direction` say everything.
            context: the search around the entry.

        Raises:
            InvalidTask: the function or the items cannot be used.
        """
        request = context.request
        if options:
            raise InvalidTask(f"a scorer has no option {next(iter(options))!r}")
        if request.metric is not None or request.num_fewshot is not None:
            raise InvalidTask("metric: and num_fewshot: are an lm-eval task's; a scorer has neither")
        if request.direction not in ("max", "min"):
            raise InvalidTask(f"direction is {request.direction!r}, expected max or min")
        items = _items(context.path(str(request.items)) if isinstance(request.items, str | Path) else request.items)
        if isinstance(request.scorer, str):
            path, function = _parsed(request.scorer)
            path = context.path(str(path))
            code = read_code(path)
            if code is None:
                raise InvalidTask(f"its file {path} is not there")
            _check_signature(function_in(code, function), f"{path}:{function}")
            scorer: ScorerFunction | str = function
            name, facts = f"{code.path}:{function}", {"scorer": f"{path.name}:{function}"}
            facts["scorer_digest"] = code.digest()
        elif callable(request.scorer):
            code, scorer = None, request.scorer
            name = function = request.name or str(getattr(scorer, "__name__", type(scorer).__name__))
            _check_signature(scorer, name)
            facts = {"scorer": function, "scorer_digest": callable_digest(scorer)}
        else:
            raise InvalidTask(f'scorer is {request.scorer!r}, expected "file.py:function" or a function')
        return prepare_items(
            items,
            context,
            objective=context.objective(function, metric=function, direction=request.direction),
            facts=facts,
            pack=lambda chosen: ScorerItems(name=name, function=scorer, code=code, items=chosen),
            shuffle_name=function,
        )

    def describe(self, task: PreparedTask, number: int) -> str:
        """Return an item as JSON."""
        return json.dumps(task.items.items[number], ensure_ascii=False, default=str)

    def score(
        self,
        task: PreparedTask,
        ids: Sequence[int],
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
    ) -> ItemScores:
        """Call the function once, with copies of the items.

        Raises:
            EvomergeError: the function raised, or returned anything but one finite number per item.
        """
        packed: ScorerItems = task.items
        # Copies: what the function does to its items must not reach the next candidate.
        items = [copy.deepcopy(dict(packed.items[i])) for i in ids]
        try:
            returned = packed.load()(model, tokenizer, items)
            ordered = isinstance(returned, Iterable) and not isinstance(returned, Mapping | Set | str)
            result = list(returned) if ordered else None
        except InvalidTask as error:
            raise EvomergeError(f"{packed.name}: {error}") from error
        except EvomergeError:
            raise
        except Exception as error:
            raise EvomergeError(f"{packed.name} raised {type(error).__name__}: {error}") from error
        if result is None:
            raise EvomergeError(f"{packed.name} returned {returned!r:.200}; return a list with one number per item")
        if len(result) != len(ids):
            raise EvomergeError(
                f"{packed.name} returned {len(result)} values for {len(ids)} items; return one per item"
            )
        sign = -1.0 if task.objective.direction == "min" else 1.0
        values = (sign * _number(packed.name, i, value) for i, value in zip(ids, result, strict=True))
        return ItemScores(ids=tuple(ids), values=tuple(values))


def _parsed(text: str) -> tuple[Path, str]:
    """Split "file.py:function". Raises InvalidTask."""
    path, _, function = text.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise InvalidTask(f'scorer is "{text}", expected "file.py:function"')
    return Path(path), function


def _check_signature(scorer: Callable[..., Any], name: str) -> None:
    """Raise InvalidTask unless a function can be called with a model, a tokenizer and items."""
    try:
        signature = inspect.signature(scorer)
    except (TypeError, ValueError):  # built in C: what it takes is not known
        return
    try:
        signature.bind(None, None, [])
    except TypeError:
        raise InvalidTask(
            f"{name}{signature} cannot be called as scorer(model, tokenizer, items), which returns a number for each "
            "item; docs/scorers.md has two examples"
        ) from None


def _items(given: object) -> list[Any]:
    """Return a scorer's items as a list. Raises InvalidTask."""
    if given is None:
        raise InvalidTask("a scorer needs items: a JSONL file with one object per line")
    if isinstance(given, Path):
        return read_items(given)
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise InvalidTask(f"items is {given!r}, expected a JSONL file or a list of mappings")
    items = list(given)
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise InvalidTask(f"its item {number} is a {type(item).__name__}, expected a mapping")
    return [dict(item) for item in items]


def _number(name: str, item: int, value: Any) -> float:
    """Return a value as a float. Raises EvomergeError."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, str) or not math.isfinite(number):
        raise EvomergeError(f"{name} returned {value!r} for item {item}; expected a finite number")
    return number
