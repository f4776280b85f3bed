"""Hundreds of broken recipes from one seed: always exit code 2, sentences with a place, no traceback and no output."""

import copy
import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.cli import main
from evomerge.testing.pico import write_pico

CASES = 240
Document = dict[str, Any]


def good(rng: random.Random) -> Document:
    """Return a recipe that can be merged: of one of four methods, by models or by slices, with and without extras."""
    one, two, base = "./one", "./two", "./base"
    method = rng.choice(("linear", "ties", "slerp", "passthrough"))
    parameters = {"linear": {"weight": 0.5}, "ties": {"weight": [0.2, 0.8], "density": 0.5}}.get(method, {})
    names = {"slerp": [base, one], "passthrough": [one]}.get(method, [one, two])
    inputs = [{"model": name, **({"parameters": copy.deepcopy(parameters)} if parameters else {})} for name in names]
    document: Document = {"merge_method": method}
    if rng.random() < 0.5:
        document["models"] = inputs
    else:
        document["slices"] = [{"sources": [{**each, "layer_range": [0, 3]} for each in inputs]}]
    if method in ("ties", "slerp"):
        document["base_model"] = base
    if method == "slerp":
        document["parameters"] = {"t": [{"filter": "mlp", "value": 0.3}, {"value": [0, 1]}]}
    if rng.random() < 0.5:
        document["dtype"] = "float32"
    if rng.random() < 0.3:
        document["tokenizer"] = {"source": "base"}
    if rng.random() < 0.3:
        document["evomerge"] = {"seed": 3}
    return document


def keys_in(value: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """Return every (container, key or index) of a document."""
    found = [] if found is None else found
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found.append((value, key))
        keys_in(value[key], found)
    return found


def inputs_of(document: Document) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["models"] if "models" in document else document["slices"][0]["sources"]
    return found


def misspell(rng: random.Random, document: Document) -> None:
    container, key = rng.choice([place for place in keys_in(document) if isinstance(place[1], str)])
    at = rng.randrange(len(key))
    container[rng.choice((key[:at] + "q" + key[at:], key + "s", key[0] * 2 + key))] = container.pop(key)


def wrong_type(rng: random.Random, document: Document) -> None:
    container, key = rng.choice(keys_in(document))
    container[key] = rng.choice(({"no": "such thing"}, [[]], [{}]))


def no_such_parent(rng: random.Random, document: Document) -> None:
    each = rng.choice(inputs_of(document))
    each["model"] = rng.choice(("./nowhere", "/nowhere/at/all", "./one+./no-adapter", {"path": "./nowhere"}))


def no_model_at_all(rng: random.Random, document: Document) -> None:
    rng.choice(inputs_of(document))["model"] = rng.choice(("", 3, None, True, "a+b+c", "a@b@c", {"path": ""}, {}))


def bad_number(rng: random.Random, document: Document) -> None:
    value = rng.choice((float("nan"), float("inf"), "many", None, [], [0.5, "x"], [[0.5]], {"filter": 3, "value": 1}))
    each = rng.choice(inputs_of(document))
    each["parameters"] = {"scale" if document["merge_method"] == "passthrough" else "weight": value}
    if document["merge_method"] == "slerp":
        del each["parameters"]
        document["parameters"] = {"t": value}


def bad_density(rng: random.Random, document: Document) -> None:
    document["merge_method"] = "ties"
    document.pop("parameters", None)
    document["base_model"] = inputs_of(document)[0]["model"]
    for each in inputs_of(document):
        each["parameters"] = {"weight": 1, "density": rng.choice((-0.1, 1.5, True, [0.5, 2], "all"))}


def unknown_word(rng: random.Random, document: Document) -> None:
    words = {"merge_method": "tyes", "dtype": "int8", "out_dtype": "bf16", "chat_template": "chatlm"}
    words |= {"tokenizer_source": 3, "modules": {"text": {"models": []}}, "parameters": {"lamda": 1}}
    document.pop("tokenizer", None)
    key = rng.choice(list(words))
    document[key] = words[key]


def missing_key(rng: random.Random, document: Document) -> None:
    if rng.random() < 0.5:
        del document["merge_method"]
    elif rng.random() < 0.5:
        del rng.choice(inputs_of(document))["model"]
    else:
        document.pop("models", None)
        document.pop("slices", None)


def bad_layers(rng: random.Random, document: Document) -> None:
    inputs = document.pop("models", None) or inputs_of(document)
    ranges = rng.choice(([2, 1], [-1, 2], [0, 99], [0], [0, 1, 2], "0-3", [0, 0], None, ["a", "b"]))
    document["slices"] = [{"sources": [{**each, "layer_range": ranges} for each in inputs]}]


def bad_extension(rng: random.Random, document: Document) -> None:
    bad: list[Any] = [{"seed": "x"}, {"gains": [1]}, {"gains": [0, 1, 1]}, {"variants": {"sign": "x"}}, {"sead": 1}]
    bad += [{"commits": {"a/b": "zz"}}, {"commits": {"a/b": "0" * 40}}, {"merges": {"x": {}}}, [1], "x"]
    document["evomerge"] = rng.choice(bad)


def another_kind_of_model(rng: random.Random, document: Document) -> None:
    name = rng.choice(("wide", "long", "gpt2", "torn", "garbled", "unindexed", "empty"))
    document["merge_method"] = "linear"
    for key in ("base_model", "parameters", "tokenizer", "slices"):
        document.pop(key, None)
    document["models"] = [{"model": each, "parameters": {"weight": 1}} for each in ("./one", f"./{name}")]


def both_bodies(rng: random.Random, document: Document) -> None:
    source = {"model": "./one", "layer_range": [0, 3], "parameters": {"weight": 1}}
    document["models"], document["slices"] = [{"model": "./one"}], [{"sources": [source]}]


def torn_text(rng: random.Random, document: Document) -> str:
    text = yaml.safe_dump(document)
    damaged = [text + "\n}{", text + "\nmerge_method: linear\n", "\t" + text, text.replace(":", "", 1), "[" + text]
    damaged += ["", "42", "- 1\n", text + "---\n" + text, "!!python/object/apply:os.system ['true']", text + "\x00"]
    return rng.choice([*damaged, "&a [*a]"])


MUTATIONS: tuple[Callable[[random.Random, Document], Any], ...] = (
    *(misspell, wrong_type, no_such_parent, no_model_at_all, bad_number, bad_density, unknown_word, missing_key),
    *(bad_layers, bad_extension, another_kind_of_model, both_bodies, torn_text),
)


@pytest.fixture(scope="module")
def folder(pico: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good parents and bad ones, side by side."""
    root = tmp_path_factory.mktemp("broken")
    for name, path in pico.items():
        shutil.copytree(path, root / name)
    write_pico(root / "wide", 1, intermediate_size=64)
    write_pico(root / "long", 1, vocab_size=80)
    write_pico(root / "gpt2", 1, family="gpt2")
    (root / "empty").mkdir()
    for name in ("torn", "garbled", "unindexed"):
        shutil.copytree(pico["one"], root / name)
    weights = root / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    (root / "garbled" / "config.json").write_text('{"model_type": ')
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}
    (root / "unindexed" / "model.safetensors.index.json").write_text(json.dumps(index))
    return root


def test_broken_recipes_are_sentences(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = {path.name for path in folder.iterdir()}
    keys = ["recipe.yaml", str(folder), "slices: ", "evomerge.", "model.", "/nowhere", "./no-adapter"]
    places = [*keys, *(f"./{name}" for name in before)]
    for number in range(CASES):
        rng = random.Random(number)
        document = good(rng)
        mutation = MUTATIONS[number % len(MUTATIONS)]
        made = mutation(rng, document)
        if mutation is not torn_text and rng.random() < 0.3:
            misspell(rng, document)
        text = made if isinstance(made, str) else yaml.safe_dump(document, sort_keys=False)
        (folder / "recipe.yaml").write_text(text)
        verb = ["check", "recipe.yaml"] if number % 3 == 0 else ["merge", "recipe.yaml", "out"]
        monkeypatch.setattr(sys, "argv", ["evomerge", *verb])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        said = printed.err if verb[0] == "merge" else printed.out
        case = f"{number} {mutation.__name__}: {text}\n{said}\n{printed.err}"
        assert end.value.code == 2, case
        assert "Traceback" not in case, case
        assert "unexpected" not in printed.err, case
        sentences = [line.removeprefix("evomerge: ") for line in said.splitlines() if line.strip()]
        sentences = [line for line in sentences if not line.startswith(("note: ", "problems ", "Usage", "Try", "and "))]
        assert sentences, case
        for line in sentences:
            assert any(place in line for place in places), (line, case)
            assert len(line) < 600, case
        assert {path.name for path in folder.iterdir()} == before | {"recipe.yaml"}, case
