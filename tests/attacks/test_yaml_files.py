"""YAML that is damaged, hostile or no YAML: one sentence, at once, in little memory."""

import os
from pathlib import Path

import pytest
import yaml

from evomerge.errors import InvalidFile, InvalidInput
from evomerge.recipe import load_moe, load_recipe, parse_recipe, parse_yaml

LIST_BOMB = "l0: &l0 [x]\n" + "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 11))
KEY_BOMB = "l0: &l0 {a: 1, b: 2}\n" + "\n".join(
    f"l{i}: &l{i} {{<<: [{', '.join([f'*l{i - 1}'] * 10)}]}}" for i in range(1, 11)
)


@pytest.mark.parametrize("key", ["models", "base_model", "parameters", "tokenizer", "nonsense", "slices"])
def test_nested_aliases_do_not_unfold(key: str, tmp_path: Path) -> None:
    """Ten levels of ten would be ten thousand million values."""
    path = tmp_path / "r.yaml"
    path.write_text(f"{LIST_BOMB}\nmerge_method: linear\n{key}: *l10\n")
    with pytest.raises(InvalidFile) as caught:
        load_recipe(path)
    assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1", "line 1 is not valid YAML"),
        ("a: 1\na: 2", 'line 2 is not valid YAML (the key "a" is given twice)'),
        ("a: 1\n---\nb: 2", "holds 2 YAML documents"),
        ("", "holds 0 YAML documents"),
        ("a: !!python/object/apply:os.system ['true']", "is not valid YAML"),
        (KEY_BOMB, '"<<" brings in more than'),
        ("[" * 100_000, "is not valid YAML (nested too deeply)"),
        ("a: 2024-99-99", "is not valid YAML (month must be in 1..12)"),
        (f"a: {'9' * 5000}", "is not valid YAML"),
        ("a: !!int x", "is not valid YAML"),
        ("a: !!timestamp x", "is not valid YAML"),
        ("a: !!binary é", "is not valid YAML"),
        ("? [a]\n: b", "is not valid YAML"),
        ("a: \x00", "is not valid YAML"),
        ("a: *nowhere", "is not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_yaml(text, "merge.yaml")
    assert sentence in str(caught.value)
    assert "merge.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 30)
    for path, sentence in (
        (tmp_path / "none", "no such file"),
        (tmp_path / "binary", "read as"),
        (tmp_path / "pipe", "not a file"),
        (tmp_path / "large", "expected at most"),
        (tmp_path, "read as"),
    ):
        for load in (load_recipe, load_moe):
            with pytest.raises(InvalidInput, match=sentence) as caught:
                load(path)
            assert "\n" not in str(caught.value)


LINEAR = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n"


@pytest.mark.parametrize(
    "text",
    [
        # a recipe that holds itself, and ten levels of ten recipes
        f"&r\n{LINEAR}evomerge: {{merges: {{x: *r}}}}",
        "l0: &l0 {merge_method: linear, models: [{model: a, parameters: {weight: 1}}]}\n"
        + "\n".join(
            f"l{i}: &l{i} {{merge_method: linear, evomerge: {{merges: "
            f"{{{', '.join(f'm{j}: *l{i - 1}' for j in range(10))}}}}}}}"
            for i in range(1, 11)
        )
        + f"\n{LINEAR}evomerge: {{merges: {{x: *l10}}}}",
        f"{LINEAR}parameters: &p {{weight: *p}}",
        f"{LINEAR}parameters: {{normalize: &v [*v]}}",
        "merge_method: linear\nmodels: &m [{model: a, parameters: {weight: {value: *m}}}]",
        f"{LINEAR}evomerge: {{gains: [.inf]}}",
        f"{LINEAR}evomerge: {{gains: [.nan]}}",
        f"{LINEAR}evomerge: {{seed: {10**30}}}",
        f"{LINEAR}evomerge: {{seed: 0x{'f' * 100_000}}}",
        f"merge_method: linear\nmodels: [{{model: a, parameters: {{weight: 0x{'f' * 100_000}}}}}]",
        f"merge_method: 0x{'f' * 100_000}\nmodels: [{{model: a}}]",
        f"merge_method: {'l' * 100_000}\nmodels: [{{model: a}}]",
        f"{LINEAR}{'k' * 100_000}: 1",
        f"{LINEAR}chat_template: {'k' * 100_000}",
        f"{LINEAR}parameters: {{{'k' * 100_000}: 1}}",
        f"{LINEAR}evomerge: {{variants: {{{'k' * 100_000}: {'v' * 100_000}}}}}",
        f"{LINEAR}evomerge: {{commits: {{{'k' * 100_000}: {'v' * 100_000}}}}}",
        f"{LINEAR}evomerge: {{merges: [1]}}",
        f"{LINEAR}tokenizer: {{pad_to_multiple_of: {10**15}}}",
        f"{LINEAR}tokenizer: {{tokens: {{a: {{source: {{kind: model_token, model: a, token_id: -1}}}}}}}}",
        f"{LINEAR}evomerge: 3\n---\nname: other\n{LINEAR}",
        f"{LINEAR}evomerge: {{merges: 3}}\n---\nname: other\n{LINEAR}",
        f"merge_method: linear\nmodels: [{{model: a, parameters: {{weight: {'9' * 4000}}}}}]",
        f"merge_method: [{LINEAR.splitlines()[0]}]\nmodels: [{{model: a}}]",
        "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, " + "9" * 4000 + "]}]}]",
        "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [-1, -9]}]}]",
        "merge_method: linear\nmodels: [{model: " + "a" * 100_000 + "@b@c}]",
        "1: 2\n[]: 3",
        "merge_method: linear\nmodels: [{model: a, parameters: {1: 2}}]",
    ],
)
def test_hostile_recipes_are_sentences(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_recipe(path)
    for line in str(caught.value).splitlines():
        assert line.startswith(str(path))
        assert len(line) < 1000


def test_keys_can_be_merged_in() -> None:
    """As PyYAML's safe loader does: the mapping's own keys win, also where another mapping merges it in turn."""
    text = "a: &a {x: 1, y: 2}\nb: {c: &c {<<: *a, x: 3}}\nd: {<<: [*c, *a], z: 4}"
    assert parse_yaml(text, "r") == yaml.safe_load(text)
    assert parse_yaml(text, "r")["d"] == {"x": 3, "y": 2, "z": 4}


def test_a_recipe_within_a_recipe_within_a_recipe() -> None:
    document = {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]}
    for _ in range(10):
        models = [{"model": "x", "parameters": {"weight": 1}}]
        document = {"merge_method": "linear", "models": models, "evomerge": {"merges": {"x": document}}}
    assert [str(ref) for ref in parse_recipe(document).models] == ["a"]
    for _ in range(20):
        models = [{"model": "x", "parameters": {"weight": 1}}]
        document = {"merge_method": "linear", "models": models, "evomerge": {"merges": {"x": document}}}
    with pytest.raises(InvalidFile, match=r"evomerge\.merges: holds more than .* levels"):
        parse_recipe(document)
