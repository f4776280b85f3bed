"""Routers of a mixture of experts without training: directions in which an expert's prompts point.

A router's logit for an expert is the product of the hidden state with that expert's gate vector, so a gate that points
where the base model's states go on an expert's prompts sends similar text to that expert (mergekit-moe's method).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from evomerge.checkpoint import Checkpoint, Model
from evomerge.errors import InvalidInput
from evomerge.recipe import ExpertEntry, GateMode

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_DISTANCE = 1e-3  # of two gates (unit vectors) that are not taken to be the same


def make_gates(
    base: Model, experts: Sequence[ExpertEntry], mode: GateMode, *, seed: int, stream: int = 0, device: str = "cpu"
) -> torch.Tensor:
    """Return gate vectors, (layers, experts, hidden), float32.

    Modes:
        hidden: mean of the base model's states at the last token of each positive prompt, less that of the negative
            ones, where the state is what enters a block; unit length.
        cheap_embed: direction of the sum of all the prompts' token embeddings, less that of the negative ones; equal
            for all blocks; loads no model.
        random: standard normal.
        uniform_random: uniform within 1 / sqrt(hidden), as a new linear layer.

    Args:
        base: the model whose states or embeddings are used.
        experts: with their prompts.
        mode: see above.
        seed: of the random modes.
        stream: of the random modes; another stream gives other numbers.
        device: where mode hidden runs the model.

    Raises:
        InvalidInput: a prompt without tokens, or positive and negative prompts that cancel out.
    """
    layers, hidden = base.layout.num_layers, int(base.config["hidden_size"])
    if mode in ("random", "uniform_random"):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + stream)
        shape = (layers, len(experts), hidden)
        if mode == "random":
            return torch.randn(shape, generator=generator)
        return (torch.rand(shape, generator=generator) * 2 - 1) / hidden**0.5
    reader = _Hidden(base, device) if mode == "hidden" else _Embeddings(base)
    gates = torch.stack([_direction(reader, expert) for expert in experts], dim=1)
    return gates.expand(layers, -1, -1).contiguous()


def _direction(reader: "_Hidden | _Embeddings", expert: ExpertEntry) -> torch.Tensor:
    """Return an expert's gate, (layers or 1, hidden)."""
    direction = reader.read(expert.positive_prompts)
    if expert.negative_prompts:
        direction = direction - reader.read(expert.negative_prompts)
    if not bool(direction.any()):
        raise InvalidInput(
            f"{expert.source_model}: its positive and negative prompts lead to the same states, so they give no gate; "
            "make them differ"
        )
    return torch.nn.functional.normalize(direction, dim=-1)  # zeros in a block where both sides agree


def undecided(gates: torch.Tensor) -> list[int]:
    """Return the blocks in which two experts have (nearly) the same gate, of gates (blocks, experts, hidden)."""
    apart = torch.cdist(gates, gates) + torch.eye(gates.shape[1])  # not from itself
    return (apart.amin(dim=(1, 2)) < MIN_DISTANCE).nonzero().flatten().tolist()


class _Prompts:
    """Turns prompts into token ids, after the token that begins a text where the tokenizer has one."""

    def __init__(self, base: Model):
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(base.folder)
        self._limit = int(base.config.get("max_position_embeddings", 2048))

    def ids(self, prompt: str) -> torch.Tensor:
        """Return token ids, (tokens,): the last ones where the model takes no more."""
        text = (self._tokenizer.bos_token or "") + prompt
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"][-self._limit :]
        if not ids:
            raise InvalidInput(f"the prompt {prompt!r} has no tokens")
        return torch.tensor(ids)


class _Hidden(_Prompts):
    """Reads the base model's hidden states on prompts."""

    def __init__(self, base: Model, device: str):
        super().__init__(base)
        if not isinstance(base, Checkpoint):
            raise InvalidInput(f"{base.name}: gate_mode hidden runs the base model, so merge its adapter into it first")
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        enabled = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        self._model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base.folder).to(device).eval()
        if enabled:
            logging.enable_progress_bar()

    def read(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return the mean state that enters each block at the last token, (layers, hidden)."""
        return torch.stack([self._states(prompt) for prompt in prompts]).mean(dim=0)

    def _states(self, prompt: str) -> torch.Tensor:
        """Return the states of one prompt, (layers, hidden); the padding of a batch would change them."""
        ids = self.ids(prompt)[None].to(self._model.device)
        with torch.inference_mode():
            states = self._model(ids, output_hidden_states=True, use_cache=False).hidden_states
        return torch.stack([state[0, -1].float().cpu() for state in states[:-1]])


class _Embeddings(_Prompts):
    """Reads the base model's token embeddings of prompts."""

    def __init__(self, base: Model):
        super().__init__(base)
        self._rows = base.tensor("model.embed_tokens.weight")

    def read(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return the direction of the sum of all the prompts' embeddings, (1, hidden), of unit length."""
        total = self._rows[torch.cat([self.ids(prompt) for prompt in prompts])].float().sum(dim=0, keepdim=True)
        return torch.nn.functional.normalize(total, dim=-1)
