"""Every flag of mergekit's that the command line answers stands in the page for people who come from there."""

from pathlib import Path

import click
import pytest

from evomerge.cli.lora import command as lora
from evomerge.cli.merge import command
from evomerge.cli.moe import command as moe

PAGE = (Path(__file__).parents[2] / "docs" / "from_mergekit.md").read_text(encoding="utf-8")
FLAGS = [
    "--allow-crimes", "--unsafe-truncate-embeddings", "--trust-remote-code", "--transformers-cache",
    "--lora-merge-cache", "--lora-merge-dtype", "--random-seed", "-v", "--quiet", "--cuda", "--low-cpu-memory",
    "--lazy-unpickle", "--lazy-loader", "--read-to-gpu", "--multi-gpu", "--gpu-rich", "--num-threads", "-j",
    "--async-write", "--write-threads", "--out-shard-size", "--copy-tokenizer", "--clone-tensors",
    "--write-model-card", "--safe-serialization",
]  # fmt: skip


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_is_answered_and_explained(flag: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{}")
    with pytest.raises(click.UsageError, match=f"^{flag} (is not needed|is a flag of mergekit)"):
        command.main([str(recipe), str(tmp_path / "out"), flag], standalone_mode=False)
    assert f"`{flag}`" in PAGE or f"`{flag} " in PAGE


def test_an_unknown_flag_is_still_unknown(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{}")
    with pytest.raises(click.NoSuchOption):
        command.main([str(recipe), str(tmp_path / "out"), "--no-such-thing"], standalone_mode=False)


@pytest.mark.parametrize("flag", ["--load-in-4bit", "--i-understand-this-is-not-useful-without-training", "--cuda"])
def test_moe_answers_its_own_flags(flag: str, tmp_path: Path) -> None:
    config = tmp_path / "moe.yaml"
    config.write_text("{}")
    with pytest.raises(click.UsageError, match=f"^{flag} (is not needed|is a flag of mergekit)"):
        moe.main([str(config), str(tmp_path / "out"), flag], standalone_mode=False)


@pytest.mark.parametrize(
    "flag", ["--max-rank", "--exclude-regex", "-e", "--no-distribute-scale", "--sv-epsilon", "--model"]
)
def test_lora_answers_its_own_flags(flag: str) -> None:
    with pytest.raises(click.UsageError, match=f"^{flag} (is not needed|is a flag of mergekit)"):
        lora.main(["model", "base", "out", flag], standalone_mode=False)
