"""Which tensors on disk belong to which modules of a transformers model, and which modules are plain linear maps."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.checkpoint import Model, ParameterMap, meta_model
from evomerge.errors import InvalidInput, MergeFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module with weights of its own.

    Attributes:
        name: in the model's object.
        tensors: parameter ("weight", "bias") -> tensor on disk.
        linear: whether it is y = W x.
        transposed: whether W is stored as (in, out), not (out, in).
        tied: the name of another module that uses the same weight, or None.
    """

    name: str
    tensors: Mapping[str, str]
    linear: bool = False
    transposed: bool = False
    tied: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleMap:
    """Which tensors belong to which modules.

    Attributes:
        modules: those with tensors, in the order of the files.
        unmatched: tensors that no module has under their name.
        names: of every module.
    """

    modules: tuple[Module, ...]
    unmatched: tuple[str, ...]
    names: frozenset[str]


def map_modules(model: Model, tensors: Iterable[str]) -> ModuleMap:
    """Assign tensors to modules by building the model's object without weights.

    Args:
        model: whose config describes the object.
        tensors: names on disk.

    Raises:
        InvalidInput: transformers cannot build the model from its config.
    """
    try:
        skeleton = meta_model(model.config)
    except MergeFailed as error:
        raise InvalidInput(f"{model.name}: {error}, so its linear layers are not known") from None
    objects = dict(skeleton.named_modules())
    tied = _tied_head(skeleton, objects)
    found: dict[str, dict[str, str]] = {}
    unmatched = []
    tensors = list(tensors)
    full_names = _owners(skeleton, tensors)
    for name in tensors:
        full = full_names.get(name)
        if full is None or full.rpartition(".")[2] not in objects[full.rpartition(".")[0]]._parameters:
            unmatched.append(name)
            continue
        owner, _, parameter = full.rpartition(".")
        if tied is None or owner != tied[1]:  # a tied head on disk is a copy that nobody reads
            found.setdefault(owner, {})[parameter] = name
    modules = tuple(
        Module(
            name=owner,
            tensors=parameters,
            linear=_is_linear(objects[owner]),
            transposed=type(objects[owner]).__name__ == "Conv1D",
            tied=tied[1] if tied and tied[0] == owner else None,
        )
        for owner, parameters in found.items()
    )
    return ModuleMap(modules=modules, unmatched=tuple(unmatched), names=frozenset(objects))


def _owners(skeleton: Any, tensors: Iterable[str]) -> dict[str, str]:
    """Return tensor -> the parameter that holds it and nothing else; experts that are fused in memory are left out."""
    names = ParameterMap(skeleton).names(tensors)
    counts = Counter(names.values())
    return {name: parameter for name, parameter in names.items() if counts[parameter] == 1}


def _is_linear(module: Any) -> bool:
    from torch import nn

    return type(module) is nn.Linear or type(module).__name__ == "Conv1D"


def _tied_head(skeleton: Any, objects: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the names of the embeddings and of an output head that shares their weight."""
    embeddings, head = skeleton.get_input_embeddings(), skeleton.get_output_embeddings()
    if head is None or not getattr(skeleton.config, "tie_word_embeddings", False):
        return None
    names = {id(module): name for name, module in objects.items()}
    return names[id(embeddings)], names[id(head)]
