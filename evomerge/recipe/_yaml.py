"""Reading YAML that a person wrote: safe constructors only, one value for each key, errors with the line."""

from pathlib import Path
from typing import Any

import yaml

from evomerge.errors import InvalidInput


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a key may stand only once: the second one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key "{key}" stands twice', key_node.start_mark
                )
            if isinstance(key, str | int | float | bool):
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Return the one document of a YAML file.

    Raises:
        InvalidInput: no such file, not text, not YAML, a key twice, or more than one document.
    """
    return parse_yaml(_read_text(path), str(path))


def read_documents(path: Path) -> list[Any]:
    """Return every document of a YAML file (see `read_yaml`)."""
    return parse_documents(_read_text(path), str(path))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read as text ({error})") from None


def parse_yaml(text: str, where: str) -> Any:
    """Return the one document of a YAML text; `where` names it in errors (see `read_yaml`)."""
    documents = parse_documents(text, where)
    if len(documents) != 1:
        raise InvalidInput(f"{where}: holds {len(documents)} YAML documents, expected one")
    return documents[0]


def parse_documents(text: str, where: str) -> list[Any]:
    """Return every document of a YAML text (see `parse_yaml`)."""
    try:
        return list(yaml.load_all(text, Loader=_UniqueKeyLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise InvalidInput(f"{where}:{place} is not valid YAML ({reason})") from None
