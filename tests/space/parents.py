"""Summaries of parents that no folder holds."""

from evomerge.records import ParentSummary, TensorPlace


def summary(name: str, layers: int = 4, tensors: tuple[TensorPlace, ...] = ()) -> ParentSummary:
    """Return the summary of a small Llama.

    Args:
        name: of the parent.
        layers: number of its blocks.
        tensors: where they are; empty: as the space supposes.
    """
    return ParentSummary(
        name=name,
        architecture="LlamaForCausalLM",
        block_prefix="model.layers.",
        num_layers=layers,
        hidden_size=32,
        vocab_size=64,
        dtype="bfloat16",
        size_bytes=1000,
        tensors=tensors,
    )
