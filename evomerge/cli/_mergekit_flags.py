"""What people type who come from mergekit: each of its flags gets a sentence with what does the same here."""

from collections.abc import Mapping
from typing import ClassVar

import click

_NOT_NEEDED = "is not needed: "
_COUNTERPARTS = {
    "--allow-crimes": "there is no such switch: models that cannot be mixed are refused, by `evomerge check` too",
    "--unsafe-truncate-embeddings": "write `tokenizer: {source: base}` in the recipe, which maps tokens by their text",
    "--trust-remote-code": "code of a model's repository is never run; models are read by their tensors alone",
    "--transformers-cache": "set HF_HOME, the Hugging Face libraries' own cache folder",
    "--lora-merge-cache": _NOT_NEEDED + "adapters (`model: base+adapter`) are added on the fly and never stored",
    "--lora-merge-dtype": _NOT_NEEDED + "an adapter's product is computed in float32 and rounded once",
    "--random-seed": "write --seed N, or `evomerge: {seed: N}` in the recipe",
    "-v": "notes and the plan are always printed; --dry-run prints them alone",
    "--quiet": "send the talk away with 2>/dev/null; the result alone is on stdout",
    "--cuda": "write --device cuda",
    "--low-cpu-memory": _NOT_NEEDED + "memory holds a few tensors at a time",
    "--lazy-unpickle": _NOT_NEEDED + "safetensors are read tensor by tensor",
    "--lazy-loader": _NOT_NEEDED + "safetensors are read tensor by tensor",
    "--read-to-gpu": "write --device cuda",
    "--multi-gpu": "write --device cuda; one GPU is faster than the disk",
    "--gpu-rich": "write --device cuda",
    "--num-threads": "it is called --threads here (0 = as many as memory has bandwidth for)",
    "-j": "one thread is at the speed of memory for most methods; leave it out",
    "--async-write": _NOT_NEEDED + "files are always written beside the arithmetic",
    "--write-threads": _NOT_NEEDED + "files are always written beside the arithmetic",
    "--out-shard-size": "write --shard-size 5GB (mergekit's 5B counts bytes, too)",
    "--copy-tokenizer": _NOT_NEEDED + "the tokenizer always travels with the model",
    "--clone-tensors": _NOT_NEEDED + "blocks that occur more than once are written each time",
    "--write-model-card": _NOT_NEEDED + "a model card is always written",
    "--safe-serialization": _NOT_NEEDED + "safetensors is the only format written",
}

_OF_MOE = {
    "--load-in-4bit": "the base runs in its own dtype, and only for gate_mode hidden",
    "--load-in-8bit": "the base runs in its own dtype, and only for gate_mode hidden",
    "--i-understand-this-is-not-useful-without-training": _NOT_NEEDED + "a note says where gates route at random",
}
_OF_LORA = {
    "--model": "it is the first argument: evomerge lora MODEL BASE OUT",
    "--base-model": "it is the second argument: evomerge lora MODEL BASE OUT",
    "--out-path": "it is the third argument: evomerge lora MODEL BASE OUT",
    "--max-rank": "write --rank N",
    "--distribute-scale": _NOT_NEEDED + "both factors get the root of the singular values",
    "--embed-lora": "embeddings are stored whole, with --save-rest",
    "--save-module": "write --save-rest, which stores whatever is no linear weight and differs",
    "--exclude-regex": "write --exclude REGEX",
    "-e": "write --exclude REGEX",
    "--include-regex": "write --include REGEX",
    "-i": "write --include REGEX",
    "--sv-epsilon": "write --energy 0.99, the share of the squared norm that is kept",
    "--skip-undecomposable": _NOT_NEEDED + "what cannot be decomposed is left out and named, unless --save-rest is set",
}


class MergekitAwareCommand(click.Command):
    """A command that answers mergekit's flags with their counterparts.

    Attributes:
        counterparts: flag -> what does the same here.
    """

    counterparts: ClassVar[Mapping[str, str]] = _COUNTERPARTS

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Parse as click does.

        Raises:
            click.NoSuchOption: an unknown flag; of mergekit's flags the message says what does the same here.
        """
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            name = error.option_name
            known = name if name in self.counterparts else name.replace("--no-", "--", 1)
            if known in self.counterparts:
                raise _counterpart(name, self.counterparts[known], context) from None
            raise


class MoeCommand(MergekitAwareCommand):
    """A command that answers mergekit-moe's flags."""

    counterparts: ClassVar[Mapping[str, str]] = {**_COUNTERPARTS, **_OF_MOE}


class LoraCommand(MergekitAwareCommand):
    """A command that answers mergekit-extract-lora's flags."""

    counterparts: ClassVar[Mapping[str, str]] = {**_COUNTERPARTS, **_OF_LORA}


def _counterpart(name: str, said: str, context: click.Context) -> click.UsageError:
    said = said if said.startswith(_NOT_NEEDED) else f"is a flag of mergekit: {said}"
    return click.UsageError(f"{name} {said}", context)
