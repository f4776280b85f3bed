"""Bringing the parents to a node that lacks them: once per node, piece by piece, checked byte by byte."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from evomerge.checkpoint import model_files
from evomerge.errors import EvomergeError, InvalidInput

PIECE_BYTES = 64 << 20  # of a file that are under way at once
Fetch = Callable[[str, int, int], bytes]  # (file, first byte, number of bytes) -> its content there


class File(NamedTuple):
    """One file of a model folder.

    Attributes:
        size: bytes.
        sha256: of its content.
    """

    size: int
    sha256: str


class Content(NamedTuple):
    """A model folder by what is in it.

    Attributes:
        folder: where it is on the driver's node.
        files: name -> file.
    """

    folder: str
    files: Mapping[str, File]

    @property
    def digest(self) -> str:
        """SHA-256 of names and contents, tokenizer and config included."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


def content_of(folder: Path) -> Content:
    """Read a model folder: every byte of what a model consists of."""
    return Content(str(folder), {name: _file(folder / name) for name in model_files(folder)})


def size_of(places: Mapping[str, Path]) -> int:
    """Return the bytes of what models consist of."""
    return sum((folder / name).stat().st_size for folder in places.values() for name in model_files(folder))


class ParentServer:
    """An actor on the driver's node that hands out the parents' files, and nothing else."""

    def __init__(self, folders: Mapping[str, Path]):
        """Serve some folders.

        Args:
            folders: name of a parent or adapter -> where it is.
        """
        self._folders = folders
        self._contents: dict[str, Content] = {}
        self._reading = threading.Lock()

    def contents(self) -> dict[str, Content]:
        """Return name -> content; the first call reads every file."""
        with self._reading:
            self._contents = self._contents or {name: content_of(folder) for name, folder in self._folders.items()}
            return self._contents

    def read(self, name: str, file: str, start: int, size: int) -> bytes:
        """Return a piece of a file.

        Args:
            name: of the parent or adapter.
            file: name in its folder.
            start: first byte.
            size: bytes.

        Raises:
            InvalidInput: the file is no part of that model.
        """
        if file not in self._contents[name].files:
            raise InvalidInput(f"{name}: {file} is no part of that model")
        with (self._folders[name] / file).open("rb") as stream:
            stream.seek(start)
            return stream.read(size)


def staged(content: Content, cache: Path, fetch: Fetch) -> Path:
    """Return a folder of this machine that holds a model: its own if it is the same there, else a copy in the cache.

    Several processes may ask at once; one works, the others wait. An interrupted copy leaves nothing behind that could
    be taken for whole.

    Args:
        content: of the folder on the driver's node.
        cache: folder of this machine for copies.
        fetch: reads a piece of a file from the driver's node.

    Raises:
        EvomergeError: the disk has no space, or what arrives is not what was sent.
    """
    target = cache / content.digest
    own = Path(content.folder)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{content.digest}.lock"):
            for folder in (own, target):
                if _is_same(folder, content, cache):
                    return folder
            return _copied(content, target, fetch)
    except OSError as error:
        raise EvomergeError(
            f"{cache}: cannot keep a copy of {content.folder} ({error.strerror or error}); EVOMERGE_CACHE names "
            "another folder"
        ) from error


def _is_same(folder: Path, content: Content, cache: Path) -> bool:
    """Tell whether a folder holds the content. Files that were checked once are not read again while they look so."""
    note = cache / f"{content.digest}.json"
    looks = _looks(folder, content)
    if looks is None:
        return False
    with suppress(OSError, ValueError):
        if json.loads(note.read_text(encoding="utf-8")) == [str(folder), looks]:
            return True
    if any(_file(folder / name) != file for name, file in content.files.items()):
        return False
    _write_note(note, [str(folder), looks])
    return True


def _looks(folder: Path, content: Content) -> dict[str, Any] | None:
    """Return name -> size, time and inode of each file, or None if a name or a size is not the content's."""
    found = {}
    for name in model_files(folder):
        status = (folder / name).stat()
        found[name] = [status.st_size, status.st_mtime_ns, status.st_ino]
    sizes = {name: look[0] for name, look in found.items()}
    return found if sizes == {name: file.size for name, file in content.files.items()} else None


def _copied(content: Content, target: Path, fetch: Fetch) -> Path:
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)  # damaged, or it would have been taken
    free = shutil.disk_usage(target.parent).free
    if free < content.size_bytes:
        raise EvomergeError(
            f"{target.parent}: {content.folder} needs {content.size_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
            "free; EVOMERGE_CACHE names another folder"
        )
    draft.mkdir()
    try:
        for name, file in content.files.items():
            _fetch_file(draft / name, name, file, fetch)
        os.replace(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _write_note(target.with_name(f"{target.name}.json"), [str(target), _looks(target, content)])
    return target


def _fetch_file(path: Path, name: str, file: File, fetch: Fetch) -> None:
    seen = hashlib.sha256()
    with path.open("wb") as stream:
        for start in range(0, file.size, PIECE_BYTES):
            piece = fetch(name, start, min(PIECE_BYTES, file.size - start))
            seen.update(piece)
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
    if seen.hexdigest() != file.sha256:
        raise EvomergeError(f"{name}: changed while it was copied to this node; leave parents alone during a search")


def _file(path: Path) -> File:
    with path.open("rb") as stream:
        return File(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _write_note(note: Path, value: object) -> None:
    draft = note.with_name(f"{note.name}.{os.getpid()}")
    draft.write_text(json.dumps(value), encoding="utf-8")
    os.replace(draft, note)
