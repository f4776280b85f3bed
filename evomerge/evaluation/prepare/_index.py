"""Which file holds a task, group or tag: lm-eval's index of names, without importing lm-eval or parsing its YAML.

lm-eval parses each of its 14,000 files for one name, which takes seconds. A name, its tags and what a
file includes stand at the beginning of a line, so that a scan for them finds the same index in a fraction of a second;
files in which they are written in some other way, and all files of the user's, are parsed. Rules are lm-eval's: of two
files with one name the first wins, in the order of their paths, and files that cannot be read are left out.
"""

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evomerge.evaluation._request import InvalidTask
from evomerge.evaluation._user_code import lm_eval_folder
from evomerge.evaluation.prepare._task_config import read_config

_IGNORED = {"__pycache__", ".ipynb_checkpoints"}
_KEY = re.compile(r"^[\"']?(task|group|tag|class|include)[\"']?[ \t]*:[ \t]*(.*)$", re.MULTILINE)
_WORD = re.compile(r"([\"']?)([A-Za-z_][\w.+-]*)\1\s*(?:#.*)?")
_LIST = re.compile(r"^tag[ \t]*:[ \t]*\n((?:[ \t]*-[ \t]*[A-Za-z_][\w.+-]*[ \t]*\n)+)(?=\S|\Z)", re.MULTILINE)
_YAML_LITERALS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}  # YAML reads them as something else


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """What a name stands for.

    Attributes:
        kind: what it is.
        path: of its YAML; None for a tag.
        tagged: names of the tasks that carry the tag.
    """

    kind: Literal["task", "group", "tag"]
    path: Path | None
    tagged: set[str] = field(default_factory=set)


class TaskIndex:
    """Names of tasks, groups and tags: those of a folder first, lm-eval's own only when a name is not among them."""

    def __init__(self, task_path: Path | None):
        self.folder = task_path.resolve() if task_path else None
        self._unreadable: dict[str, str] = {}
        self._local = _entries(self._parsed(self.folder)) if self.folder else {}

    def find(self, name: str) -> tuple[IndexEntry, bool] | None:
        """Return (entry, whether it is the user's own). None = unknown."""
        if name in self._local:
            return self._local[name], True
        entry = built_in_entries().get(name)
        return (entry, False) if entry else None

    def names(self) -> list[str]:
        """Return every known name."""
        return [*self._local, *built_in_entries()]

    def unreadable(self) -> Mapping[str, str]:
        """Return file -> error for the folder's YAML files that cannot be read."""
        return self._unreadable

    def _parsed(self, folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        for path in _files(folder):
            try:
                yield path, read_config(path, built_in=False)
            except InvalidTask as refusal:
                self._unreadable[path.name] = str(refusal).partition("cannot be read: ")[2].splitlines()[0]


@functools.cache
def built_in_entries() -> Mapping[str, IndexEntry]:
    """Return the index of lm-eval's own names."""
    return scan_folder(lm_eval_folder() / "tasks")


def scan_folder(folder: Path) -> dict[str, IndexEntry]:
    """Return name -> entry for the YAML files below a folder of lm-eval's."""
    return _entries(_scanned(folder))


def _entries(files: Iterator[tuple[Path, Mapping[str, Any]]]) -> dict[str, IndexEntry]:
    """Return name -> entry from files' keys: task, group, class and tag are all that is looked at."""
    entries: dict[str, IndexEntry] = {}
    for path, config in files:
        kind: Literal["task", "group"] = "group" if "group" in config and "class" not in config else "task"
        name = config.get(kind)
        if not isinstance(name, str) or name in entries:
            continue
        entries[name] = IndexEntry(kind, path)
        if kind == "task":
            tags = config.get("tag") or []
            for tag in [tags] if isinstance(tags, str) else tags:
                entries.setdefault(tag, IndexEntry("tag", None)).tagged.add(name)
    return entries


def _files(folder: Path) -> Sequence[Path]:
    """Return the YAML files below a folder, sorted by path."""
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _IGNORED]
        found += [f"{parent}/{name}" for name in names if name.endswith(".yaml")]
    return [Path(path) for path in sorted(found)]


def _scanned(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield lm-eval's files with the keys that `_entries` looks at."""
    included: dict[Path, Mapping[str, Any]] = {}
    for path in _files(folder):
        try:
            yield path, _keys(path, included)
        except (OSError, UnicodeDecodeError, InvalidTask):
            continue


def _keys(path: Path, included: dict[Path, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return a file's keys with those of the files that it includes."""
    text = path.read_text(encoding="utf-8")
    found = dict(_KEY.findall(text))
    other = found.pop("include", None)
    keys: dict[str, Any] = {}
    if other is not None:
        target = Path(os.path.normpath(path.parent / other.strip().strip("\"'")))
        if not target.is_file():  # several of them, or a comment after it
            return read_config(path, built_in=True)
        if target not in included:
            included[target] = _keys(target, included)
        keys |= included[target]
    tags = _LIST.search(text)
    if tags:
        found["tag"] = ""
        keys["tag"] = re.findall(r"[A-Za-z_][\w.+-]*", tags[1])
    for key, value in found.items():
        word = _WORD.fullmatch(value.strip())
        if word and word[2].lower() not in _YAML_LITERALS:
            keys[key] = word[2]
        elif key == "class":
            keys[key] = value
        elif not (key == "task" and "group" in found) and not (key == "tag" and tags):
            return read_config(path, built_in=True)
    return keys
