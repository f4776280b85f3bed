"""Reading YAML that a person wrote: safe constructors only, one value for each key, errors with the line."""

from pathlib import Path
from typing import Any

import yaml

from evomerge.errors import InvalidInput, first_line

MAX_YAML_BYTES = 1 << 26  # of one file; recipes have a few thousand bytes
MAX_MERGED_KEYS = 100_000  # that "<<" may bring into one document, where aliases of aliases multiply


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a key may be given only once: the second one would silently win."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._checked: set[int] = set()
        self._merged_keys = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace "<<" by the keys that it means, up to a number of them; refuse keys that are given twice."""
        if id(node) not in self._checked:  # a mapping that another one merges in comes here again, with their keys
            self._checked.add(id(node))
            self._check_unique(node)
        before = len(node.value)
        super().flatten_mapping(node)
        self._merged_keys += max(0, len(node.value) - before)
        if self._merged_keys > MAX_MERGED_KEYS:
            text = f'"<<" brings in more than {MAX_MERGED_KEYS} keys'
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)

    def _check_unique(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool):
                if key in seen:
                    text = f'the key "{str(key)[:80]}" is given twice'
                    raise yaml.constructor.ConstructorError(None, None, text, key_node.start_mark)
                seen.add(key)


def read_yaml(path: Path) -> Any:
    """Return the one document of a YAML file.

    Args:
        path: of the file.

    Raises:
        InvalidInput: no such file, no text, too large, not YAML, a key given twice, or not exactly one document.
    """
    return parse_yaml(_read_text(path), str(path))


def read_documents(path: Path) -> list[Any]:
    """Return every document of a YAML file.

    Args:
        path: of the file.

    Raises:
        InvalidInput: see `read_yaml`.
    """
    return parse_documents(_read_text(path), str(path))


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise InvalidInput(f"{path}: cannot be read as text (not a file)")
        if path.stat().st_size > MAX_YAML_BYTES:
            raise InvalidInput(f"{path}: has {path.stat().st_size} bytes, expected at most {MAX_YAML_BYTES}")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read as text ({error})") from None


def parse_yaml(text: str, where: str) -> Any:
    """Return the one document of a YAML text.

    Args:
        text: of a file.
        where: its name, for messages.

    Raises:
        InvalidInput: not YAML, a key given twice, or not exactly one document.
    """
    documents = parse_documents(text, where)
    if len(documents) != 1:
        raise InvalidInput(f"{where}: holds {len(documents)} YAML documents, expected one")
    return documents[0]


def parse_documents(text: str, where: str) -> list[Any]:
    """Return every document of a YAML text.

    Args:
        text: of a file.
        where: its name, for messages.

    Raises:
        InvalidInput: not YAML, or a key given twice.
    """
    try:
        return list(yaml.load_all(text, Loader=_UniqueKeyLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or first_line(error)
        raise InvalidInput(f"{where}:{line} is not valid YAML ({reason})") from None
    except RecursionError:
        raise InvalidInput(f"{where}: is not valid YAML (nested too deeply)") from None
    except (ValueError, OverflowError, TypeError, AttributeError) as error:  # a date or number that makes no sense
        raise InvalidInput(f"{where}: is not valid YAML ({first_line(error)})") from None
