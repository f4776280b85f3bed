"""Parents with different vocabularies: the right row for every token, the right tokenizer beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from evomerge.api.merge import merge
from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, make_plan
from evomerge.errors import InvalidInput
from evomerge.recipe import parse_recipe
from evomerge.testing.pico import write_pico

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
WIDTH = 32


def word_level(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def bpe(vocabulary: dict[str, int]) -> Tokenizer:
    return Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))


def unigram(vocabulary: dict[str, int]) -> Tokenizer:
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    return Tokenizer(models.Unigram([(word, -1.0 - i) for i, word in enumerate(words)], unk_id=3))


def write(folder: Path, words: list[str], *, rows: int, added: tuple[str, ...] = (), kind: Any = word_level) -> Path:
    """Write a pico model whose embedding and head say which token of which model each row is."""
    from transformers import PreTrainedTokenizerFast

    seed = sum(map(ord, folder.name))
    write_pico(folder, seed, vocab_size=rows)
    tokenizer = kind({word: i for i, word in enumerate([*SPECIAL, *words])})
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    if added:
        fast.add_special_tokens({"additional_special_tokens": list(added)})
    fast.save_pretrained(folder)
    return folder


def table(folder: Path, name: str = "model.embed_tokens.weight") -> torch.Tensor:
    return load_file(folder / "model.safetensors")[name]


def recipe(source: Any, *paths: Path, **tokenizer: Any) -> dict[str, Any]:
    return {
        "merge_method": "linear",
        "base_model": str(paths[0]),
        "models": [{"model": str(path), "parameters": {"weight": 1.0}} for path in paths],
        "tokenizer": {"source": source, **tokenizer},
    }


@pytest.fixture
def parents(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Ids differ; base has red, green; one adds blue and <tool>; two lacks green and adds blue and cyan."""
    base = write(tmp_path / "base", ["red", "green"], rows=6)
    one = write(tmp_path / "one", ["green", "red", "blue"], rows=8, added=("<tool>",))
    two = write(tmp_path / "two", ["blue", "cyan", "red"], rows=7)
    return base, one, two


def test_without_a_tokenizer_key_the_message_says_what_to_set(parents: Any, tmp_path: Path) -> None:
    document = recipe("base", *parents)
    del document["tokenizer"]
    with pytest.raises(InvalidInput, match=r"vocabularies differ; set tokenizer: \{source: union\}"):
        merge(document, tmp_path / "out")


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_the_union_takes_every_row_from_where_it_is_known(name: str, parents: Any, tmp_path: Path) -> None:
    out = merge(recipe("union", *parents), tmp_path / "out")
    base, one, two = (table(parent, name) for parent in parents)
    found = table(out, name)
    tokens = json.loads((out / "tokenizer.json").read_text())["model"]["vocab"]
    assert list(tokens) == [*SPECIAL, "red", "green", "blue", "<tool>", "cyan"]
    expected = {
        "red": (base[4] + one[5] + two[6]) / 3,
        "green": (base[5] + one[4] + base[5]) / 3,  # two lacks it: the base's row
        "blue": ((one[6] + two[4]) / 2 + one[6] + two[4]) / 3,  # the base lacks it: the mean of the others
        "<tool>": one[7],  # only one has it
        "cyan": two[5],
    }
    for token, row in expected.items():
        torch.testing.assert_close(found[tokens[token]], row, msg=token)
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(tokens)


def test_the_union_loads_and_reads_every_parents_words(parents: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = merge(recipe("union", *parents), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer("red green blue cyan <tool>")["input_ids"]
    assert ids == [4, 5, 6, 8, 7]
    assert tokenizer.decode([7], skip_special_tokens=True) == ""
    model = AutoModelForCausalLM.from_pretrained(out)
    assert bool(torch.isfinite(model(torch.tensor([ids])).logits).all())


@pytest.mark.parametrize("kind", [bpe, unigram])
def test_other_tokenizer_models_are_extended_too(kind: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = write(tmp_path / "base", ["red"], rows=7, added=("<b>",), kind=kind)
    one = write(tmp_path / "one", ["blue", "red"], rows=7, added=("<tool>",), kind=kind)
    tokenizer = AutoTokenizer.from_pretrained(merge(recipe("union", base, one), tmp_path / "out"))
    assert [tokenizer.convert_tokens_to_ids(t) for t in ("red", "<b>", "blue", "<tool>")] == [4, 5, 6, 7]
    assert tokenizer("<tool><b>")["input_ids"] == [7, 5]


def test_the_bases_tokenizer_keeps_the_bases_rows(parents: Any, tmp_path: Path) -> None:
    out = merge(recipe("base", *parents), tmp_path / "out")
    base, one, two = (table(parent) for parent in parents)
    assert table(out).shape == (6, WIDTH)
    torch.testing.assert_close(table(out)[4], (base[4] + one[5] + two[6]) / 3)
    assert (out / "tokenizer.json").read_bytes() == (parents[0] / "tokenizer.json").read_bytes()


def test_another_models_tokenizer(parents: Any, tmp_path: Path) -> None:
    out = merge(recipe(str(parents[2]), *parents), tmp_path / "out")
    base, one, two = (table(parent) for parent in parents)
    torch.testing.assert_close(table(out)[6], (base[4] + one[5] + two[6]) / 3)
    torch.testing.assert_close(table(out)[5], two[5])
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 7


def test_rules_for_single_tokens(parents: Any, tmp_path: Path) -> None:
    base, one, two = (table(parent) for parent in parents)
    rules = {
        "blue": {"source": str(parents[1]), "force": True},
        "cyan": {"source": {"kind": "zero"}},
        "<tool>": {"source": {"kind": "model_token", "model": str(parents[0]), "token": "red"}},
        "green": {"source": {"kind": "model_token", "model": str(parents[2]), "token_id": 5}},
    }
    found = table(merge(recipe("union", *parents, tokens=rules), tmp_path / "out"))
    torch.testing.assert_close(found[6], one[6])
    torch.testing.assert_close(found[8], two[5] / 3)
    torch.testing.assert_close(found[7], (one[7] + 2 * base[4]) / 3)
    torch.testing.assert_close(found[5], (base[5] + one[4] + two[5]) / 3)


@pytest.mark.parametrize("source", ["union", "base"])
def test_a_rule_for_a_new_token_adds_it(source: str, parents: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    _, one, _ = (table(parent) for parent in parents)
    rules = {
        "<new>": {"source": {"kind": "model_token", "model": str(parents[1]), "token": "blue"}},
        "<tool>": {"source": str(parents[1])},
        "<zero>": {"source": {"kind": "zero"}},
    }
    document = recipe(source, *parents, tokens=rules)
    out = merge(document, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(out)
    new, tool, zero = tokenizer("<new><tool><zero>")["input_ids"]
    assert tokenizer.convert_ids_to_tokens([new, tool, zero]) == ["<new>", "<tool>", "<zero>"]
    assert tokenizer.decode([new, tool], skip_special_tokens=True) == "<new>", "matched as its model matches it"
    torch.testing.assert_close(table(out)[new], one[6])
    torch.testing.assert_close(table(out)[tool], one[7])
    assert not table(out)[zero].any()
    assert table(out).shape[0] == len(tokenizer) == (11 if source == "union" else 9)
    parsed = parse_recipe(document)
    notes = make_plan(parsed, Parents(parsed.models)).notes
    assert any("no model has '<new>', '<zero>', so it is added" in note for note in notes)


def test_a_rule_that_names_no_token_is_refused(parents: Any, tmp_path: Path) -> None:
    rules = {"<new>": {"source": {"kind": "model_token", "model": str(parents[1]), "token": "blu"}}}
    with pytest.raises(InvalidInput, match='Did you mean "blue"'):
        merge(recipe("union", *parents, tokens=rules), tmp_path / "out")
    with pytest.raises(InvalidInput, match=r'"cyan" is no token of .*one.s tokenizer'):
        merge(recipe("union", *parents, tokens={"cyan": {"source": str(parents[1])}}), tmp_path / "out")


def test_rows_are_padded_to_a_multiple(parents: Any, tmp_path: Path) -> None:
    out = merge(recipe("union", *parents, pad_to_multiple_of=8), tmp_path / "out")
    assert table(out).shape == (16, WIDTH)
    expected = table(out)[:9].mean(0).expand(7, WIDTH)
    torch.testing.assert_close(table(out)[9:], expected)  # of a linear merge: the mean of the models' means
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 16


def test_padded_rows_are_kept(tmp_path: Path) -> None:
    base = write(tmp_path / "base", ["red"], rows=16)
    one = write(tmp_path / "one", ["red"], rows=16)
    two = write(tmp_path / "two", ["red", "blue"], rows=16)
    for others in ((one,), (one, two)):
        out = merge(recipe("base", base, *others), tmp_path / f"out{len(others)}")
        mean = torch.stack([table(m) for m in (base, *others)]).mean(0)
        assert table(out).shape == (16, WIDTH)
        torch.testing.assert_close(table(out)[6:], mean[6:])


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    folders = []
    for name, words in (("base", ["red"]), ("one", ["blue", "red"])):
        folder = write(tmp_path / name, words, rows=len(words) + 4)
        config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
        (folder / "config.json").write_text(json.dumps(config))
        tensors = load_file(folder / "model.safetensors")
        del tensors["lm_head.weight"]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        folders.append(folder)
    out = merge(recipe("union", *folders), tmp_path / "out")
    assert "lm_head.weight" not in load_file(out / "model.safetensors")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.shape == (6, WIDTH)


@pytest.mark.parametrize("method", ["linear", "ties", "passthrough"])
def test_the_live_model_sees_the_same_rows(method: str, parents: Any, tmp_path: Path) -> None:
    document = recipe("union", *(parents if method != "passthrough" else parents[:1])) | {"merge_method": method}
    if method == "passthrough":
        document["models"] = [{"model": str(parents[1])}]
        document["tokenizer"] = {"source": "base"}
    parsed = parse_recipe(document)
    opened = Parents(parsed.models)
    live = LiveModel(opened)
    live.apply(make_plan(parsed, opened))
    written = load_file(merge(document, tmp_path / "out") / "model.safetensors")
    state = live.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in written.items())
    if method != "passthrough":
        assert live.tokenizer("blue cyan")["input_ids"] == [6, 8]


def test_a_random_mask_is_the_same_whatever_the_order_of_rows_is_built_in(parents: Any, tmp_path: Path) -> None:
    document = recipe("union", *parents) | {"merge_method": "dare_ties"}
    document["models"] = [{**m, "parameters": {"weight": 0.5, "density": 0.5}} for m in document["models"]]
    first, second = (merge(document, tmp_path / name) for name in ("a", "b"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_tokens_that_no_model_has_rows_for_get_zeros_and_a_note(tmp_path: Path) -> None:
    base = write(tmp_path / "base", ["red", "far"], rows=5)  # the tokenizer is longer than the matrix
    one = write(tmp_path / "one", ["red"], rows=5)
    parsed = parse_recipe(recipe("base", base, one))
    plan = make_plan(parsed, Parents(parsed.models))
    assert any("1 tokens have a row in no model and get zeros ('far')" in note for note in plan.notes)
    assert table(merge(recipe("base", base, one), tmp_path / "out"))[5].abs().max() == 0


def test_special_tokens_follow_the_tokenizer(parents: Any, tmp_path: Path) -> None:
    config = json.loads((parents[2] / "config.json").read_text()) | {"eos_token_id": 4}
    (parents[2] / "config.json").write_text(json.dumps(config))
    for source, expected in (("base", 2), (str(parents[2]), 4)):
        out = merge(recipe(source, *parents), tmp_path / f"out{expected}")
        assert json.loads((out / "config.json").read_text())["eos_token_id"] == expected
