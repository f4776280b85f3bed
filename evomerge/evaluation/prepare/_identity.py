"""What functions and other objects of a task are as plain data: they enter the identity of a measurement."""

import functools
import hashlib
import inspect
import marshal
import pickle
from collections.abc import Callable, Mapping
from typing import Any


def callable_digest(function: Callable[..., Any]) -> str:
    """Return a SHA-256 of what a function, class or callable object does.

    It is that of the source and of what the source does not show (defaults, enclosed variables, attributes); where
    there is no source, of the compiled code, and else of the pickle.
    """
    if isinstance(function, functools.partial):
        arguments = pickle.dumps((function.args, sorted(function.keywords.items())))
        return hashlib.sha256(callable_digest(function.func).encode() + arguments).hexdigest()
    inner = inspect.unwrap(function)
    is_code = inspect.isroutine(inner) or inspect.isclass(inner)
    target: Any = inner if is_code else type(inner)
    digest = hashlib.sha256()
    try:
        digest.update(inspect.getsource(target).encode())
    except (OSError, TypeError):
        code = getattr(target, "__code__", None)
        digest.update(marshal.dumps(code) if code else _pickled(function))
    for value in _not_in_source(inner, is_code):
        digest.update(_pickled(value))
    return digest.hexdigest()


def _not_in_source(inner: Any, is_code: bool) -> list[Any]:
    """Return the values that a function or object uses and its source does not show."""
    if not is_code:
        return [inner]
    hidden = [getattr(inner, name, None) for name in ("__defaults__", "__kwdefaults__")]
    hidden += [cell.cell_contents for cell in getattr(inner, "__closure__", None) or ()]
    return [*hidden, inner.__self__] if inspect.ismethod(inner) else hidden


def _pickled(value: Any) -> bytes:
    """Return a value's pickle; of one that cannot be pickled, the name of its type."""
    try:
        return pickle.dumps(value)
    except Exception:  # pickling runs the value's own code
        return type(value).__qualname__.encode()


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: functions by their digest, other objects by their text or type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(inner) for inner in value), key=repr)
    if callable(value):
        return {"function": getattr(value, "__name__", type(value).__name__), "digest": callable_digest(value)}
    own = type(value).__str__ is not object.__str__ or type(value).__repr__ is not object.__repr__
    return str(value) if own else type(value).__qualname__
