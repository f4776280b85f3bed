"""Plain Python scorers: a function of the user's that gets a live model and returns one number per item."""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from evomerge.errors import EvomergeError, did_you_mean
from evomerge.evaluation._items import ScorerItems
from evomerge.evaluation._user_code import code_of, module_of
from evomerge.evaluation.prepare._pools import (
    SplitPlan,
    cut_pools,
    shuffled,
    without_repeats,
)
from evomerge.evaluation.prepare._request import PoolSizes, Refused
from evomerge.records import POOLS, Pool

_SPLIT = "items"


def parse_scorer(text: str) -> tuple[Path, str]:
    """Split "file.py:function". Raises Refused."""
    path, _, function = text.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise Refused(f'scorer is "{text}", expected "file.py:function"')
    return Path(path), function


def load_function(path: Path, function: str, code: str | None) -> Callable[..., Any]:
    """Run a file's code and return its function. Raises Refused."""
    if code is None:
        raise Refused(f"its file {path} is not there")
    try:
        module = module_of(str(path.resolve()), code)
    except Exception as error:
        raise Refused(f"its file {path} raised {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not callable(found):
        defined = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise Refused(f'{path} has no function "{function}".{did_you_mean(function, defined)}')
    return found


def read_items(path: Path | None) -> list[Mapping[str, Any]]:
    """Read a JSONL file of objects. Raises Refused, naming the line."""
    if path is None:
        raise Refused("a scorer needs items: a JSONL file with one object per line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Refused(f"its items cannot be read: {error}") from error
    items: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            item = json.loads(line)
        except ValueError as error:
            raise Refused(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(item, dict):
            raise Refused(f"{path}, line {number}: is a {type(item).__name__}, expected an object")
        items.append(item)
    return items


def prepare_scorer(
    scorer: str, items_path: Path | None, direction: Literal["max", "min"], sizes: PoolSizes, seed: int
) -> tuple[ScorerItems, dict[Pool, tuple[int, ...]], dict[str, Any]]:
    """Load a scorer and divide its items among the pools.

    Returns: the items, pool -> item numbers, and facts.
    Raises: Refused.
    """
    path, function = parse_scorer(scorer)
    code = code_of(path)
    load_function(path, function, code)
    assert code is not None
    items = read_items(items_path)
    keys = [hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest() for item in items]
    kept = set(without_repeats({_SPLIT: keys})[_SPLIT])
    available = [i for i in shuffled(len(items), seed, function) if i in kept]
    plan = SplitPlan(own=_SPLIT, final=_SPLIT)
    cut = cut_pools(plan, sizes, {_SPLIT: available})
    pools = {pool: tuple(cut[pool]) for pool in POOLS}
    digests = {pool: hashlib.sha256("".join(keys[i] for i in pools[pool]).encode()).hexdigest() for pool in POOLS}
    facts = {
        "scorer": f"{path.name}:{function}",
        "scorer_digest": hashlib.sha256(code.encode()).hexdigest(),
        "documents": {_SPLIT: len(items)},
        "left_out": len(items) - len(kept),
        "splits": dict.fromkeys(POOLS, _SPLIT),
        "items_digest": digests,
    }
    chosen = {i: items[i] for pool in POOLS for i in pools[pool]}
    packed = ScorerItems(path=str(path.resolve()), code=code, function=function, direction=direction, items=chosen)
    return packed, pools, facts


class BoundScorer:
    """A Python scorer with its model; called once per set of items."""

    def __init__(self, packed: ScorerItems, model: Any, tokenizer: Any):
        self.items = packed.items
        self._packed, self._model, self._tokenizer = packed, model, tokenizer
        try:
            self._function = load_function(Path(packed.path), packed.function, packed.code)
        except Refused as refusal:
            raise EvomergeError(f"{packed.name}: {refusal}") from refusal

    def values(self, ids: Sequence[int]) -> dict[int, float]:
        """Return item number -> value, higher is better. Raises EvomergeError for anything but finite numbers."""
        import torch

        name = self._packed.name
        # Copies: what the function does to its items must not reach the next candidate.
        items = [copy.deepcopy(dict(self.items[i])) for i in ids]
        try:
            with torch.no_grad():
                result = list(self._function(self._model, self._tokenizer, items))
        except EvomergeError:
            raise
        except Exception as error:
            raise EvomergeError(f"{name} raised {type(error).__name__}: {error}") from error
        if len(result) != len(ids):
            raise EvomergeError(f"{name} returned {len(result)} values for {len(ids)} items; return one per item")
        sign = -1.0 if self._packed.direction == "min" else 1.0
        return {i: sign * self._number(name, i, value) for i, value in zip(ids, result, strict=True)}

    @staticmethod
    def _number(name: str, item: int, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, str) or not math.isfinite(number):
            raise EvomergeError(f"{name} returned {value!r} for item {item}; expected a finite number")
        return number
