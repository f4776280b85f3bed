"""How a recipe names a model: path[@revision][+lora[@revision]], or the same as a mapping."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.recipe._validation import short_repr

MAX_PATH_CHARACTERS = 4096


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """A model as the user wrote it.

    Attributes:
        path: of a folder, or a hub id.
        revision: of the hub: a branch, tag or commit.
        lora: its LoRA adapter.
        architecture: the class of transformers to take it for, instead of the one that its config.json names.
    """

    path: str
    revision: str | None = None
    lora: "ModelRef | None" = None
    architecture: str | None = None

    @classmethod
    def parse(cls, value: object) -> "ModelRef":
        """Read the string or the mapping form.

        Args:
            value: what YAML gives.

        Raises:
            ValueError: neither form fits; the message contains what was found.
        """
        if isinstance(value, ModelRef):
            return value
        if isinstance(value, str):
            return cls._from_string(value)
        if isinstance(value, Mapping):
            return cls._from_mapping(value)
        raise ValueError(
            f"found {short_repr(value)}, expected a model: a path or hub id, or a mapping with model: and lora:"
        )

    @classmethod
    def _from_string(cls, text: str) -> "ModelRef":
        _check_name(text)
        parts = text.split("+")
        if len(parts) > 2 or any(part.count("@") > 1 for part in parts):
            raise ValueError(
                f'"{text[:80]}" holds more than one "+" or "@"; if they belong to the path, write '
                "{model: {path: ...}}"
            )
        model, lora = (parts[0], parts[1] if len(parts) == 2 else None)
        return cls(*_split(model), lora=None if lora is None else cls(*_split(lora)))

    @classmethod
    def _from_mapping(cls, value: Mapping[str, Any]) -> "ModelRef":
        """Read {model:, lora:, override_architecture:}, whose parts are without adapters, or such a part alone."""
        if "model" not in value:
            return cls._from_part(value)
        unknown = sorted(map(str, set(value) - {"model", "lora", "override_architecture"}))
        if unknown:
            listed = "model, lora, override_architecture; path, revision"
            raise ValueError(f'unknown key "{unknown[0]}" in a model; known are {listed}')
        inner, lora = cls._from_part(value["model"]), value.get("lora")
        architecture = value.get("override_architecture")
        if architecture is not None and (not isinstance(architecture, str) or not architecture.isidentifier()):
            raise ValueError(
                f"found override_architecture: {short_repr(architecture)}, expected a class of transformers, such "
                "as LlamaForCausalLM"
            )
        return cls(inner.path, inner.revision, None if lora is None else cls._from_part(lora), architecture)

    @classmethod
    def _from_part(cls, value: object) -> "ModelRef":
        """Read path[@revision], in which "+" is part of the path, or {path:, revision:}."""
        if isinstance(value, str):
            _check_name(value)
            if value.count("@") > 1:
                raise ValueError(
                    f'found "{value[:80]}", expected path or path@revision; "@" in a path: write {{path: ...}}'
                )
            return cls(*_split(value))
        if not isinstance(value, Mapping):
            raise ValueError(
                f"found {short_repr(value)}, expected path@revision, or a mapping with path: and revision:"
            )
        unknown = sorted(map(str, set(value) - {"path", "revision"}))
        if unknown:
            raise ValueError(f'unknown key "{unknown[0]}" in a model; known are model, lora; path, revision')
        path, revision = value.get("path"), value.get("revision")
        if not isinstance(path, str) or not path.strip():
            raise ValueError("a model given as a mapping needs model: or path:, a text")
        _check_name(path)
        if revision is not None and not isinstance(revision, str):
            raise ValueError(f"found revision: {short_repr(revision)}, expected a text; put it in quotes")
        return cls(path, revision)

    def __str__(self) -> str:
        return self.pin + (f"+{self.lora}" if self.lora else "")

    @property
    def pin(self) -> str:
        """The name under which `evomerge.commits` pins this model, whatever adapter it has: path[@revision]."""
        return self.path + (f"@{self.revision}" if self.revision else "")

    def plain(self) -> Any:
        """Return it as plain data for a YAML file: the string where that is unambiguous, else the mapping."""
        if ModelRef._parses_back(self):
            return str(self)
        lora = {"lora": self.lora._as_mapping()} if self.lora else {}
        architecture = {"override_architecture": self.architecture} if self.architecture else {}
        return {"model": self._as_mapping(), **lora, **architecture}

    def _as_mapping(self) -> dict[str, str]:
        return {"path": self.path, **({"revision": self.revision} if self.revision else {})}

    @staticmethod
    def _parses_back(ref: "ModelRef") -> bool:
        try:
            return ModelRef._from_string(str(ref)) == ref
        except ValueError:
            return False


def _check_name(text: str) -> None:
    """Raise ValueError for what can be no model's name."""
    if not text.strip():
        raise ValueError("found an empty model name")
    if len(text) > MAX_PATH_CHARACTERS:
        raise ValueError(f"found a model name of {len(text)} characters, expected at most {MAX_PATH_CHARACTERS}")


def _split(text: str) -> tuple[str, str | None]:
    path, _, revision = text.partition("@")
    return path, revision or None


def looks_local(path: str) -> bool:
    """Tell a path from a hub id by its form alone: hub ids are `name` or `owner/name`."""
    return path.startswith((".", "/", "~")) or path.count("/") != 1 or not re.fullmatch(r"[\w.-]+/[\w.-]+", path)
