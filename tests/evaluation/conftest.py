"""A tiny random Llama with a byte-level tokenizer, and local tasks of every output type. No network, no hub."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_tasks import LETTERS, SPLIT_KEYS


@pytest.fixture(scope="session", autouse=True)
def _own_data_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the copies that `datasets` makes of JSON files out of the user's cache."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    yield
    datasets.config.HF_DATASETS_CACHE = before


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Bytes as tokens, and an end token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<eos>": 0, "<pad>": 1} | {letter: i for i, letter in enumerate(alphabet, start=2)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>")


@pytest.fixture
def model(tokenizer: Any) -> Any:
    """Two layers, 32 wide; its first choice is always a letter, so that greedy matches can occur."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        config = LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=len(tokenizer),
            max_position_embeddings=256,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=1,
            initializer_range=0.2,
        )
        built = LlamaForCausalLM(config).eval()
    letters = {tokenizer.encode(letter)[0] for letter in LETTERS}
    others = [i for i in range(len(tokenizer)) if i not in letters]
    with torch.no_grad():
        built.lm_head.weight[others] *= 0.2
    return built


@pytest.fixture
def write_task(tmp_path: Path) -> Callable[..., Path]:
    """Write a task: (name, split -> rows, **config) -> the tasks folder. Data files are named relative to the YAML."""
    folder = tmp_path / "tasks"

    def write(name: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], **config: Any) -> Path:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        files = {}
        for split, docs in rows.items():
            files[split] = f"data/{name}_{split}.jsonl"
            text = "".join(json.dumps(doc) + "\n" for doc in docs)
            (folder / files[split]).write_text(text, encoding="utf-8")
        content = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}}
        content |= {key: split for key, split in SPLIT_KEYS.items() if split in rows}
        content |= {"metadata": {"version": 1.0}} | config
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return folder

    return write
