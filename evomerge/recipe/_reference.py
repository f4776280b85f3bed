"""How a recipe names a model: path[@revision][+lora[@revision]], or the same as a mapping."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """A model as the user wrote it: a folder or hub id, an optional revision and an optional LoRA adapter."""

    path: str
    revision: str | None = None
    lora: "ModelRef | None" = None

    @classmethod
    def parse(cls, value: Any) -> "ModelRef":
        """Read the string or the mapping form.

        Raises:
            ValueError: neither form fits; the message says what was found.
        """
        if isinstance(value, ModelRef):
            return value
        if isinstance(value, str):
            return cls._from_string(value)
        if isinstance(value, Mapping):
            return cls._from_mapping(value)
        raise ValueError(f"found {value!r}, expected a model: a path or hub id, or a mapping with model: and lora:")

    @classmethod
    def _from_string(cls, text: str) -> "ModelRef":
        if not text.strip():
            raise ValueError("found an empty model name")
        parts = text.split("+")
        if len(parts) > 2 or any(part.count("@") > 1 for part in parts):
            raise ValueError(
                f'"{text}" holds more than one "+" or "@"; if they belong to the path, write {{model: {{path: ...}}}}'
            )
        model, lora = (parts[0], parts[1] if len(parts) == 2 else None)
        return cls(*_split(model), lora=None if lora is None else cls(*_split(lora)))

    @classmethod
    def _from_mapping(cls, value: Mapping[str, Any]) -> "ModelRef":
        unknown = set(value) - {"model", "lora", "path", "revision"}
        if unknown:
            raise ValueError(f'unknown key "{sorted(unknown)[0]}" in a model; known are model, lora, path, revision')
        if "path" in value:
            return cls(str(value["path"]), value.get("revision"))
        if "model" not in value:
            raise ValueError("a model given as a mapping needs model: or path:")
        inner = cls.parse(value["model"])
        lora = value.get("lora")
        return cls(inner.path, inner.revision, None if lora is None else cls.parse(lora))

    def __str__(self) -> str:
        return self.pin + (f"+{self.lora}" if self.lora else "")

    @property
    def pin(self) -> str:
        """The name under which `evomerge.commits` pins this model, whatever adapter it has: path[@revision]."""
        return self.path + (f"@{self.revision}" if self.revision else "")

    def plain(self) -> Any:
        """Return what a YAML file says for it: the string where that is unambiguous, else the mapping."""
        if ModelRef._parses_back(self):
            return str(self)
        inner = {"path": self.path, **({"revision": self.revision} if self.revision else {})}
        return {"model": inner, **({"lora": self.lora.plain()} if self.lora else {})}

    @staticmethod
    def _parses_back(ref: "ModelRef") -> bool:
        try:
            return ModelRef._from_string(str(ref)) == ref
        except ValueError:
            return False


def _split(text: str) -> tuple[str, str | None]:
    path, _, revision = text.partition("@")
    return path, revision or None


def looks_local(path: str) -> bool:
    """Tell a path from a hub id by its form alone: hub ids are `name` or `owner/name`."""
    return path.startswith((".", "/", "~")) or path.count("/") != 1 or not re.fullmatch(r"[\w.-]+/[\w.-]+", path)
