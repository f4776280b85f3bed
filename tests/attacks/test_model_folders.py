"""Model folders that are damaged or made to do harm: one sentence that names the file, and nothing is run."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.api.merge import merge
from evomerge.checkpoint import Checkpoint
from evomerge.errors import EvomergeError, InvalidInput, MergeFailed, RefusedForSafety

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def model(pico: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico["one"], tmp_path / "model"))


def write_index(model: Path, shards: object) -> None:
    (model / INDEX).write_text(json.dumps({"weight_map": shards}))


def write_header(model: Path, header: bytes, data: bytes = b"") -> None:
    (model / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + data)


def change_config(model: Path, **values: object) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | values))


def truncate(model: Path) -> None:
    (model / WEIGHTS).write_bytes((model / WEIGHTS).read_bytes()[:-100])


def claim_large_header(model: Path) -> None:
    (model / WEIGHTS).write_bytes((2**60).to_bytes(8, "little") + (model / WEIGHTS).read_bytes()[8:])


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.safetensors")


ENTRY = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
DAMAGE: dict[str, tuple[Callable[[Path], object], type[EvomergeError], str]] = {
    "truncated weights": (truncate, InvalidInput, "damaged or not a safetensors file"),
    "large header": (claim_large_header, InvalidInput, "damaged or not a safetensors file"),
    "empty weights": (lambda m: (m / WEIGHTS).write_bytes(b""), InvalidInput, "damaged"),
    "header is no text": (lambda m: write_header(m, b'{"\xff": 1}'), InvalidInput, "damaged"),
    "header is no object": (lambda m: write_header(m, b"[1]"), InvalidInput, "damaged"),
    "header is nested": (lambda m: write_header(m, b"[" * 100_000), InvalidInput, "damaged"),
    "shape overflows": (
        lambda m: write_header(
            m, b'{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,4]}}', b"0000"
        ),
        InvalidInput,
        "damaged",
    ),
    "negative offset": (
        lambda m: write_header(m, b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', b"0000"),
        InvalidInput,
        "damaged",
    ),
    "overlapping tensors": (
        lambda m: write_header(m, f'{{"a":{ENTRY},"b":{ENTRY}}}'.encode(), b"0000"),
        InvalidInput,
        "damaged",
    ),
    "unknown dtype": (
        lambda m: write_header(m, b'{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}', b"0000"),
        InvalidInput,
        "a has dtype F8_E4M3, expected one of F64",
    ),
    "weights are a pipe": (lambda m: replace_by_pipe(m / WEIGHTS), InvalidInput, "is not a file"),
    "weights are a folder": (lambda m: replace_by_folder(m / WEIGHTS), InvalidInput, "is not a file"),
    "weights link to nowhere": (lambda m: link_to_nowhere(m / WEIGHTS), InvalidInput, "no model.safetensors"),
    "weights link to a device": (
        lambda m: ((m / WEIGHTS).unlink(), (m / WEIGHTS).symlink_to("/dev/zero")),
        InvalidInput,
        "is not a file",
    ),
    "missing shard": (lambda m: write_index(m, {"a": ONE}), InvalidInput, f"lists a in {ONE}, which is missing"),
    "shard outside": (
        lambda m: write_index(m, {"a": "../model.safetensors"}),
        RefusedForSafety,
        "../model.safetensors",
    ),
    "shard below": (lambda m: write_index(m, {"a": "x/model.safetensors"}), RefusedForSafety, "x/model.safetensors"),
    "absolute shard": (lambda m: write_index(m, {"a": "/etc/passwd.safetensors"}), RefusedForSafety, "/etc/passwd"),
    "shard with NUL": (lambda m: write_index(m, {"a": "a\0.safetensors"}), RefusedForSafety, "names the file"),
    "shard with backslash": (lambda m: write_index(m, {"a": "..\\a.safetensors"}), RefusedForSafety, "names the file"),
    "pickle shard": (lambda m: write_index(m, {"a": "pytorch_model.bin"}), RefusedForSafety, "pytorch_model.bin"),
    "long shard": (lambda m: write_index(m, {"a": "a" * 5000 + ".safetensors"}), RefusedForSafety, "names the file"),
    "index is a list": (lambda m: write_index(m, [WEIGHTS]), InvalidInput, "weight_map is no mapping"),
    "index of numbers": (lambda m: write_index(m, {"a": 3}), InvalidInput, "weight_map is no mapping"),
    "index is empty": (lambda m: write_index(m, {}), InvalidInput, "weight_map lists no tensor"),
    "index without a map": (lambda m: (m / INDEX).write_text("{}"), InvalidInput, "weight_map is no mapping"),
    "index is a pipe": (lambda m: os.mkfifo(m / INDEX), InvalidInput, "is not a file"),
    "no config": (lambda m: (m / "config.json").unlink(), InvalidInput, "config.json is missing"),
    "config is no JSON": (lambda m: (m / "config.json").write_text("{,}"), InvalidInput, "not valid JSON"),
    "config is no text": (lambda m: (m / "config.json").write_bytes(b"\xff\xfe"), InvalidInput, "not valid JSON"),
    "config is nested": (lambda m: (m / "config.json").write_text("[" * 200_000), InvalidInput, "nested too deeply"),
    "config is a list": (lambda m: (m / "config.json").write_text("[]"), InvalidInput, "expected a JSON object"),
    "config is a pipe": (lambda m: replace_by_pipe(m / "config.json"), InvalidInput, "is not a file"),
    "config holds a huge number": (
        lambda m: (m / "config.json").write_text(f'{{"vocab_size": {"9" * 5000}}}'),
        InvalidInput,
        "not valid JSON",
    ),
    "huge depth": (lambda m: change_config(m, num_hidden_layers=10**12), InvalidInput, "num_hidden_layers: found"),
    "negative size": (lambda m: change_config(m, vocab_size=-1), InvalidInput, "vocab_size: found"),
    "size is a text": (lambda m: change_config(m, hidden_size="wide"), InvalidInput, "hidden_size: found 'wide'"),
    "odd architectures": (lambda m: change_config(m, architectures=3), InvalidInput, "architectures: expected"),
    "odd text_config": (lambda m: change_config(m, text_config=3), InvalidInput, "text_config: found int"),
    "no weights": (lambda m: (m / WEIGHTS).unlink(), InvalidInput, f"no {WEIGHTS}"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_model_is_a_sentence(name: str, model: Path) -> None:
    damage, kind, sentence = DAMAGE[name]
    damage(model)
    with pytest.raises(kind) as caught:
        _ = Checkpoint(model, "mine").tensors
    assert sentence in str(caught.value)
    assert str(model) in str(caught.value) or "mine" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "weights.pth", "old.ckpt"])
def test_a_pickle_is_refused_unopened(file: str, model: Path, tmp_path: Path) -> None:
    class Sentinel:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (model / WEIGHTS).unlink()
    torch.save(Sentinel(), model / file)
    with pytest.raises(RefusedForSafety, match="a pickle that can run code") as caught:
        Checkpoint(model, "mine")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "ran").exists()


def test_a_pickle_beside_safetensors_is_never_read(model: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"\x80garbage")
    assert len(Checkpoint(model, "mine").tensors) == 30


# -- an index and its shards ------------------------------------------------------------------------------------------


@pytest.fixture
def shards(model: Path) -> Path:
    """The model in two shards."""
    tensors = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    names = list(tensors)
    save_file({name: tensors[name] for name in names[:10]}, model / ONE)
    save_file({name: tensors[name] for name in names[10:]}, model / TWO)
    write_index(model, dict.fromkeys(names[:10], ONE) | dict.fromkeys(names[10:], TWO))
    return model


def listed(shards: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((shards / INDEX).read_text())["weight_map"]
    return found


def refusal(folder: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        Checkpoint(folder, "mine")
    assert "\n" not in str(caught.value)
    assert INDEX in str(caught.value)
    return str(caught.value)


def test_a_tensor_that_the_index_does_not_list(shards: Path) -> None:
    names = listed(shards)
    del names["model.norm.weight"]
    write_index(shards, names)
    file = next(f for f in (ONE, TWO) if "model.norm.weight" in load_file(shards / f))
    assert f"does not list model.norm.weight, which {file} holds; download mine again" in refusal(shards)


def test_a_shard_that_the_index_does_not_list(shards: Path) -> None:
    names = {name: file for name, file in listed(shards).items() if file == ONE}
    write_index(shards, names)
    assert f"which {TWO} holds; download mine again" in refusal(shards)


def test_a_tensor_that_no_shard_holds(shards: Path) -> None:
    write_index(shards, listed(shards) | {"model.extra.weight": TWO})
    assert f"lists model.extra.weight in {TWO}, which does not hold it" in refusal(shards)


def test_a_tensor_in_another_shard_than_listed(shards: Path) -> None:
    names = listed(shards)
    name = next(name for name, file in names.items() if file == ONE)
    write_index(shards, names | {name: TWO})
    assert f"lists {name} in {TWO}, which does not hold it" in refusal(shards)


def test_a_missing_shard(shards: Path) -> None:
    (shards / TWO).unlink()
    name = next(name for name, file in listed(shards).items() if file == TWO)
    assert f"lists {name} in {TWO}, which is missing" in refusal(shards)


def test_files_of_other_sets_are_no_shards(shards: Path) -> None:
    """An adapter, an older set of another number of shards, another library's copy of the weights."""
    for file in ("adapter_model.safetensors", "model-00001-of-00003.safetensors", "consolidated.safetensors"):
        save_file({"other": torch.ones(1)}, shards / file)
    assert "other" not in Checkpoint(shards, "mine").tensors


def test_a_damaged_index_stops_a_merge_before_anything_is_written(shards: Path, tmp_path: Path) -> None:
    names = listed(shards)
    del names["model.norm.weight"]
    write_index(shards, names)
    document = {"merge_method": "passthrough", "models": [{"model": str(shards)}]}
    with pytest.raises(InvalidInput, match=r"does not list model\.norm\.weight"):
        merge(document, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- names, configs and tokenizers that make no sense -----------------------------------------------------------------


def test_absurd_tensor_names_are_only_names(model: Path) -> None:
    tensors = load_file(model / WEIGHTS)
    names = [
        "model.layers.99999999999999999999.x",
        "model.layers.00.x",
        "model.layers.².x",
        "model.layers.٣.x",
        "a\x1b[31m",
        "../../x",
        "",
    ]
    save_file(tensors | {name: torch.ones(1) for name in names}, model / WEIGHTS)
    opened = Checkpoint(model, "mine")
    assert opened.layout.num_layers == 3
    assert all(opened.layout.site(name).part != "block" for name in names)
    assert set(names) <= {*opened.outline.before, *opened.outline.after}


def test_code_that_a_config_names_is_never_run(pico: dict[str, Path], model: Path, tmp_path: Path) -> None:
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    change_config(model, model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.M"})
    slices = [{"sources": [{"model": str(model), "layer_range": [2, 3]}]}]
    out = tmp_path / "out"
    try:
        merge({"merge_method": "passthrough", "slices": slices}, out)
    except EvomergeError as error:
        assert "\n" not in str(error)
    else:
        assert "auto_map" not in json.loads((out / "config.json").read_text())
        assert not (out / "evil.py").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"model": 3}',
        '{"model": {"vocab": 3}}',
        '{"model": {"vocab": {"a": "b"}}}',
        '{"model": {"vocab": {"a": -1}}}',
        f'{{"model": {{"vocab": {{"a": {10**12}}}}}}}',
        '{"model": {"vocab": {"a": 0}, "merges": ["a b c"]}}',
        '{"model": {"vocab": {"a": 0}, "merges": [[1, 2]]}}',
        '{"model": {"vocab": [["a"]]}}',
        '{"model": {"vocab": {}}, "added_tokens": [3]}',
        "[" * 200_000,
    ],
)
def test_a_tokenizer_that_makes_no_sense_is_a_sentence(content: str, model: Path) -> None:
    (model / "tokenizer.json").write_text(content)
    with pytest.raises(MergeFailed, match="mine: its tokenizer cannot be read") as caught:
        _ = Checkpoint(model, "mine").tokenizer.vocabulary
    assert "\n" not in str(caught.value)


# -- random damage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_in_the_header_are_sentences(seed: int, model: Path) -> None:
    """Either the file is refused, or what was changed is only a name; no other exception, no crash."""
    rng = random.Random(seed)
    content = (model / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    for _ in range(100):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(8 + length)] = rng.choice((rng.randrange(256), *b'0123456789"{}[],:-'))
        (model / WEIGHTS).write_bytes(damaged)
        try:
            opened = Checkpoint(model, "mine")
            _ = opened.outline, opened.dtype, opened.summary(digest=False)
        except EvomergeError as error:
            assert "\n" not in str(error)
