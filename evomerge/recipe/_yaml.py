"""Reading YAML that a person wrote: every problem at once, as a sentence with its place."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from evomerge.errors import InvalidInput, Problem, did_you_mean
from evomerge.recipe._shown import shown


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


class Checked(NamedTuple):
    """What a schema made of a file: the value (None if nothing usable is left) and everything that did not fit."""

    value: Any
    problems: list[Problem]


def check(model: type[BaseModel], data: Any, where: str) -> Checked:
    """Hold plain data against a schema.

    What does not fit is reported and left out, so that the rest of the file can still be checked: a person gets
    every problem of a file at once.
    """
    if not isinstance(data, Mapping):
        return Checked(None, [Problem(where, f"found {shown(data)}, expected a mapping of keys to values")])
    remaining = deepcopy(dict(data))
    problems: list[Problem] = []
    for _ in range(_PASSES):
        try:
            return Checked(model.model_validate(remaining), problems)
        except ValidationError as error:
            found = error.errors()
            problems += [_problem(model, each, where) for each in found]
            dropped = [_drop(remaining, list(each["loc"])) for each in found]
            if not all(dropped):
                break
    return Checked(None, problems)


_PASSES = 4  # leaving one thing out can bring up another; more than this is a hopeless file


def _drop(data: Any, location: list[Any]) -> bool:
    """Take the offending place out of the data; False if it is not there (a missing key cannot be dropped)."""
    for part in location[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return False
    last = location[-1] if location else None
    if isinstance(data, dict) and last in data:
        del data[last]
        return True
    return False


def _problem(model: type[BaseModel], error: Any, where: str) -> Problem:
    location = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        location = location[:-1]
    place = f"{where}: {'.'.join(location)}" if location else where
    return Problem(place, _sentence(model, error, list(error["loc"])))


def _sentence(model: type[BaseModel], error: Any, location: list[Any]) -> str:
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        listed = f"; known keys are {', '.join(known)}" if known else ""
        return f'unknown key "{location[-1]}"{listed}.{did_you_mean(str(location[-1]), known)}'
    if kind == "missing":
        return "is required but missing"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"found {shown(given)}, {message}"


def _fields_at(model: type[BaseModel], location: list[Any]) -> list[str]:
    """Return the keys that a schema knows at a place of the file."""
    current: Any = model
    named = False  # by the person, as the entries of a mapping are
    for part in location:
        if isinstance(part, int) or named:
            named = False
            continue
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return []
        info = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
        current = _model_inside(info.annotation) if info else None
        named = info is not None and get_origin(info.annotation) is dict
    if not (isinstance(current, type) and issubclass(current, BaseModel)):
        return []
    return [field.alias or name for name, field in current.model_fields.items()]


def _model_inside(annotation: Any) -> Any:
    """Return the first schema class inside a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        inside = _model_inside(argument)
        if inside is not None:
            return inside
    return None
