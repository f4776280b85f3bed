"""What each parent contributes to a merge, block by block."""

from collections.abc import Mapping

from evomerge import methods
from evomerge.checkpoint import Parents
from evomerge.engine import Plan, TensorPlan, make_plan
from evomerge.records import Candidate
from evomerge.run import Run

NON_BLOCK = "embeddings, norm and head"  # the label of what belongs to no layer


def contributions(run: Run, candidate: Candidate) -> dict[str, dict[str, float]]:
    """Return what each parent contributes to a candidate; opens the parents.

    Args:
        run: the run of the candidate.
        candidate: any of the run's candidates that can be built.

    Returns:
        block -> parent -> factor on that parent (see `contributions_of`).

    Raises:
        EvomergeError: a parent cannot be found any more.
    """
    recipe = run.recipe(candidate)
    return contributions_of(make_plan(recipe, Parents(recipe.models, recipe.root, recipe.commits)))


def contributions_of(plan: Plan) -> dict[str, dict[str, float]]:
    """Return what each parent contributes to a planned merge.

    Args:
        plan: every tensor with its parents and settings.

    Returns:
        block -> parent -> factor on that parent (on its task vector, where the method has a base): the mean over the
        block's tensors, weighted by their number of elements. Densities multiply weights. A base's factor is not
        listed: it is what the result starts from.
    """
    sums: dict[str, dict[str, float]] = {}
    sizes: dict[str, float] = {}
    for tensor in plan.tensors:
        site = plan.layout.site(tensor.name)
        label = f"layer {site.layer}" if site.part == "block" else NON_BLOCK
        elements = tensor.info.size_bytes / tensor.dtype.itemsize
        sizes[label] = sizes.get(label, 0.0) + elements
        for parent, factor in _factors(tensor).items():
            row = sums.setdefault(label, {})
            row[parent] = row.get(parent, 0.0) + factor * elements
    ordered = sorted(sums, key=lambda label: (label == NON_BLOCK, int(label.split()[-1]) if label != NON_BLOCK else 0))
    return {label: {parent: total / sizes[label] for parent, total in sums[label].items()} for label in ordered}


def _factors(tensor: TensorPlan) -> Mapping[str, float]:
    """Return parent -> factor of one tensor."""
    said = methods.get(tensor.method).contributions(tensor.settings)
    found: dict[str, float] = {}
    for origin, factor in zip(tensor.models, said.models, strict=True):
        found[str(origin.model)] = found.get(str(origin.model), 0.0) + factor
    if tensor.base is not None and said.base is not None:
        found[str(tensor.base.model)] = said.base
    return found
