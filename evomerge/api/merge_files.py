"""`evomerge.merge_files`: merge files of tensors that are no models, such as adapters or encoders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from evomerge.checkpoint import SHARD_BYTES, Parents, TensorFile
from evomerge.engine import Plan, ProgressCallback, make_plan, write_tensors
from evomerge.errors import InvalidFile, InvalidInput, MergeFailed, Problem
from evomerge.recipe import ModelRef, Recipe, load_recipe, parse_recipe

TensorChoice = Literal["same", "intersection", "union"]
"""Which tensors are merged: all, which every file must have; those that all have; or whatever some have."""

_OF_MODELS = {
    "slices": "files have no layers",
    "modules": "files have no parts",
    "tokenizer": "files have no vocabulary",
    "tokenizer_source": "files have no vocabulary",
    "chat_template": "files have no chat",
}


def merge_files(
    recipe: Path | str | Mapping[str, Any],
    out: Path | str,
    *,
    tensors: TensorChoice = "same",
    unpickle: bool = False,
    device: str = "cpu",
    shard_bytes: int = SHARD_BYTES,
    progress: ProgressCallback | None = None,
) -> Path:
    """Merge files of named tensors by a recipe whose models are files, as mergekit-pytorch does.

    Args:
        recipe: a file or its content; `models:` and `base_model:` are files. Lists of values over the layers have their
            first value everywhere, as in mergekit-pytorch.
        out: the folder to make: safetensors files and the recipe.
        tensors: which tensors are merged.
        unpickle: whether .bin, .pt, .pth and .ckpt files may be read, by torch's reader of weights that runs no code.
        device: where the arithmetic runs: "cpu", "cuda" or "cuda:N".
        shard_bytes: largest size of a file.
        progress: called with bytes written and bytes in all.

    Returns:
        The folder.

    Raises:
        InvalidInput: the recipe or its files do not make sense, or `out` exists.
        RefusedForSafety: a file is a pickle, and `unpickle` is not set.
        DegenerateModel: a merged tensor is not finite; nothing is left behind.
    """
    plan, parents = plan_files(recipe, tensors=tensors, unpickle=unpickle)
    write_tensors(plan, parents, Path(out), device=device, shard_bytes=shard_bytes, progress=progress)
    return Path(out)


def plan_files(
    recipe: Path | str | Mapping[str, Any], *, tensors: TensorChoice, unpickle: bool
) -> tuple[Plan, Parents]:
    """Open a recipe's files and plan every tensor.

    Args:
        recipe: see `merge_files`.
        tensors: see `merge_files`.
        unpickle: see `merge_files`.

    Raises:
        InvalidInput: see `merge_files`.
        RefusedForSafety: see `merge_files`.
    """
    parsed = parse_recipe(recipe) if isinstance(recipe, Mapping) else load_recipe(recipe)
    where = "recipe" if isinstance(recipe, Mapping) else str(recipe)
    found = [
        Problem(f"{where}: {key}", f"{why}; leave it out") for key, why in _OF_MODELS.items() if key in parsed.document
    ]
    if parsed.gains or parsed.merges:
        found.append(Problem(f"{where}: evomerge", "gains and merges are of models; leave them out"))
    if found:
        raise InvalidFile(found)
    opened = {ref: TensorFile(_file(ref, parsed), str(ref), unpickle=unpickle) for ref in parsed.models}
    if tensors == "intersection":
        common = frozenset.intersection(*(frozenset(file.tensors) for file in opened.values()))
        if not common:
            raise InvalidInput(f"{where}: no tensor has the same name in all files; nothing is left to merge")
        opened = {ref: TensorFile(file.file, str(ref), unpickle=unpickle, only=common) for ref, file in opened.items()}
    parents = Parents([])
    for ref, file in opened.items():
        parents.name(str(ref), str(file.file), lambda file=file: file)  # type: ignore[misc]
    try:
        return make_plan(parsed, parents, union=tensors == "union"), parents
    except MergeFailed as error:
        advice = "" if tensors != "same" else "; --intersection merges what all files have, --union what some have"
        raise InvalidInput(f"{error}{advice}") from error


def _file(ref: ModelRef, recipe: Recipe) -> Path:
    """Return the file that a recipe's name means."""
    if ref.lora is not None or ref.revision is not None or ref.architecture is not None:
        raise InvalidInput(f"{ref}: names more than a file; adapters, revisions and architectures are of models")
    starts = dict.fromkeys([*([recipe.root] if recipe.root else []), Path.cwd()])
    found = [start / Path(ref.path).expanduser() for start in starts if (start / Path(ref.path).expanduser()).is_file()]
    if not found:
        listed = " and ".join(map(str, starts))
        raise InvalidInput(f"{ref.path}: no such file (looked in {listed}); for model folders use evomerge merge")
    return found[0].resolve()
