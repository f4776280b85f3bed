"""What the engine asks of a model, wherever its tensors come from: a folder, an adapter, a merge to be."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evomerge.checkpoint._layout import Layout, module_names
from evomerge.checkpoint._names import (
    TIED_FAMILIES,
    embedding_name,
    is_head,
    is_leftover,
    tied_twin,
)
from evomerge.checkpoint._tokenizer import Tokenizer
from evomerge.records import ParentSummary


class TensorInfo(NamedTuple):
    """What a file's header says of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor's content."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file. What can be shared and kept by whoever reads models: two adapters of one base have its in
    common.

    file, key: where it stands. size_bytes: of its content. read: returns it as a view of the mapped file.
    """

    file: Path
    key: str
    size_bytes: int = field(compare=False)
    read: Callable[[], torch.Tensor] = field(compare=False, repr=False)


class Outline(NamedTuple):
    """Tensor names in their stored order: before the blocks, of each block (without its prefix), after them."""

    before: tuple[str, ...]
    blocks: Mapping[int, tuple[str, ...]]
    after: tuple[str, ...]


class Model(ABC):
    """A config and named tensors.

    name: as the user calls it. folder: where its tokenizer and card are. commit: of the hub, if it came from there.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    commit: str | None = None

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Name -> dtype and shape of every tensor, in the order in which they are stored."""

    @abstractmethod
    def stored(self, name: str) -> tuple[StoredTensor, ...]:
        """Return the stored tensors that a tensor is made of. Raises MergeFailed if there is none of that name."""

    @abstractmethod
    def assemble(self, name: str, parts: Sequence[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
        """Make a tensor from its stored ones, on the device where they are.

        Args:
            parts: the content of `stored(name)`. out: contiguous memory of the tensor's shape and dtype, which a
                computed tensor is written to.
        """

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor. Raises MergeFailed if there is none of that name."""
        return self.assemble(name, [stored.read() for stored in self.stored(name)])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything the tensors depend on: the identity that scores hang on. Reads every byte."""
        return self._digest()

    @abstractmethod
    def _digest(self) -> str:
        """Work out `digest`."""

    def is_computed(self, name: str) -> bool:
        """Tell whether `assemble` computes this one each time, so that a caller who needs it again should keep it."""
        return False

    @cached_property
    def layout(self) -> Layout:
        """The block structure."""
        return Layout.of(self.tensors)

    @cached_property
    def outline(self) -> Outline:
        """Which tensors stand where, without buffers that no model reads any more."""
        loose: dict[str, list[str]] = {"before": [], "after": []}
        blocks: dict[int, list[str]] = {}
        for name in self.tensors:
            place = self.layout.site(name)
            if is_leftover(name, self.model_type):
                continue
            if place.part == "block":
                blocks.setdefault(place.layer, []).append(place.suffix)
            else:
                loose[place.part].append(name)
        return Outline(
            tuple(loose["before"]), {layer: tuple(names) for layer, names in blocks.items()}, tuple(loose["after"])
        )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer files."""
        return Tokenizer(self.folder, self.name)

    @property
    def text_config(self) -> dict[str, Any]:
        """The part of the config that describes the language model."""
        text: dict[str, Any] = self.config.get("text_config", self.config)
        return text

    @property
    def model_type(self) -> str:
        """The family, as transformers names it."""
        return str(self.config.get("model_type", ""))

    @cached_property
    def tied(self) -> bool:
        """Whether the output head is the embedding: then a stored head means nothing and a missing one is no fault."""
        stated = self.text_config.get("tie_word_embeddings", self.config.get("tie_word_embeddings"))
        if stated is not None:
            return bool(stated)
        return self.model_type in TIED_FAMILIES or not any(is_head(name) for name in self.tensors)

    def local_name(self, name: str) -> str | None:
        """Return how this model spells another model's tensor name, or None if it has no such tensor.

        Files of one family differ in a leading "model." or "transformer.", which saved base models lack.
        """
        root, _, rest = self.layout.block_prefix.partition(".")
        shorter = name.partition(".")[2]
        for guess in (name, f"{root}.{name}" if rest else name, shorter):
            if guess in self.tensors:
                return guess
        return None

    def stored_name(self, name: str) -> str | None:
        """Return the name under which the content of a tensor is stored here, or None.

        The head of a tied model is its embedding, stored or not.
        """
        if self.tied and is_head(name):
            return embedding_name(self.tensors)
        return self.local_name(name) or (self.local_name(tied_twin(name)) if self.tied else None)

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.size_bytes for info in self.tensors.values())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that most of the weights have."""
        sizes: dict[torch.dtype, int] = {}
        for info in self.tensors.values():
            sizes[info.dtype] = sizes.get(info.dtype, 0) + info.size_bytes
        return max(sizes, key=lambda dtype: sizes[dtype])

    def summary(self, *, digest: bool = True) -> ParentSummary:
        """Return what rooms without file access may know; `digest` reads every byte of the weights."""
        text = self.text_config
        hidden = next((text[key] for key in ("hidden_size", "n_embd", "d_model", "dim") if key in text), 0)
        places = (self.layout.site(tensor) for tensor in self.tensors)
        attention, mlp = module_names(place.suffix for place in places if place.part == "block")
        return ParentSummary(
            name=self.name,
            architecture=next(iter(self.config.get("architectures") or [self.model_type]), ""),
            block_prefix=self.layout.block_prefix,
            num_layers=self.layout.num_layers,
            hidden_size=int(hidden),
            vocab_size=int(text.get("vocab_size", 0)),
            dtype=str(self.dtype).removeprefix("torch."),
            size_bytes=self.size_bytes,
            attention=attention,
            mlp=mlp,
            digest=self.digest if digest else "",
            license=license_of(self.folder),
            commit=self.commit,
        )


def license_of(folder: Path) -> str | None:
    """Return the license that the model card's header names, or None."""
    card = folder / "README.md"
    if not card.exists():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            return None
        key, _, value = line.partition(":")
        if key.strip() == "license":
            return value.strip().strip("\"'") or None
    return None
