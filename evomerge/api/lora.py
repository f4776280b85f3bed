"""Extract a LoRA adapter from a fine-tune."""

from collections.abc import Sequence
from pathlib import Path

from evomerge.checkpoint import Parents
from evomerge.derived import lora
from evomerge.derived.lora import LoraOptions, LoraReport
from evomerge.engine import Progress
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
    progress: Progress | None = None,
) -> LoraReport:
    """Write a PEFT LoRA adapter that turns `base` into the fine-tune `model`, and return what it holds and lost.

    Args:
        model, base: folders or hub ids. The other options: see `evomerge.engine.LoraOptions`.

    Raises:
        InvalidInput: a model or an option does not fit, the weights are the same, or `out` exists. DegenerateModel: a
        weight is not finite. Nothing is left behind.
    """
    options = LoraOptions(
        rank=rank,
        energy=energy,
        include=tuple(include),
        exclude=tuple(exclude),
        save_rest=save_rest,
        dtype=dtype,
    )
    refs = [ModelRef.parse(str(each)) for each in (model, base)]
    if refs[1].lora is not None:
        raise InvalidInput(f"{refs[1]}: PEFT needs a plain model as the base; merge its adapter into it first")
    opened = Parents(refs)
    return lora.extract_lora(
        opened[refs[0]],
        opened[refs[1]],
        Path(out),
        options,
        base_name=(refs[1].path, refs[1].revision),
        device=device,
        progress=progress,
    )
