"""Where a model takes its tokens. A model spread over several devices takes them where its embedding lies."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def input_device(model: "PreTrainedModel") -> Any:
    """Return the torch.device on which a model expects token ids."""
    embedding = _embedding(model)
    return next(model.parameters()).device if embedding is None else embedding.weight.device


def is_spread(model: "PreTrainedModel") -> bool:
    """Return whether a model's parameters lie on more than one device."""
    return len({parameter.device for parameter in model.parameters()}) > 1


def has_weights(model: "PreTrainedModel") -> bool:
    """Return whether a model holds weights; where another engine does, the object only describes them."""
    embedding = _embedding(model)
    return embedding is None or embedding.weight.numel() > 0


def readable_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the number of different tokens that a model can read."""
    embedding = _embedding(model)
    if embedding is None:
        return len(tokenizer)
    return int(getattr(embedding, "num_embeddings", None) or embedding.weight.shape[0])


class TokenCounter:
    """How many tokens went through a model.

    Attributes:
        tokens: padding included; 0 for a model without an embedding.
    """

    def __init__(self) -> None:
        self.tokens = 0

    def _add(self, embedding: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self.tokens += output.shape[:-1].numel()


@contextmanager
def counted_tokens(model: "PreTrainedModel") -> Iterator[TokenCounter]:
    """Count what goes through a model's embedding until the block is left."""
    counter, embedding = TokenCounter(), _embedding(model)
    handle = None if embedding is None else embedding.register_forward_hook(counter._add)
    try:
        yield counter
    finally:
        if handle is not None:
            handle.remove()


def _embedding(model: "PreTrainedModel") -> Any:
    return model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
