"""One recipe for each thing that mergekit's YAML can say (recipes.yaml): both programs make the same model of it.

In a recipe, {base}, {one}, {two} and {three} are pico Llamas in float32, {half} is one in bf16, {lora} is an adapter
of the base. {plain}, {words} and {more} have different tokenizers and no padded rows, which are kept here and cut off
by mergekit.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

pytest.importorskip("mergekit", reason="mergekit is not installed; `make peers` builds an environment that has it")

import evomerge
from evomerge.testing.pico import character_tokenizer, write_pico

TOLERANCE = 1e-6  # of a tensor's largest value, in float32
RECIPES = yaml.safe_load((Path(__file__).parent / "recipes.yaml").read_text())


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("parents")
    made = {"base": write_pico(root / "base", 0)}
    for seed, name in enumerate(("one", "two", "three"), start=1):
        made[name] = write_pico(root / name, seed, near=made["base"])
    made["half"] = write_pico(root / "half", 4, near=made["base"], dtype="bfloat16")
    made["plain"] = other_words(root / "plain", 7)
    made["words"] = other_words(root / "words", 5, "<tool>", "<other>")
    made["more"] = other_words(root / "more", 6, "<other>", "<third>")
    evomerge.extract_lora(made["one"], made["base"], root / "lora", rank=4)
    return made | {"lora": root / "lora"}


def other_words(folder: Path, seed: int, *added: str) -> Path:
    """Write a model whose tokenizer has some words under other ids, and more words."""
    known = len(character_tokenizer())
    write_pico(folder, seed, vocab_size=known + len(added))
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    if added:
        words["a"], words["b"], words["d"] = words["b"], words["d"], words["a"]
    for i, token in enumerate(added):
        words[token] = known + i
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        content["added_tokens"].append({"id": known + i, "content": token, **flags})
    path.write_text(json.dumps(content))
    return folder


def filled(text: str, parents: dict[str, Path]) -> str:
    for name, path in parents.items():
        text = text.replace("{" + name + "}", str(path))
    return text


def theirs(text: str, out: Path, **options: Any) -> Path:
    """Run mergekit on a recipe's text."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    chosen = MergeOptions(write_model_card=False, quiet=True, lora_merge_cache=str(out.parent / "adapted"), **options)
    run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), str(out), options=chosen)
    return out


def ours(text: str, out: Path) -> Path:
    file = out.with_suffix(".yaml")
    file.write_text(text)
    return evomerge.merge(file, out)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def by_token(folder: Path, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors with the rows of a vocabulary in the order of the tokens' names, padding last."""
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    ids = words | {entry["content"]: entry["id"] for entry in added}
    order = [ids[token] for token in sorted(ids)]
    size = found["lm_head.weight"].shape[0]
    order += sorted(set(range(size)) - set(order))
    names = ("lm_head.weight", "model.embed_tokens.weight")
    return {name: tensor[torch.tensor(order)] if name in names else tensor for name, tensor in found.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_text_gives_the_same_model(name: str, parents: dict[str, Path], tmp_path: Path) -> None:
    text = filled(RECIPES[name], parents)
    folders = ours(text, tmp_path / "ours"), theirs(text, tmp_path / "theirs")
    mine, reference = (tensors(folder) for folder in folders)
    if "tokenizer" in text:
        mine, reference = (by_token(f, found) for f, found in zip(folders, (mine, reference), strict=True))
    assert set(mine) == set(reference)
    for key, tensor in mine.items():
        assert tensor.dtype == reference[key].dtype, key
        # Rounded results are equal. Parents in float32 are merged in float32, whatever dtype the result has.
        unit = TOLERANCE if tensor.dtype in (torch.float32, torch.float64) else 0.0
        difference = (tensor.double() - reference[key].double()).abs().max()
        assert float(difference) <= unit * float(reference[key].double().abs().max()), key
    config = [json.loads((folder / "config.json").read_text()) for folder in folders]
    for key in ("num_hidden_layers", "vocab_size", "architectures", "tie_word_embeddings"):
        assert config[0].get(key) == config[1].get(key), key
    if "dtype:" in text:  # else mergekit's config says what any of the models says
        assert config[0]["dtype"] == config[1]["dtype"].removeprefix("torch.")


def test_several_documents(parents: dict[str, Path], tmp_path: Path) -> None:
    """What mergekit-multi builds by way of folders is built in one go, merges of merges included."""
    from mergekit.scripts.multimerge import main

    text = filled(
        "name: half\nmerge_method: linear\ndtype: float32\nmodels: [{model: {one}, parameters: {weight: 1}},"
        " {model: {two}, parameters: {weight: 2}}]\n---\n"
        "name: more\nmerge_method: slerp\ndtype: float32\nbase_model: half\nmodels: [{model: half}, {model: {three}}]\n"
        "parameters: {t: [0.2, 0.6]}\n---\n"
        "merge_method: ties\nbase_model: {base}\ndtype: float32\nmodels: [{model: half, parameters: {weight: 0.5,"
        " density: 0.7}}, {model: more, parameters: {weight: 0.5, density: 0.9}}]\n",
        parents,
    )
    mine = tensors(ours(text, tmp_path / "ours"))
    folders = ["--out-path", str(tmp_path / "theirs"), "-I", str(tmp_path / "between")]
    main([str(tmp_path / "ours.yaml"), *folders, "--quiet"], standalone_mode=False)
    reference = tensors(tmp_path / "theirs")
    assert set(mine) == set(reference)
    for key, tensor in mine.items():
        largest = reference[key].abs().max()
        assert float((tensor - reference[key]).abs().max()) <= 1e-5 * float(largest), key  # two roundings in between


TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes"},
    {"role": "user", "content": "Go"},
]
JINJA = "{% for message in messages %}{{ message.role + ':' + message.content }}{% endfor %}"


@pytest.mark.parametrize("template", ["alpaca", "chatml", "exaone", "llama3", "mistral", "auto", JINJA])
def test_chat_templates_say_the_same(template: str, parents: dict[str, Path], tmp_path: Path) -> None:
    """But for white space, of which mergekit's templates write more than the published formats have, and for the end
    of an Alpaca answer, which mergekit's does not mark.
    """
    from transformers import AutoTokenizer

    models = []
    for name, own in (("one", "a {{ messages[0].content }}"), ("two", JINJA), ("three", JINJA)):
        models.append(shutil.copytree(parents[name], tmp_path / name))
        (models[-1] / "chat_template.jinja").write_text(own)
    inputs = [{"model": str(folder), "parameters": {"weight": 1}} for folder in models]
    document = {"merge_method": "linear", "base_model": str(models[0]), "models": inputs, "chat_template": template}
    text = yaml.safe_dump(document)
    words = []
    for folder in (ours(text, tmp_path / "ours"), theirs(text, tmp_path / "theirs")):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        words.append(tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=template != "mistral"))
    if template == "alpaca":
        words[0] = words[0].replace("</s>", "")
    assert "".join(words[0].split()) == "".join(words[1].split())
