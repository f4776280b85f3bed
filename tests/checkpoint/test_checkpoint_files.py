"""Folders on disk: written whole or not at all, read without trust, found by what the user wrote."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from evomerge.checkpoint import (
    Checkpoint,
    CheckpointWriter,
    Parents,
    TensorInfo,
    resolve_model,
)
from evomerge.errors import (
    EvomergeError,
    InvalidInput,
    MergeFailed,
)
from evomerge.recipe import ModelRef

TENSORS = {
    "a.weight": torch.arange(12, dtype=torch.float32).view(3, 4),
    "b.weight": torch.tensor([1.5, -2.0, float("inf")], dtype=torch.bfloat16),
    "c.count": torch.tensor(7, dtype=torch.int64),
    "d.empty": torch.empty(0, 5, dtype=torch.float16),
    "e.flags": torch.tensor([True, False]),
    "ü.weight": torch.ones(2, 1, 3, dtype=torch.float64),
}
INFOS = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()}


def write(out: Path, shard_bytes: int = 10**9) -> None:
    with CheckpointWriter(out, INFOS, shard_bytes) as writer:
        for name, tensor in TENSORS.items():
            writer.write(name, tensor)


@pytest.mark.parametrize("shard_bytes", [1, 50, 60, 10**9])
def test_what_was_written_is_valid_safetensors(shard_bytes: int, tmp_path: Path) -> None:
    write(tmp_path / "out", shard_bytes)
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    found = {}
    for file in files:
        with safe_open(tmp_path / "out" / file, framework="pt") as handle:
            assert handle.metadata() == {"format": "pt"}
            found |= {name: (file, handle.get_tensor(name)) for name in handle.keys()}  # noqa: SIM118
        raw = (tmp_path / "out" / file).read_bytes()
        assert int.from_bytes(raw[:8], "little") % 8 == 0, "data must start aligned"
    assert set(found) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert found[name][1].dtype == tensor.dtype
        assert torch.equal(found[name][1], tensor), name
    index = tmp_path / "out" / "model.safetensors.index.json"
    if len(files) == 1:
        assert files == ["model.safetensors"] and not index.exists()
    else:
        content = json.loads(index.read_text())
        assert content["weight_map"] == {name: file for name, (file, _) in found.items()}
        assert content["metadata"]["total_size"] == sum(info.size_bytes for info in INFOS.values())
        assert all(name.endswith(f"-of-{len(files):05d}.safetensors") for name in files)


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    for stop in range(len(TENSORS)):
        with pytest.raises(KeyboardInterrupt), CheckpointWriter(out, INFOS, 50) as writer:
            for number, (name, tensor) in enumerate(TENSORS.items()):
                if number == stop:
                    raise KeyboardInterrupt
                writer.write(name, tensor)
        assert list(out.parent.iterdir()) == []


def test_an_unfinished_folder_never_appears(tmp_path: Path) -> None:
    with pytest.raises(AssertionError), CheckpointWriter(tmp_path / "out", INFOS) as writer:
        writer.write("a.weight", TENSORS["a.weight"])
    with pytest.raises(AssertionError), CheckpointWriter(tmp_path / "out", INFOS) as writer:
        writer.write("a.weight", TENSORS["a.weight"].double())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInput, match="exists already"):
        write(out)
    assert (out / "thesis.txt").read_text() == "years of work"
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InvalidInput, match="exists already"):
        write(file)
    empty = tmp_path / "empty"
    empty.mkdir()
    write(empty)
    assert (empty / "model.safetensors").exists()


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(pico: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico["one"], tmp_path / "model"))


def test_a_checkpoint_reads_what_is_there(model: Path, pico: dict[str, Path]) -> None:
    opened = Checkpoint(model, "mine")
    summary = opened.summary()
    assert (summary.name, summary.num_layers, summary.hidden_size, summary.vocab_size) == ("mine", 3, 32, 64)
    assert (summary.block_prefix, summary.attention, summary.mlp) == ("model.layers.", "self_attn.", "mlp.")
    assert opened.dtype == torch.bfloat16
    assert opened.digest == Checkpoint(pico["one"], "other name").digest
    assert opened.digest != Checkpoint(pico["two"], "two").digest
    with pytest.raises(MergeFailed, match="mine has no tensor lm_tail"):
        opened.tensor("lm_tail")


def index(model: Path, shards: object) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def test_a_sharded_model_is_one_model(model: Path) -> None:
    whole = Checkpoint(model, "whole")
    halves = [list(whole.tensors)[:15], list(whole.tensors)[15:]]
    split = model.parent / "split"
    split.mkdir()
    shutil.copyfile(model / "config.json", split / "config.json")
    for number, names in enumerate(halves):
        save_file({name: whole.tensor(name) for name in names}, split / f"part{number}.safetensors")
    index(split, {name: f"part{number}.safetensors" for number, names in enumerate(halves) for name in names})
    opened = Checkpoint(split, "split")
    assert opened.tensors == whole.tensors
    assert all(torch.equal(opened.tensor(name), whole.tensor(name)) for name in whole.tensors)


# -- finding ----------------------------------------------------------------------------------------------------------


def test_a_relative_path_starts_at_the_root_or_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here/models/a", "there/models/b"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    root = tmp_path / "there"
    assert resolve_model(ModelRef.parse("models/a"), root).folder == tmp_path / "here/models/a"
    assert resolve_model(ModelRef.parse("./models/b"), root).folder == root / "models/b"
    assert resolve_model(ModelRef.parse(str(root / "models/b"))).folder == root / "models/b"
    (root / "models/a").mkdir()
    with pytest.raises(InvalidInput, match=r"found in two places, .*write an absolute path"):
        resolve_model(ModelRef.parse("models/a"), root)
    assert resolve_model(ModelRef.parse("models/a"), tmp_path / "here").folder == tmp_path / "here/models/a", (
        "one place, named twice"
    )


@pytest.mark.parametrize("path", ["./absent", "/absent/model", "~/absent/model", "a/b/c"])
def test_a_missing_folder_is_said_with_the_places(path: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve_model(ModelRef.parse(path), tmp_path)
    assert path in str(caught.value)
    assert "no such folder" in str(caught.value)


def test_a_hub_name_without_a_network_is_a_sentence(tmp_path: Path) -> None:
    for name in ("someone/some-model", "someone/some-model@v1"):
        with pytest.raises(InvalidInput, match="Hugging Face Hub") as caught:
            resolve_model(ModelRef.parse(name), tmp_path)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_a_revision_of_a_local_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(InvalidInput, match="a local folder has no revision"):
        resolve_model(ModelRef.parse("./model@main"), tmp_path)


def test_each_parent_is_opened_once(pico: dict[str, Path]) -> None:
    refs = [ModelRef.parse(str(pico[name])) for name in ("base", "one", "base")]
    parents = Parents(refs)
    assert list(parents) == refs[:2]
    assert refs[0] in parents and ModelRef.parse("elsewhere") not in parents
    with pytest.raises(EvomergeError):
        Parents([ModelRef.parse("./absent")])
