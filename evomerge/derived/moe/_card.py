"""The card of a mixture of experts."""

from collections.abc import Sequence

from evomerge.checkpoint import CardParent, derived_card
from evomerge.derived.moe._build import MoePlan
from evomerge.recipe import PROMPTED_GATES

_ROUTERS = {
    "hidden": "from the base model's hidden states on each expert's prompts, without training",
    "cheap_embed": "from the mean token embedding of each expert's prompts, without training",
    "random": "random (normal), untrained: train it before use",
    "uniform_random": "random (uniform), untrained: train it before use",
}


def moe_card(title: str, plan: MoePlan, parents: Sequence[CardParent], *, seed: int) -> str:
    """Return README.md: experts, router, and the file that rebuilds it.

    Args:
        title: of the card.
        plan: of the mixture.
        parents: each model's line of the card.
        seed: of random gates and noise.
    """
    entry = plan.recipe.entry
    first = (
        f"A mixture of experts (`{plan.family.name}`) made with evomerge. No weight was trained: everything but the "
        f"mlps is that of `{entry.base_model}`, and each expert is the mlps of one dense model."
    )
    rows = [
        f"| {owner} | `{expert.source_model}` | {len(expert.positive_prompts)} | {len(expert.negative_prompts)} |"
        for owner, expert in [
            *((f"expert {i}", expert) for i, expert in enumerate(entry.experts)),
            *(("shared expert", expert) for expert in entry.shared_experts),
        ]
    ]
    table = ["## Experts", "", "| part | model | prompts for | prompts against |", "|---|---|---|---|", *rows]
    seeded = "" if entry.gate_mode in PROMPTED_GATES else f" Seed: {seed}."
    router = (
        f"## Router\n\n{entry.experts_per_token} of {len(entry.experts)} experts for each token. Gates: "
        f"{_ROUTERS[entry.gate_mode]}.{seeded}"
    )
    rebuild = f"Rebuild it with `evomerge moe moe.yaml OUT --seed {seed}`."
    recipe = f"## Recipe\n\n{rebuild}\n\n```yaml\n{plan.recipe.to_yaml().rstrip()}\n```"
    return derived_card(
        title,
        parents,
        [first, "\n".join(table), router, recipe],
        base=None,
        relation="merge",
        library="transformers",
        tags=["moe", "merge"],
    )
