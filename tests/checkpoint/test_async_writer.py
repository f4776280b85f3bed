"""Files written by a thread hold what was given, and failures reach the caller."""

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evomerge.checkpoint import (
    STAGE_BYTES,
    STAGE_COUNT,
    SYNC_BYTES,
    AsyncWriter,
    CheckpointWriter,
    TensorInfo,
)
from evomerge.errors import EvomergeError


def pattern(size: int) -> bytes:
    return (
        torch.randint(0, 256, (size,), generator=torch.Generator().manual_seed(size), dtype=torch.uint8)
        .numpy()
        .tobytes()
    )


SIZES = [0, 1, *(STAGE_BYTES + i for i in (-1, 0, 1)), 3 * STAGE_BYTES, (STAGE_COUNT + 2) * STAGE_BYTES + 5]


@pytest.mark.parametrize("size", SIZES)
def test_holds_what_was_written(size: int, tmp_path: Path) -> None:
    content = pattern(size)
    stream = AsyncWriter(tmp_path / "file")
    stream.write(content[: size // 3])
    stream.write(memoryview(content)[size // 3 :])
    stream.close()
    assert (tmp_path / "file").read_bytes() == content


def test_the_caller_may_change_its_memory_at_once(tmp_path: Path) -> None:
    memory = bytearray(STAGE_BYTES // 2 + 3)
    stream = AsyncWriter(tmp_path / "file")
    for number in range(30):
        memory[:] = bytes([number]) * len(memory)
        stream.write(memoryview(memory))
    stream.close()
    written = (tmp_path / "file").read_bytes()
    assert written == b"".join(bytes([number]) * len(memory) for number in range(30))


def test_waits_for_the_disk_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr("os.fsync", waits.append)
    stream = AsyncWriter(tmp_path / "file")
    for _ in range(2 * SYNC_BYTES // STAGE_BYTES):
        stream.write(bytes(STAGE_BYTES))
    stream.close()
    assert len(waits) == 3


def test_a_full_disk_is_reported_in_one_sentence() -> None:
    stream = AsyncWriter(Path("/dev/full"))
    with pytest.raises(EvomergeError, match=r"/dev/full: cannot be written \(No space left on device\); free space"):
        for _ in range(3 * STAGE_COUNT):  # more than fits behind a thread that has given up
            stream.write(bytes(STAGE_BYTES))
    stream.abandon()


def test_a_failure_of_the_last_piece_is_reported_when_closing() -> None:
    stream = AsyncWriter(Path("/dev/full"))
    stream.write(b"little")
    with pytest.raises(EvomergeError, match="No space left"):
        stream.close()


def test_a_failed_merge_leaves_neither_folder_nor_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    tensors = {name: TensorInfo(torch.float32, (1000,)) for name in "ab"}
    with pytest.raises(KeyboardInterrupt), CheckpointWriter(tmp_path / "out", tensors) as writer:
        writer.write("a", torch.ones(1000))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


def test_shards_of_many_pieces(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.randn(STAGE_BYTES // 4 + i) for i in range(5)}
    infos = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    with CheckpointWriter(tmp_path / "out", infos, shard_bytes=2 * STAGE_BYTES + 100) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(files) == 3
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
