"""Plain data held against a schema: every problem of a file at once, each as a sentence with its place."""

import inspect
import reprlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, get_origin

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError

from evomerge.errors import Problem, did_you_mean

MAX_PASSES = 4  # leaving one thing out can bring up another; a file that needs more than this is given up

_LIMITED = reprlib.Repr()
_LIMITED.maxlevel, _LIMITED.maxlist, _LIMITED.maxstring, _LIMITED.maxother = 3, 4, 56, 56
_MAX_REPR_CHARACTERS = 60


class DescribedModel(BaseModel):
    """A schema whose JSON Schema has the words of the class's docstring: editors show them beside each key."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the JSON Schema with a description of the whole, and of each key."""
        schema = handler(core_schema)
        found = handler.resolve_ref_schema(schema)
        summary, attributes = described(cls)
        found["description"] = summary
        for name, text in attributes.items():
            if name in found.get("properties", {}):
                found["properties"][name]["description"] = text
        return schema


class StrictModel(DescribedModel):
    """Base of every schema of a YAML file: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class CheckedDocument(NamedTuple):
    """What a schema made of a document.

    Attributes:
        value: an instance of the schema, or None if nothing usable is left.
        problems: everything that did not fit; what is named here is left out of `value`.
    """

    value: Any
    problems: list[Problem]


def check_document(model: type[BaseModel], data: Any, where: str) -> CheckedDocument:
    """Hold plain data against a schema.

    What does not fit is reported and left out, so that the rest of the file can still be checked: a person gets
    every problem of a file at once.

    Args:
        model: the schema.
        data: what YAML gives.
        where: the file's name, for messages.
    """
    if not isinstance(data, Mapping):
        return CheckedDocument(
            None, [Problem(where, f"found {short_repr(data)}, expected a mapping of keys to values")]
        )
    remaining = deepcopy(dict(data))
    problems: list[Problem] = []
    for _ in range(MAX_PASSES):
        try:
            return CheckedDocument(model.model_validate(remaining), problems)
        except ValidationError as error:
            found = error.errors()
            problems += [_problem(model, fault, where) for fault in found]
            dropped = [_drop(remaining, list(fault["loc"])) for fault in found]
            if not all(dropped):
                break
    return CheckedDocument(None, problems)


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a YAML file, for editors and other programs."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}


def described(owner: type) -> tuple[str, dict[str, str]]:
    """Return the summary of a class's docstring, and the text of each of its `Attributes:` by name."""
    summary, _, listed = inspect.cleandoc(owner.__doc__ or "").partition("Attributes:")
    attributes: dict[str, str] = {}
    name = ""
    for line in listed.splitlines():
        if not line.strip():
            continue
        if line.startswith(" " * 5):  # goes on with the last one
            attributes[name] += f" {line.strip()}"
        else:
            name, _, text = line.strip().partition(": ")
            attributes[name] = text
    return " ".join(summary.split()), attributes


def short_key(key: object) -> str:
    """Return the beginning of a key of a file, short enough for a sentence."""
    return key[:_MAX_REPR_CHARACTERS] if isinstance(key, str) else short_repr(key)


def short_repr(value: object) -> str:
    """Return the beginning of a value's text, short enough for a sentence.

    Quick even for nested YAML aliases, whose whole text would fill the memory.
    """
    try:
        text = _LIMITED.repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        return "a number of too many digits"
    return text if len(text) <= _MAX_REPR_CHARACTERS else text[: _MAX_REPR_CHARACTERS - 3] + "..."


def _drop(data: Any, location: Sequence[Any]) -> bool:
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
    location = [short_key(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        location = location[:-1]
    place = f"{where}: {'.'.join(location)}" if location else where
    return Problem(place, _sentence(model, error, list(error["loc"])))


def _sentence(model: type[BaseModel], error: Any, location: list[Any]) -> str:
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        listed = f"; known keys are {', '.join(known)}" if known else ""
        unknown = short_key(location[-1])
        return f'unknown key "{unknown}"{listed}.{did_you_mean(unknown, known)}'
    if kind == "missing":
        return "is required but missing"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"found {short_repr(given)}, {message}"


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
