"""`evomerge.merge`: build checkpoints from recipes. Imports nothing that scores models, so the command starts fast."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.checkpoint import SHARD_BYTES, Parents, card_parents, model_card, refuse_existing
from evomerge.engine import FolderTexts, Plan, ProgressCallback, make_plan, output_tokenizer, write_folder
from evomerge.errors import InvalidInput, MergeFailed
from evomerge.methods import Method, register
from evomerge.recipe import Recipe, load_recipe, parse_recipe


def merge(
    recipe: Path | str | Mapping[str, Any] | Recipe,
    out: Path | str,
    *,
    device: str = "cpu",
    seed: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    threads: int = 1,
    overwrite: bool = False,
    methods: Sequence[Method] = (),
    progress: ProgressCallback | None = None,
) -> Path:
    """Build a checkpoint folder from a recipe.

    Args:
        recipe: a file, its content, or a Recipe. A mergekit file is a recipe as it is.
        out: the folder to make; it must not exist, unless `overwrite` is set.
        device: where the arithmetic runs: "cpu", "cuda" or "cuda:N".
        seed: of random masks; overrides the recipe's.
        shard_bytes: largest size of a weight file.
        threads: that merge on a CPU; 0 = as many as memory has bandwidth for, measured. They change no byte.
        overwrite: whether a model folder that evomerge wrote gives way, once the new one is whole.
        methods: merge methods of the caller's, under whose names the recipe finds them; they stay known to this
            process.
        progress: called with bytes written and bytes in all.

    Returns:
        The folder.

    Raises:
        InvalidInput: the recipe or its models do not make sense, or `out` exists.
        MergeFailed: the parents cannot be merged; nothing is left behind.
        DegenerateModel: a merged weight is not finite; nothing is left behind.
    """
    for method in methods:
        register(method)
    plan, parents = plan_merge(recipe, seed=seed)
    write_merge(
        plan,
        parents,
        Path(out),
        device=device,
        shard_bytes=shard_bytes,
        threads=threads,
        overwrite=overwrite,
        progress=progress,
    )
    return Path(out)


def plan_merge(recipe: Path | str | Mapping[str, Any] | Recipe, *, seed: int | None = None) -> tuple[Plan, Parents]:
    """Open a recipe's models and plan every tensor, without reading one.

    Args:
        recipe: see `merge`.
        seed: see `merge`.

    Raises:
        InvalidInput: the recipe or its models do not make sense.
    """
    if isinstance(recipe, Mapping):
        recipe = parse_recipe(recipe)
    elif not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    if seed is not None:
        recipe = recipe.with_seed(seed)
    parents = Parents(recipe.models, recipe.root, recipe.commits)
    try:
        plan = make_plan(recipe, parents)
        output_tokenizer(recipe, parents)
    except MergeFailed as error:
        raise InvalidInput(str(error)) from error
    return plan, parents


def write_merge(
    plan: Plan,
    parents: Parents,
    out: Path,
    *,
    device: str = "cpu",
    shard_bytes: int = SHARD_BYTES,
    threads: int = 1,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    sections: Sequence[str] = (),
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write a planned merge with a model card.

    Args:
        plan: what to build.
        parents: the models that it is built from.
        out: the folder to make.
        device: see `merge`.
        shard_bytes: see `merge`.
        threads: see `merge`.
        overwrite: see `merge`.
        progress: see `merge`.
        sections: of the card, besides the parents and the recipe.
        record: what evomerge.json says besides the parents.

    Raises:
        InvalidInput: `out` exists and may not be replaced, or is one of the parents.
        MergeFailed: see `merge`.
        DegenerateModel: see `merge`.
    """
    refuse_existing(out, overwrite)
    if any(out.resolve() == parents[ref].folder.resolve() for ref in parents):
        raise InvalidInput(f"{out}: is one of the parents; name another folder")
    described = card_parents([parents[ref] for ref in parents], digests=False)
    card = model_card(out.resolve().name, described, plan.recipe.with_commits(parents.commits).to_yaml(out), sections)
    known = {**(record or {}), "parents": [parent._asdict() for parent in described]}
    texts = FolderTexts(card=card, record=known)
    write_folder(
        plan,
        parents,
        out,
        texts=texts,
        shard_bytes=shard_bytes,
        device=device,
        threads=threads,
        overwrite=overwrite,
        progress=progress,
    )
