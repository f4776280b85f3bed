"""Parents on the way to a node that lacks them: whole or not at all, once, and never a byte of difference."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from evomerge.checkpoint import Parents
from evomerge.errors import EvomergeError, InvalidInput
from evomerge.recipe import ModelRef
from evomerge.run.workers.ray import (
    ParentServer,
    content_of,
    size_of,
    staged,
)


class Wire:
    """Stands for the network: counts what it carries, and may break or lie."""

    def __init__(self, folder: Path):
        self.source = ParentServer({"parent": folder})
        self.content = self.source.contents()["parent"]
        self.pieces: list[tuple[str, int, int]] = []
        self.spoil: Callable[[bytes], bytes] = lambda piece: piece

    def fetch(self, file: str, start: int, size: int) -> bytes:
        self.pieces.append((file, start, size))
        return self.spoil(self.source.read("parent", file, start, size))


@pytest.fixture
def wire(pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """A parent whose folder the receiving node does not have."""
    monkeypatch.setattr("evomerge.run.workers.ray._parent_transfer.PIECE_BYTES", 1000)
    folder = tmp_path / "driver" / "parent"
    shutil.copytree(pico["one"], folder)
    (folder / "pytorch_model.bin").write_bytes(b"code that nobody wants")
    found = Wire(folder)
    found.content = found.content._replace(folder=str(tmp_path / "elsewhere" / "parent"))
    return found


def test_a_copy_is_the_same_model(wire: Wire, pico: dict[str, Path], tmp_path: Path) -> None:
    folder = staged(wire.content, tmp_path / "cache", wire.fetch)
    assert folder == tmp_path / "cache" / wire.content.digest
    assert content_of(folder).files == wire.content.files
    assert not (folder / "pytorch_model.bin").exists(), "only what a model consists of travels"
    assert max(size for _, _, size in wire.pieces) == 1000, "in pieces, whatever the files' sizes"
    ref = ModelRef(str(tmp_path / "elsewhere" / "parent"))
    here = Parents([ref], folders={ref.pin: folder})
    assert here[ref].digest == Parents([ModelRef(str(pico["one"]))])[ModelRef(str(pico["one"]))].digest
    assert here.folders == {ref.pin: folder}
    assert size_of(here.folders) == wire.content.size_bytes


def test_the_second_worker_of_a_node_copies_nothing(wire: Wire, tmp_path: Path) -> None:
    first = staged(wire.content, tmp_path / "cache", wire.fetch)
    wire.pieces.clear()
    assert staged(wire.content, tmp_path / "cache", wire.fetch) == first
    assert wire.pieces == []


def test_workers_that_start_together_wait_for_one_copy(wire: Wire, tmp_path: Path) -> None:
    found: list[Path] = []
    ask = lambda: found.append(staged(wire.content, tmp_path / "cache", wire.fetch))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 4
    assert len(wire.pieces) == len(set(wire.pieces)), "every piece traveled once"


def test_a_folder_that_is_the_same_here_is_used_as_it_is(wire: Wire, tmp_path: Path, monkeypatch) -> None:
    own = Path(wire.content.folder)
    shutil.copytree(tmp_path / "driver" / "parent", own)
    assert staged(wire.content, tmp_path / "cache", wire.fetch) == own
    assert wire.pieces == []
    monkeypatch.setattr("evomerge.run.workers.ray._parent_transfer._file", lambda path: pytest.fail("read again"))
    assert staged(wire.content, tmp_path / "cache", wire.fetch) == own, "once checked, it is not read again"


@pytest.mark.parametrize("change", ["content", "name", "extra"])
def test_a_folder_that_is_another_one_here_is_not_taken(wire: Wire, tmp_path: Path, change: str) -> None:
    own = Path(wire.content.folder)
    shutil.copytree(tmp_path / "driver" / "parent", own)
    if change == "content":
        text = (own / "config.json").read_bytes()
        (own / "config.json").write_bytes(text.replace(b"128", b"127"))
        assert len(text) == (own / "config.json").stat().st_size
    elif change == "name":
        (own / "tokenizer.json").rename(own / "tokenizers.json")
    else:
        (own / "added_tokens.json").write_text("{}")
    assert staged(wire.content, tmp_path / "cache", wire.fetch) == tmp_path / "cache" / wire.content.digest


def test_a_change_after_the_check_is_seen(wire: Wire, tmp_path: Path) -> None:
    own = Path(wire.content.folder)
    shutil.copytree(tmp_path / "driver" / "parent", own)
    assert staged(wire.content, tmp_path / "cache", wire.fetch) == own
    weights = own / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(1, 1))
    assert staged(wire.content, tmp_path / "cache", wire.fetch) != own


def test_a_broken_copy_leaves_nothing_and_is_made_again(wire: Wire, tmp_path: Path) -> None:
    def cut(piece: bytes) -> bytes:
        if len(wire.pieces) > 5:
            raise ConnectionError("the node is gone")
        return piece

    wire.spoil = cut
    with pytest.raises(EvomergeError, match=r"cannot keep a copy of .* \(the node is gone\)"):
        staged(wire.content, tmp_path / "cache", wire.fetch)
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
    wire.spoil = lambda piece: piece
    assert content_of(staged(wire.content, tmp_path / "cache", wire.fetch)).files == wire.content.files


def test_a_damaged_copy_in_the_cache_is_replaced(wire: Wire, tmp_path: Path) -> None:
    folder = staged(wire.content, tmp_path / "cache", wire.fetch)
    (folder / "model.safetensors").write_bytes(b"")
    assert content_of(staged(wire.content, tmp_path / "cache", wire.fetch)).files == wire.content.files


def test_leftovers_of_a_killed_worker_are_no_obstacle(wire: Wire, tmp_path: Path) -> None:
    draft = tmp_path / "cache" / f".{wire.content.digest}.part"
    draft.mkdir(parents=True)
    (draft / "config.json").write_text("half")
    assert content_of(staged(wire.content, tmp_path / "cache", wire.fetch)).files == wire.content.files
    assert not draft.exists()


def test_what_changes_on_the_way_is_refused(wire: Wire, tmp_path: Path) -> None:
    wire.spoil = lambda piece: bytes(len(piece))
    with pytest.raises(EvomergeError, match="changed while it was copied to this node"):
        staged(wire.content, tmp_path / "cache", wire.fetch)
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_a_disk_without_room_is_refused_before_anything_travels(wire: Wire, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage)
    with pytest.raises(EvomergeError, match=r"needs 0\.0 GB, and 0\.0 GB are free; EVOMERGE_CACHE names another"):
        staged(wire.content, tmp_path / "cache", wire.fetch)
    assert wire.pieces == []


class _Usage:
    free = 10


def test_a_source_hands_out_parents_and_nothing_else(wire: Wire) -> None:
    for file in ("pytorch_model.bin", "../parent/config.json"):
        with pytest.raises(InvalidInput, match="is no part of that model"):
            wire.source.read("parent", file, 0, 10)
