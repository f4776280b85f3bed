"""What a file holds, short enough for a sentence."""

import reprlib
from typing import Any

_LIMITED = reprlib.Repr()
_LIMITED.maxlevel, _LIMITED.maxlist, _LIMITED.maxstring, _LIMITED.maxother = 3, 4, 56, 56


def shown(value: Any) -> str:
    """Return the beginning of a value's text; quick even for nested aliases, whose whole text would fill the memory."""
    text = _LIMITED.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
