"""Recipe files: one document, or several in which later ones use the results of earlier ones by name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.errors import InvalidInput
from evomerge.recipe._recipe import Recipe, parse_recipe
from evomerge.recipe._yaml import read_documents


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe file; of several documents, the one without a name (or else the last) is the result.

    Args:
        path: of the YAML file; relative paths of parents in it start at its folder.

    Raises:
        InvalidInput: the file cannot be read.
        InvalidFile: every problem of its content at once.
    """
    path = Path(path)
    documents = read_documents(path)
    data = join_documents(documents, str(path))
    if isinstance(data, Mapping) and "tasks" in data and "merge_method" not in data:
        raise InvalidInput(f"{path}: is a search file, not a recipe; run it with `evomerge search`")
    recipe = parse_recipe(data, where=str(path), root=path.resolve().parent)
    return recipe if len(documents) > 1 else replace(recipe, source=path.read_text(encoding="utf-8"))


def load_recipes(path: Path | str) -> dict[str, Recipe]:
    """Read a file of several recipes.

    Args:
        path: see `load_recipe`.

    Returns:
        Name -> recipe, in the order in which they are built; the result's name is "".

    Raises:
        InvalidInput: see `load_recipe`.
        InvalidFile: see `load_recipe`.
    """
    result = load_recipe(path)
    return {**result.merges, "": result}


def join_documents(documents: Sequence[Any], where: str) -> Any:
    """Return several YAML documents, in which later ones use earlier ones by name, as one with `evomerge.merges`.

    Args:
        documents: of one file, in its order.
        where: the file's name, for messages.

    Raises:
        InvalidInput: none or several could be the result, a name is given twice, or what would hold the others is no
            mapping.
    """
    if len(documents) == 1:
        only = documents[0]
        return {k: v for k, v in only.items() if k != "name"} if isinstance(only, Mapping) else only
    if not documents or not all(isinstance(document, Mapping) for document in documents):
        raise InvalidInput(f"{where}: holds {len(documents)} YAML documents, expected a recipe in each")
    named = [(document.get("name"), {k: v for k, v in document.items() if k != "name"}) for document in documents]
    unnamed = [i for i, (name, _) in enumerate(named) if name is None]
    if len(unnamed) > 1:
        raise InvalidInput(f"{where}: {len(unnamed)} documents have no name:, expected one (the result)")
    _, result = named.pop(unnamed[0] if unnamed else -1)
    names = [str(name) for name, _ in named]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InvalidInput(f'{where}: two documents have the name "{twice[0]}"')
    extension = result.get("evomerge") or {}
    if not isinstance(extension, Mapping) or not isinstance(extension.get("merges") or {}, Mapping):
        raise InvalidInput(f"{where}: evomerge: and evomerge.merges: of the result must be mappings of keys to values")
    merges = {str(name): document for name, document in named}
    return {**result, "evomerge": {**extension, "merges": {**(extension.get("merges") or {}), **merges}}}
