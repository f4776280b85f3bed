"""Tokenizers trained on a few sentences, as real families have them, and pico models that carry them."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from evomerge.testing.pico import write_pico

ENGLISH = ["the quick brown fox jumps over the lazy dog", "she sells sea shells by the sea shore", "over and over"]
GERMAN = ["über den wilden Fluss führt eine schöne Brücke", "der schnelle braune Fuchs", "überall schöne Füchse"]
JAPANESE = ["日本語の文章", "日本語を話す", "文章を書く日本"]
SPECIAL = ["<unk>", "<s>", "</s>"]


def byte_level(texts: list[str]) -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def byte_fallback(texts: list[str], like: Tokenizer | None = None) -> Tokenizer:
    """As Llama 2 and Gemma have it; with `like`, one whose vocabulary was extended for more text."""
    fresh = Tokenizer(models.BPE())
    fresh.normalizer = normalizers.Replace(" ", "▁")
    fresh.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=90, show_progress=False))
    content = json.loads(fresh.to_str())["model"]
    pairs = [tuple(pair) for pair in content["merges"]]
    tokens = [*SPECIAL, *(f"<0x{i:02X}>" for i in range(256)), *sorted(content["vocab"], key=content["vocab"].get)]
    if like is not None:
        old = json.loads(like.to_str())["model"]
        tokens = [*sorted(old["vocab"], key=old["vocab"].get), *(t for t in tokens if t not in old["vocab"])]
        pairs = [*map(tuple, old["merges"]), *(pair for pair in pairs if list(pair) not in old["merges"])]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def unigram(texts: list[str]) -> Tokenizer:
    """As T5 and XLM-R have it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write(folder: Path, seed: int, tokenizer: Tokenizer, *added: AddedToken) -> Path:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )
    fast.add_tokens(list(added))
    write_pico(folder, seed, vocab_size=len(fast))
    for file in folder.glob("tokenizer*"):
        file.unlink()
    fast.save_pretrained(folder)
    return folder


def union(*folders: Path) -> dict[str, Any]:
    return {
        "merge_method": "linear",
        "base_model": str(folders[0]),
        "models": [{"model": str(folder), "parameters": {"weight": 1.0}} for folder in folders],
        "tokenizer": {"source": "union"},
    }
