"""The union of different tokenizers: the base's text is read as the base reads it, and every token has its own row."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from transformers import AutoTokenizer

from evomerge.api.merge import merge, plan_merge
from evomerge.checkpoint import Checkpoint
from tests.engine.trained_tokenizers import (
    ENGLISH,
    GERMAN,
    JAPANESE,
    byte_fallback,
    byte_level,
    unigram,
    union,
    write,
)


def random_texts(alphabet: str) -> Iterator[str]:
    rng = random.Random(0)
    for _ in range(200):
        yield "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 30)))


def check_rows(out: Path, parents: tuple[Path, ...]) -> None:
    """Every row is the mean of the models' rows of its token; who lacks it has the base's or the others' mean."""
    opened = [Checkpoint(parent, parent.name) for parent in parents]
    vocabularies = [dict(model.tokenizer.vocabulary) for model in opened]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tables = [load_file(parent / "model.safetensors")[name] for parent in parents]
        written = load_file(out / "model.safetensors")[name]
        found = Checkpoint(out, "out").tokenizer.vocabulary
        assert len(found) == len(written) == len({token for each in vocabularies for token in each})
        for token, number in found.items():
            rows = [
                table[each[token]] if token in each else None for table, each in zip(tables, vocabularies, strict=True)
            ]
            have = [row for row in rows if row is not None]
            lent = rows[0] if rows[0] is not None else torch.stack(have).mean(0)
            expected = torch.stack([lent if row is None else row for row in rows]).mean(0)
            torch.testing.assert_close(written[number], expected, msg=f"{name} {token}")


def test_byte_level_parents(tmp_path: Path) -> None:
    """Whatever the text, it is read as the base reads it; only added tokens are found before."""
    base = write(tmp_path / "base", 0, byte_level(ENGLISH))
    one = write(tmp_path / "one", 1, byte_level(GERMAN), AddedToken("<|im_start|>", special=True, normalized=False))
    two = write(tmp_path / "two", 2, byte_level(JAPANESE), AddedToken("<tool>", normalized=False))
    document = union(base, one, two)
    out = merge(document, tmp_path / "out")
    old, new = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(out)
    texts = [*ENGLISH, *GERMAN, *JAPANESE, *random_texts("abcdefghijklmnopqrstuvwxyzüöß 日本語文章を\n\t!?\U0001f600")]
    for text in texts:
        ids = new(text)["input_ids"]
        assert ids == old(text)["input_ids"]
        assert new.decode(ids) == text
    ids = new("<|im_start|>der Fuchs<tool>")["input_ids"]
    assert [ids[0], ids[-1]] == new.convert_tokens_to_ids(["<|im_start|>", "<tool>"])
    assert new.decode(ids, skip_special_tokens=True) == "der Fuchs<tool>"
    check_rows(out, (base, one, two))
    (note,) = plan_merge(document)[0].notes
    assert f"the union reads text as {base} does, which never leads to" in note
    unread = {t for t in new.get_vocab() if t not in old.get_vocab()} - {"<|im_start|>", "<tool>"}
    assert f"to {len(unread)} of the tokens" in note


def test_a_parent_with_letters_that_the_base_spells_in_bytes(tmp_path: Path) -> None:
    """English as the base reads it, Japanese as the extended model does: the base has no token for those letters."""
    english = byte_fallback(ENGLISH)
    base = write(tmp_path / "base", 0, english)
    one = write(tmp_path / "one", 1, byte_fallback([*ENGLISH, *JAPANESE], like=english))
    out = merge(union(base, one), tmp_path / "out")
    old, extended, new = (AutoTokenizer.from_pretrained(folder) for folder in (base, one, out))
    assert max(len(token) for token in new.get_vocab() if token[0] in "日本語文章") > 1, "the trained text has merges"
    for text in [*JAPANESE, *random_texts("日本語文章の話す書く")]:
        ids = new(text)["input_ids"]
        assert new.convert_ids_to_tokens(ids) == extended.convert_ids_to_tokens(extended(text)["input_ids"])
        assert not any(token.startswith("<0x") for token in new.convert_ids_to_tokens(ids))
        assert new.decode(ids) == text
    for text in [*ENGLISH, *random_texts("abcdefghijklmnopqrstuvwxyz  ")]:
        assert new(text)["input_ids"] == old(text)["input_ids"]
        assert new.decode(new(text)["input_ids"]) == text
    check_rows(out, (base, one))


def test_merges_are_written_in_the_bases_form(tmp_path: Path) -> None:
    english = byte_fallback(ENGLISH)
    base = write(tmp_path / "base", 0, english)
    one = write(tmp_path / "one", 1, byte_fallback([*ENGLISH, *JAPANESE], like=english))
    content = json.loads((base / "tokenizer.json").read_text())
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    (base / "tokenizer.json").write_text(json.dumps(content))
    out = merge(union(base, one), tmp_path / "out")
    merges = json.loads((out / "tokenizer.json").read_text())["model"]["merges"]
    assert all(isinstance(pair, str) for pair in merges)
    assert merges[: len(content["model"]["merges"])] == content["model"]["merges"]
    assert "日 本" in merges[len(content["model"]["merges"]) :]
    assert AutoTokenizer.from_pretrained(out)("日本")["input_ids"]


def test_unigram_parents(tmp_path: Path) -> None:
    base, one = write(tmp_path / "base", 0, unigram(ENGLISH)), write(tmp_path / "one", 1, unigram([*GERMAN, *JAPANESE]))
    out = merge(union(base, one), tmp_path / "out")
    old, new = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(out)
    letters = "".join(token for token in old.get_vocab() if len(token) == 1 and token.isalpha())
    for text in [*ENGLISH, *random_texts(letters + " ")]:
        assert new(text)["input_ids"] == old(text)["input_ids"]
    unknown = new.convert_tokens_to_ids("<unk>")
    assert unknown in old("日本語")["input_ids"]
    for text in JAPANESE:
        assert unknown not in new(text)["input_ids"]
        assert new.decode(new(text)["input_ids"]) == text
    check_rows(out, (base, one))


def test_tokens_without_a_row_are_left_out(tmp_path: Path) -> None:
    """A tokenizer may be longer than its model's embedding; such tokens mean nothing."""
    base = write(tmp_path / "base", 0, byte_level(ENGLISH))
    one = write(tmp_path / "one", 1, byte_level(ENGLISH), AddedToken("<here>"))
    extra = AutoTokenizer.from_pretrained(one)
    extra.add_tokens(["<nowhere>"])
    extra.save_pretrained(one)
    out = merge(union(base, one), tmp_path / "out")
    found = AutoTokenizer.from_pretrained(out).get_vocab()
    assert "<here>" in found
    assert "<nowhere>" not in found


def test_a_union_of_a_union(tmp_path: Path) -> None:
    """A merge of merges takes over what the inner union learned to read."""
    english = byte_fallback(ENGLISH)
    base, other = write(tmp_path / "base", 0, english), write(tmp_path / "other", 2, english)
    one = write(tmp_path / "one", 1, byte_fallback([*ENGLISH, *JAPANESE], like=english))
    inner = union(base, one)
    document = {**union(other, Path("inner")), "evomerge": {"merges": {"inner": inner}}}
    document["models"][1]["model"] = "inner"
    folders = [merge(document, tmp_path / "at once"), merge(inner, tmp_path / "inner")]
    folders.append(merge(union(other, folders[1]), tmp_path / "in two steps"))
    at_once, _, stepwise = (json.loads((folder / "tokenizer.json").read_text()) for folder in folders)
    assert at_once["model"] == stepwise["model"]
    assert AutoTokenizer.from_pretrained(folders[0]).tokenize("日本") == AutoTokenizer.from_pretrained(one).tokenize(
        "日本"
    )
