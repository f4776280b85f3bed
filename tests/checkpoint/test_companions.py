"""Every file that a model folder needs travels with a merge, and of a repository only what is needed is fetched."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evomerge.api.merge import merge, plan_merge
from evomerge.checkpoint import Parents, chat_template, model_files
from evomerge.recipe import ModelRef
from evomerge.testing.pico import write_pico

COMMIT = "c" * 40
TEXTS = {
    "preprocessor_config.json": {"size": 8},
    "processor_config.json": {"image_seq_length": 4, "chat_template": "old"},
    "video_preprocessor_config.json": {"fps": 2},
    "chat_template.json": {"chat_template": "{{ messages[0].content }}"},
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
        {"idx": 3, "name": "3", "path": "../outside", "type": "sentence_transformers.models.Dense"},
    ],
    "config_sentence_transformers.json": {"prompts": {}},
    "sentence_bert_config.json": {"max_seq_length": 64},
    "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
    "2_Dense/config.json": {"in_features": 32},
    "tekken.json": {"vocab": []},
    "additional_chat_templates/tool_use.jinja": "tools",
}
BYTES = ("tokenizer.model", "tokenizer.model.v3", "spiece.model", "qwen.tiktoken", "2_Dense/model.safetensors")
CODE = {"auto_map": {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM", "AutoConfig": "configuration_own.Own"}}
SUPERFLUOUS = (
    *(
        "consolidated.safetensors",
        "model.fp16.safetensors",
        "onnx/model.onnx",
        "onnx/config.json",
        "original/params.json",
    ),
    *(
        "original/tokenizer.model",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "modeling_own.py",
        "tf_model.h5",
    ),
    *(
        "trainer_state.json",
        "params.json",
        "openvino/model.safetensors",
        "1_Pooling/code.py",
        "model.gguf",
        "params.txt",
    ),
)


def furnish(folder: Path) -> Path:
    """Put everything that a folder can hold beside a model."""
    for name, content in TEXTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    for name in (*BYTES, *SUPERFLUOUS):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | CODE))
    return folder


def recipe(*models: Path, **more: Any) -> dict[str, Any]:
    named = [{"model": str(model), "parameters": {"weight": 1}} for model in models]
    return {"merge_method": "linear", "models": named, **more}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def furnished(tmp_path: Path) -> tuple[Path, Path]:
    one = furnish(write_pico(tmp_path / "one", 0))
    return one, write_pico(tmp_path / "two", 1, near=write_pico(tmp_path / "plain", 0))


def test_what_a_folder_needs_travels(furnished: tuple[Path, Path], tmp_path: Path) -> None:
    out = merge(recipe(*furnished), tmp_path / "out")
    needed = {*TEXTS, *BYTES}
    assert files(out) >= needed
    assert all((out / name).read_bytes() == (furnished[0] / name).read_bytes() for name in needed)
    assert not files(out) & set(SUPERFLUOUS)
    assert "auto_map" not in json.loads((out / "config.json").read_text())


def test_what_stays_behind_is_noted(furnished: tuple[Path, Path]) -> None:
    notes = "\n".join(plan_merge(recipe(*furnished))[0].notes)
    assert "auto_map: configuration_own, modeling_own), which is neither run nor copied" in notes
    assert "2_Dense/ of sentence-transformers holds weights, which are" in notes
    (furnished[0] / "2_Dense" / "model.safetensors").rename(furnished[0] / "2_Dense" / "pytorch_model.bin")
    notes = "\n".join(plan_merge(recipe(*furnished))[0].notes)
    assert "2_Dense/ of sentence-transformers holds a pickle" in notes


def test_new_tokens_leave_older_vocabularies_behind(furnished: tuple[Path, Path], tmp_path: Path) -> None:
    rule = {
        "source": "base",
        "tokens": {"<new>": {"source": {"kind": "model_token", "model": str(furnished[1]), "token_id": 5}}},
    }
    out = merge(recipe(*furnished, tokenizer=rule, base_model=str(furnished[0])), tmp_path / "out")
    assert not files(out) & {"tekken.json", "tokenizer.model", "tokenizer.model.v3", "spiece.model", "qwen.tiktoken"}
    assert files(out) >= {"tokenizer.json", "chat_template.json", "preprocessor_config.json"}


def test_a_template_of_the_recipe_is_the_only_one(furnished: tuple[Path, Path], tmp_path: Path) -> None:
    out = merge(recipe(*furnished, chat_template="chatml"), tmp_path / "out")
    assert "<|im_start|>" in (out / "chat_template.jinja").read_text()
    assert not any("chat_templates" in name or name == "chat_template.json" for name in files(out))
    assert json.loads((out / "processor_config.json").read_text()) == {"image_seq_length": 4}


def test_a_template_is_found_wherever_it_is_kept(furnished: tuple[Path, Path]) -> None:
    parents = Parents([ModelRef(str(furnished[0]))])
    tokenizer = parents[ModelRef(str(furnished[0]))].tokenizer
    assert chat_template("auto", [tokenizer]) == "{{ messages[0].content }}"
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    (furnished[0] / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert chat_template("auto", [tokenizer]) == "plain"


# -- the hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serve the folders owner/NAME below the returned one as repositories, with the hub's own rules for patterns."""
    from huggingface_hub.utils import filter_repo_objects

    served = tmp_path / "hub"

    def snapshot_download(repo: str, *, revision: str | None = None, **patterns: Any) -> str:
        target = tmp_path / "cache" / repo / COMMIT
        for name in filter_repo_objects(sorted(files(served / repo)), **patterns):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(served / repo / name, target / name)
        return str(target)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    return served / "owner"


def fetched(name: str) -> set[str]:
    """Open a model of the hub and return the files that came."""
    parents = Parents([ModelRef.parse(name)])
    return files(parents[ModelRef.parse(name)].folder)


@pytest.mark.parametrize("shards", [False, True])
def test_what_is_needed_is_fetched_and_nothing_else(shards: bool, hub: Path, tmp_path: Path) -> None:
    folder = furnish(write_pico(hub / "full", 0))
    weights = {"model.safetensors"}
    if shards:
        (folder / "model.safetensors").unlink()
        merge(recipe(write_pico(tmp_path / "one", 0)), tmp_path / "sharded", shard_bytes=40_000)
        weights = {path.name for path in (tmp_path / "sharded").glob("model*")}
        assert len(weights) > 2
        for name in weights:
            shutil.copyfile(tmp_path / "sharded" / name, folder / name)
        (folder / "model-00001-of-00009.safetensors").write_bytes(b"of an older set")
    own = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    found = fetched("owner/full")
    assert found == {*own, *weights, *TEXTS, *BYTES}
    flat = {name for name in found if "/" not in name}
    assert set(model_files(tmp_path / "cache" / "owner" / "full" / COMMIT)) == flat


def test_an_adapter_is_fetched_alone(hub: Path) -> None:
    folder = hub / "lora"
    folder.mkdir(parents=True)
    for name in (
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_model.bin",
        "checkpoint-5/model.safetensors",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    from evomerge.checkpoint import resolve_model

    assert files(resolve_model(ModelRef.parse("owner/lora")).folder) == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
