"""`evomerge.extract_lora`: extract a LoRA adapter from a fine-tune."""

from collections.abc import Sequence
from pathlib import Path

from evomerge.checkpoint import Parents
from evomerge.derived import lora
from evomerge.derived.lora import LoraOptions, LoraReport
from evomerge.engine import ProgressCallback
from evomerge.errors import InvalidInput
from evomerge.recipe import ModelRef


def extract_lora(
    model: Path | str,
    base: Path | str,
    out: Path | str,
    *,
    rank: int = 32,
    energy: float | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    save_rest: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> LoraReport:
    """Write a PEFT LoRA adapter that turns `base` into the fine-tune `model`.

    Args:
        model: the fine-tune, a folder or hub id.
        base: what it was tuned from, a folder or hub id without an adapter.
        out: the folder to make; it must not exist.
        rank: largest rank of a module.
        energy: smallest rank that holds this share of a module's squared norm, in (0, 1]; None = `rank` everywhere.
        include: regular expressions; decompose only modules whose name one of them is found in.
        exclude: regular expressions; decompose no module whose name one of them is found in.
        save_rest: store embeddings, norms and other modules that differ whole.
        dtype: of the factors on disk: "float32", "bfloat16" or "float16".
        device: where the decompositions run.
        progress: called with bytes read and bytes in all.

    Returns:
        What the adapter holds, and what is lost for each module and in all.

    Raises:
        InvalidInput: a model or an option does not fit, the weights are the same, or `out` exists.
        DegenerateModel: a weight is not finite. Nothing is left behind.
    """
    options = LoraOptions(
        rank=rank,
        energy=energy,
        include=tuple(include),
        exclude=tuple(exclude),
        save_rest=save_rest,
        dtype=dtype,
    )
    tuned, origin = ModelRef.parse(str(model)), ModelRef.parse(str(base))
    if origin.lora is not None:
        raise InvalidInput(f"{origin}: PEFT needs a plain model as the base; merge its adapter into it first")
    opened = Parents([tuned, origin])
    return lora.extract_lora(
        opened[tuned],
        opened[origin],
        Path(out),
        options,
        base_name=(origin.path, origin.revision),
        device=device,
        progress=progress,
    )
