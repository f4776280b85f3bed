"""The card of an extracted adapter."""

from evomerge.checkpoint import Model, card_parents, derived_card
from evomerge.derived.lora._records import LoraOptions, LoraReport


def lora_card(title: str, model: Model, base: Model, options: LoraOptions, report: LoraReport) -> str:
    """Return README.md: what the adapter holds, what it lost, how to use and rebuild it.

    Args:
        title: of the card.
        model: the fine-tune.
        base: its base.
        options: what was extracted.
        report: on the adapter.
    """
    first = (
        f"A LoRA adapter that turns `{base.name}` into an approximation of `{model.name}`, made with evomerge. No "
        "weight was trained: the difference of each linear weight was cut to a low rank (singular value decomposition)."
    )
    return derived_card(
        title,
        card_parents([model, base], digests=True),
        [first, _contents(options, report), _use(model, base, options), _losses(report)],
        base=base.name,
        relation="adapter",
        library="peft",
        tags=["lora"],
    )


def _contents(options: LoraOptions, report: LoraReport) -> str:
    ranks = sorted({module.rank for module in report.modules})
    rank = str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    lines = [
        "## What it holds",
        "",
        f"- {len(report.modules)} linear weights as factors of rank {rank} in {options.dtype}",
        f"- {len(report.saved)} modules stored whole",
        f"- {len(report.left_out)} tensors that differ from the base are left out",
        f"- lost of the whole task vector, left-out tensors included: {100 * report.error:.3g}% of its Frobenius norm",
    ]
    return "\n".join(lines)


def _use(model: Model, base: Model, options: LoraOptions) -> str:
    settings = [f"--rank {options.rank}"]
    settings += [] if options.energy is None else [f"--energy {options.energy:g}"]
    settings += [f"--include '{pattern}'" for pattern in options.include]
    settings += [f"--exclude '{pattern}'" for pattern in options.exclude]
    settings += ["--save-rest"] if options.save_rest else []
    settings += [] if options.dtype == "float32" else [f"--dtype {options.dtype}"]
    code = (
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{base.name}")\nmodel = PeftModel.from_pretrained(base, "OUT")'
    )
    command = f"evomerge lora {model.name} {base.name} OUT {' '.join(settings)}"
    return f"## Use\n\n```python\n{code}\n```\n\nRebuild it with `{command}`."


def _losses(report: LoraReport) -> str:
    rows = [
        f"| `{module.name}` | {module.shape[0]}x{module.shape[1]} | {module.rank} | {module.error:.2e} |"
        for module in sorted(report.modules, key=lambda module: -module.error)[:10]
    ]
    head = ["## Largest losses", "", "| module | shape | rank | relative error |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])
