"""Which value a parameter has for one tensor: filters, gradients and levels.

The rules are mergekit's: a filter is a plain substring of the tensor's name and the first that matches wins; a list
is a gradient over the layers of its slice; the most specific level that has a value wins.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.methods import MERGEKIT_WORDS, Value
from evomerge.recipe._validation import short_repr

Setting = Any
"""A `Value`, a list of them (gradient), a {filter, value} mapping, or a list of such mappings."""


class UnusedText(str):
    """The text of a parameter that has no effect (see `methods.MERGEKIT_WORDS`), such as `dtype: bfloat16`."""


def mark_unused_texts(parameters: object) -> Any:
    """Return the parameters of one place with the texts marked that `read_setting` must let pass.

    Args:
        parameters: what YAML gives; a key without a value gives none.
    """
    if not isinstance(parameters, Mapping):
        return {} if parameters is None else parameters
    return {
        name: UnusedText(value) if name in MERGEKIT_WORDS and isinstance(value, str) else value
        for name, value in parameters.items()
    }


def read_setting(value: object) -> Setting:
    """Check the form of a setting and return it as plain data.

    Args:
        value: what YAML gives.

    Raises:
        ValueError: it has none of the four forms.
    """
    if isinstance(value, UnusedText):
        return value
    if isinstance(value, Mapping):
        return _read_conditional(value)
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return [_read_conditional(conditional) for conditional in value]
    return _read_values(value)


def _read_conditional(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not set(value) <= {"filter", "value"} or "value" not in value:
        raise ValueError(
            f"found {short_repr(value)}, expected {{filter: part of a tensor's name, value: a number or list}}"
        )
    pattern = value.get("filter")
    if pattern is not None and not isinstance(pattern, str):
        raise ValueError(f"found filter: {short_repr(pattern)}, expected part of a tensor's name")
    return {**({"filter": pattern} if pattern is not None else {}), "value": _read_values(value["value"])}


def _read_values(value: object) -> Any:
    if isinstance(value, list):
        if not value:
            raise ValueError("found an empty list, expected at least one number")
        return [_read_scalar(anchor) for anchor in value]
    return _read_scalar(value)


def _read_scalar(value: Any) -> Value:
    if isinstance(value, bool | int | float):
        return value
    try:  # YAML 1.1 reads 1e-3 as text
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"found {short_repr(value)}, expected a number, true or false, a list of them, or {{filter:, value:}}"
        ) from None


def value_at(setting: Setting, tensor: str, t: float) -> Value | None:
    """Return the value of a setting for one tensor.

    Args:
        setting: as `read_setting` returns it.
        tensor: its name.
        t: its depth in its slice, 0 (first layer) to 1 (last layer).

    Returns:
        The value, or None where no filter matches.
    """
    if isinstance(setting, Mapping):
        setting = [setting]
    if isinstance(setting, Sequence) and setting and isinstance(setting[0], Mapping):
        for conditional in setting:
            pattern = conditional.get("filter")
            if pattern is None or pattern == "*" or pattern in tensor:
                return _gradient(conditional["value"], t)
        return None
    return _gradient(setting, t)


def _gradient(value: Any, t: float) -> Value:
    """Interpolate a list at t: anchors are equally spaced; of flags the lower anchor is taken."""
    if not isinstance(value, Sequence):
        return value
    position = t * (len(value) - 1)
    low = int(position + 1e-9)  # 49 * (1 / 49) is just below 1
    if isinstance(value[0], bool):
        return value[low]
    high = min(len(value) - 1, low + 1)
    fraction = position - low
    # Exact at the anchors: a list with one value for each layer gives each layer its own.
    if abs(fraction) < 1e-9:
        return value[low]
    return (1 - fraction) * value[low] + fraction * value[high]


def lookup(levels: Sequence[Mapping[str, Setting]], name: str, tensor: str, t: float) -> Value | None:
    """Return the value of a parameter from the first level that has one, or None.

    Args:
        levels: parameter -> setting; the most specific level first.
        name: of the parameter.
        tensor: see `value_at`.
        t: see `value_at`.
    """
    for level in levels:
        if name in level:
            value = value_at(level[name], tensor, t)
            if value is not None:
                return value
    return None


def values_in(setting: Setting) -> list[Value]:
    """Return every plain value that a setting holds, for range checks."""
    if isinstance(setting, Mapping):
        return values_in(setting["value"])
    if isinstance(setting, Sequence) and not isinstance(setting, str):
        return [value for part in setting for value in values_in(part)]
    return [setting]
