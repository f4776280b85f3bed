"""JSON files: read without trust, written readable."""

import json
from pathlib import Path
from typing import Any

from evomerge.errors import InvalidInput

MAX_JSON_BYTES = 1 << 29  # the largest tokenizers have 35 MB; a file far beyond that would only fill the memory


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: there is no such file.
        InvalidInput: it is no regular file, too large, or not JSON in UTF-8.
    """
    if path.exists() and not path.is_file():
        raise InvalidInput(f"{path}: is not a file; expected JSON")
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_JSON_BYTES:
            raise InvalidInput(f"{path}: has {size_bytes} bytes, expected JSON of at most {MAX_JSON_BYTES}")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path}: is not valid JSON ({error})") from None
    except RecursionError:
        raise InvalidInput(f"{path}: is not valid JSON (nested too deeply)") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        FileNotFoundError: there is no such file.
        InvalidInput: see `read_json`, or it holds something other than an object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InvalidInput(f"{path}: found {type(value).__name__}, expected a JSON object")
    return value


def write_json(path: Path, value: object) -> None:
    """Write readable JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
