"""Which family of mixtures some models make, and everything that prevents it."""

from collections.abc import Iterator

from evomerge.checkpoint import Model, Parents
from evomerge.derived.moe._families import (
    FAMILIES,
    MLP,
    MoeFamily,
    families_of,
)
from evomerge.errors import InvalidInput
from evomerge.recipe import MoeRecipe


def family_for(recipe: MoeRecipe, base: Model) -> MoeFamily:
    """Return the family that fits the base's type, the presence of a shared expert and the file's `architecture`.

    Raises:
        InvalidInput: there is none.
    """
    possible, shared = families_of(base.model_type), bool(recipe.entry.shared_experts)
    if not possible:
        known = ", ".join(sorted({parent for family in FAMILIES.values() for parent in family.parents}))
        raise InvalidInput(f'{base.name}: is a "{base.model_type}" model, expected one of {known}')
    allowed = [family for family in possible if family.name in recipe.entry.families]
    if not allowed:
        makes = " or ".join(family.name for family in possible)
        asked = recipe.entry.architecture
        raise InvalidInput(f"architecture: found {asked}, but {base.name} ({base.model_type}) makes a {makes}")
    fitting = next((family for family in allowed if family.shared == shared), None)
    if fitting is None and shared:
        raise InvalidInput(f"shared_experts: {allowed[0].name} has none; a qwen2_moe (from qwen2 or llama) has one")
    if fitting is None:
        raise InvalidInput(f"shared_experts: is missing; {allowed[0].name} needs one model for it, such as the base")
    return fitting


def misfits(recipe: MoeRecipe, parents: Parents, base: Model, family: MoeFamily) -> Iterator[str]:
    """Yield a sentence for everything that prevents a mixture of the models.

    Args:
        recipe: names the models.
        parents: the opened models.
        base: the one that the others are compared with.
        family: which mixtures the result would be one of.
    """
    allowed = tuple(f".self_attn.{weight}.bias" for weight in family.biases)
    biases = [name for name in base.tensors if name.endswith(".bias") and not name.endswith(allowed)]
    if biases:
        yield f"{base.name}: has {biases[0]}, and a {family.name} cannot hold such a bias"
    for ref in recipe.models:
        model = parents[ref]
        if model.model_type not in family.parents:
            expected = " or ".join(family.parents)
            yield f'{model.name}: is a "{model.model_type}" model, expected {expected} as {base.name}'
            continue
        if model.config.get("hidden_act") != base.config.get("hidden_act"):
            yield f"{model.name}: its activation is {model.config.get('hidden_act')}, expected {base.name}'s"
        for layer in range(base.layout.num_layers):
            for weight in MLP:
                name = base.layout.name(layer, f"mlp.{weight}.weight")
                mine, theirs = base.tensors.get(name), model.tensors.get(name)
                if mine is None or theirs is None:
                    yield f"{(base if mine is None else model).name}: has no tensor {name}"
                elif theirs.shape != mine.shape:
                    yield f"{name} is {list(theirs.shape)} in {model.name} but {list(mine.shape)} in {base.name}"
