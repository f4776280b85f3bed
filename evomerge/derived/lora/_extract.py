"""A LoRA adapter out of a fine-tune: the task vector of each linear weight, cut to a low rank.

delta = W_model - W_base ~ B A  (Hu 2021, https://arxiv.org/abs/2106.09685, with alpha = rank, so B A counts once)
"""

from pathlib import Path

from evomerge.checkpoint import (
    Model,
    SafetensorsWriter,
    atomic_folder,
    write_json,
)
from evomerge.derived.lora._card import lora_card
from evomerge.derived.lora._extractor import Extractor
from evomerge.derived.lora._modules import map_modules
from evomerge.derived.lora._records import LoraOptions, LoraReport
from evomerge.engine import ProgressCallback

ADAPTER = "adapter_model.safetensors"


def extract_lora(
    model: Model,
    base: Model,
    out: Path,
    options: LoraOptions,
    *,
    base_name: tuple[str, str | None],
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> LoraReport:
    """Write the adapter folder that turns `base` into `model`. Memory: one weight and its decomposition.

    Args:
        model: the fine-tune.
        base: its base.
        out: the new folder.
        options: what to extract.
        base_name: path or hub id, and revision, under which PEFT will look for the base.
        device: where matrices are decomposed.
        progress: called with (bytes read, bytes in all).

    Raises:
        InvalidInput: the models or the options do not fit, they hold the same weights, or `out` exists; nothing is
            left behind.
        DegenerateModel: a weight is not finite; nothing is left behind.
    """
    options.check()
    known = map_modules(model, [name for name, info in model.tensors.items() if info.dtype.is_floating_point])
    extractor = Extractor(model, base, known, options, device)
    with atomic_folder(out) as folder:
        with SafetensorsWriter(folder / ADAPTER, extractor.possible_names()) as stream:
            total, done = sum(extractor.size(module) for module in known.modules), 0
            for module in known.modules:
                extractor.take(module, stream)
                done += extractor.size(module)
                if progress:
                    progress(done, total)
        report = extractor.report(stream.size_bytes)
        write_json(folder / "adapter_config.json", extractor.config(base_name))
        model.tokenizer.write(folder)
        (folder / "README.md").write_text(lora_card(out.resolve().name, model, base, options, report), encoding="utf-8")
    return report
