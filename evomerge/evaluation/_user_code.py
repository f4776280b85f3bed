"""The user's own Python: read once on the driver, and run from that text wherever a worker is.

A file that is edited in the middle of the night, or that is missing on another machine, changes nothing.
"""

import functools
import hashlib
import sys
from pathlib import Path
from types import ModuleType


@functools.cache
def module_of(path: str, code: str) -> ModuleType:
    """Run a file's text as a module, once in a process. Raises whatever the code raises."""
    name = "evomerge_code_" + hashlib.sha256(f"{path}\n{code}".encode()).hexdigest()[:16]
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module  # where dataclasses and the like look for their own module
    try:
        exec(compile(code, path, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def code_of(path: Path) -> str | None:
    """Return a file's text, or None if it is not there."""
    return path.read_text(encoding="utf-8") if path.is_file() else None
