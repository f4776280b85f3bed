"""What `bench_evaluate.py` asks, and whom: four-choice questions of random characters, and a random Llama."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 32000)]  # one token each
CHOICES = 4


def make_tokenizer(characters: Sequence[str]) -> Any:
    """Return a tokenizer with one token for each character, and an end token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {letter: i for i, letter in enumerate(["<eos>", "<unk>", *characters])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>")


def make_model(
    vocabulary: int, *, hidden: int, layers: int, heads: int, positions: int, dtype: str, device: str
) -> Any:
    """Return a random Llama whose choices differ clearly."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=-(-hidden * 8 // 3 // 32) * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=positions,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(device=device, dtype=getattr(torch, dtype)).eval()


def write_task(folder: Path, *, items: int, context: int, choice: int, shots: int, vocabulary: int) -> None:
    """Write a four-choice task of random characters; lengths vary by a quarter around the given ones."""
    rng = random.Random(0)
    letters = CHARACTERS[: vocabulary - 2]

    def text(length: int) -> str:
        return "".join(rng.choices(letters, k=rng.randint(length * 3 // 4, length * 5 // 4)))

    for split, count in (("train", shots), ("test", items)):
        rows = [
            {"question": text(context), "choices": [text(choice) for _ in range(CHOICES)], "label": i % CHOICES}
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    splits = ["train", "test"][not shots :]
    task = {
        "task": "four_choices",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(folder / f"{split}.jsonl") for split in splits}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "num_fewshot": shots,
    } | ({"fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}} if shots else {})
    (folder / "four_choices.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
