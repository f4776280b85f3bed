"""What the engine needs of a model, wherever its tensors come from: a folder, an adapter, a merge not yet built."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from evomerge.checkpoint._file_state import FileStamps
from evomerge.checkpoint._layout import Layout, module_names
from evomerge.checkpoint.family import (
    TIED_FAMILIES,
    ModelParts,
    embedding_name,
    has_parts,
    is_head,
    is_old_buffer,
    tied_original,
)
from evomerge.checkpoint.tokenizer import Tokenizer
from evomerge.errors import MergeFailed
from evomerge.recipe import TEXT_MODULE
from evomerge.records import ParentSummary, TensorPlace

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")  # of a config: the number of blocks
HIDDEN_SIZE_KEYS = ("hidden_size", "n_embd", "d_model", "dim")  # of a config

_CARD_CHARACTERS = 1 << 20  # read of a model card, whose header comes first


class TensorInfo(NamedTuple):
    """A file's header entry of a tensor.

    Attributes:
        dtype: of its elements.
        shape: extents, outermost first.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor's content."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file. Equal for models that share it, as two adapters share their base's, so it can be cached.

    Attributes:
        file: path of the file.
        key: its name there.
        size_bytes: of its content.
        read: returns it as a view of the mapped file.
    """

    file: Path
    key: str
    size_bytes: int = field(compare=False)
    read: Callable[[], torch.Tensor] = field(compare=False, repr=False)


class Outline(NamedTuple):
    """Tensor names in their stored order.

    Attributes:
        before: outside the blocks, before them.
        blocks: number of a block -> names inside it.
        after: outside the blocks, after them.
    """

    before: tuple[str, ...]
    blocks: Mapping[int, tuple[str, ...]]
    after: tuple[str, ...]


class Model(ABC):
    """A config and named tensors.

    Attributes:
        name: as the user calls it.
        folder: where its tokenizer and card are.
        config: content of config.json.
        commit: of the Hugging Face Hub, if it came from there.
        unknown_parts: why `parts` is None for a model of several parts; None = it is not.
        stamps: of the files that the tensors are read from.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    commit: str | None = None
    unknown_parts: str | None = None
    stamps: FileStamps = FileStamps(())

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Name -> dtype and shape of every tensor, in the order in which they are stored."""

    @abstractmethod
    def stored(self, name: str) -> tuple[StoredTensor, ...]:
        """Return the stored tensors that a tensor is made of.

        Args:
            name: of the tensor.

        Raises:
            MergeFailed: there is no such tensor.
        """

    @abstractmethod
    def assemble(self, name: str, parts: Sequence[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
        """Make a tensor from its stored ones, on the device where they are.

        Args:
            name: of the tensor.
            parts: the content of `stored(name)`.
            out: contiguous memory of the tensor's shape and dtype, which a computed tensor is written to.
        """

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor.

        Raises:
            MergeFailed: there is no such tensor.
        """
        return self.assemble(name, [stored.read() for stored in self.stored(name)])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything the tensors depend on: the identity that scores refer to. Reads every byte."""
        return self._digest()

    @abstractmethod
    def _digest(self) -> str:
        """Compute `digest`."""

    def check_unchanged(self) -> None:
        """Make sure that the files are what they were when they were opened.

        Raises:
            ParentChanged: a file changed, shrank or vanished. One that was written again with the same content did not
                change, where the digest is known.
        """
        problem = self.stamps.problem()
        if problem is None:
            return
        try:
            same = "digest" in self.__dict__ and self._digest() == self.digest
        except OSError:
            same = False
        if not same:
            raise problem
        self.stamps.renew()

    def is_computed(self, name: str) -> bool:
        """Tell whether `assemble` computes a tensor each time, so that a caller who needs it again should keep it."""
        return False

    @cached_property
    def layout(self) -> Layout:
        """The block structure; of a model of several parts that of its language model."""
        if self.parts is None:
            return Layout.of(self.tensors)
        beside = (name for name, part in self.parts.part_of.items() if part != TEXT_MODULE)
        return Layout.of(self.tensors, self.parts.block_prefix, beside)

    @cached_property
    def parts(self) -> ModelParts | None:
        """The parts of a model of several, such as vision and language, if transformers knows the family."""
        if not has_parts(self.config):
            return None
        try:
            return ModelParts.of(self.config, self.tensors)
        except MergeFailed as error:
            self.unknown_parts = str(error)
            return None

    def part_of(self, name: str) -> str:
        """Return the part that a tensor belongs to: TEXT_MODULE, or the name that transformers has for another part."""
        if self.parts is not None:
            return self.parts.part_of[name]
        if self.config.get("is_encoder_decoder"):
            return name.removeprefix("model.").partition(".")[0]
        return TEXT_MODULE

    @cached_property
    def part_names(self) -> frozenset[str]:
        """The parts that some tensor belongs to."""
        return frozenset(self.part_of(name) for name in self.tensors)

    def counterpart(self, name: str, of: "Model") -> str | None:
        """Return the name here of a tensor of another model outside the blocks, or None if it has no such tensor.

        A language model and the same one within a vision-language model have other names for the same tensors.

        Args:
            name: of the tensor there.
            of: the other model.
        """
        local = self.local_name(name)
        if local is not None and self.part_of(local) == of.part_of(name):
            return local
        if of.part_of(name) != TEXT_MODULE or (self.parts is None and of.parts is None):
            return local
        if is_head(name):
            return next((head for head in self.tensors if is_head(head)), None)
        guess = self.layout.trunk + name.removeprefix(of.layout.trunk)
        return guess if name.startswith(of.layout.trunk) and guess in self.tensors else None

    @cached_property
    def outline(self) -> Outline:
        """Which tensors are where, without buffers that no model reads any more."""
        outside: dict[str, list[str]] = {"before": [], "after": []}
        blocks: dict[int, list[str]] = {}
        for name in self.tensors:
            site = self.layout.site(name)
            if is_old_buffer(name, self.model_type):
                continue
            if site.part == "block":
                blocks.setdefault(site.layer, []).append(site.suffix)
            else:
                outside[site.part].append(name)
        return Outline(
            tuple(outside["before"]), {layer: tuple(names) for layer, names in blocks.items()}, tuple(outside["after"])
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

    @property
    def language_type(self) -> str:
        """The family of the language model: of a vision-language model the one of that part."""
        return str(self.text_config.get("model_type") or self.model_type)

    @cached_property
    def tied(self) -> bool:
        """Whether the output head is the embedding: then a stored head means nothing and a missing one is no fault."""
        if self.parts is not None:
            return self.parts.tied
        stated = self.text_config.get("tie_word_embeddings", self.config.get("tie_word_embeddings"))
        if stated is not None:
            return bool(stated)
        return self.model_type in TIED_FAMILIES or not any(is_head(name) for name in self.tensors)

    def local_name(self, name: str) -> str | None:
        """Return the name here of another model's tensor, or None if it has no such tensor.

        Files of one family differ in a leading "model." or "transformer.", which saved base models lack.

        Args:
            name: of the tensor there.
        """
        root, _, rest = self.layout.block_prefix.partition(".")
        shorter = name.partition(".")[2]
        for guess in (name, f"{root}.{name}" if rest else name, shorter):
            if guess in self.tensors:
                return guess
        return None

    def stored_name(self, name: str) -> str | None:
        """Return the name under which the content of another model's tensor is stored here, or None.

        The head of a tied model is its embedding, stored or not.

        Args:
            name: of the tensor there.
        """
        if self.tied and is_head(name):
            return embedding_name(self.tensors)
        return self.local_name(name) or (self.local_name(tied_original(name)) if self.tied else None)

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.size_bytes for info in self.tensors.values())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that most of the weights have; of whole numbers only where there is nothing else."""
        sizes: dict[torch.dtype, int] = {}
        for info in self.tensors.values():
            sizes[info.dtype] = sizes.get(info.dtype, 0) + info.size_bytes
        return max(sizes, key=lambda dtype: (dtype.is_floating_point, sizes[dtype]))

    def summary(self, *, digest: bool = True) -> ParentSummary:
        """Return what packages without file access may know of the model.

        Args:
            digest: whether to state the digest of the weights, which reads every byte of them.
        """
        text = self.text_config
        hidden = next((text[key] for key in HIDDEN_SIZE_KEYS if key in text), 0)
        sites = (self.layout.site(tensor) for tensor in self.tensors)
        attention, mlp = module_names(site.suffix for site in sites if site.part == "block")
        return ParentSummary(
            name=self.name,
            architecture=next(iter(self.config.get("architectures") or [self.model_type]), ""),
            block_prefix=self.layout.block_prefix,
            num_layers=self.layout.num_layers,
            hidden_size=int(hidden or 0),
            vocab_size=int(text.get("vocab_size") or 0),
            dtype=str(self.dtype).removeprefix("torch."),
            size_bytes=self.size_bytes,
            attention=attention,
            mlp=mlp,
            digest=self.digest if digest else "",
            license=card_facts(self.folder).license,
            commit=self.commit,
            tensors=self._places,
        )

    @cached_property
    def _places(self) -> tuple[TensorPlace, ...]:
        found, last = [], self.layout.num_layers - 1
        for name in self.tensors:
            layer = self.layout.site(name).layer
            depth = self.layout.depth(name) if layer < 0 else layer / last if last else 1.0
            found.append(TensorPlace(name, layer, depth, self.part_of(name)))
        return tuple(found)


class CardFacts(NamedTuple):
    """What a model's own card states in its header.

    Attributes:
        license: its identifier, or None.
        languages: codes of the languages that it is for.
        datasets: hub ids of what it was trained on.
    """

    license: str | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


def card_facts(folder: Path) -> CardFacts:
    """Return what the header of a model's card states; a card without one, or a broken one, states nothing.

    Args:
        folder: of the model.
    """
    card = folder / "README.md"
    if not card.is_file():
        return CardFacts()
    with card.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(_CARD_CHARACTERS).splitlines()
    ends = [number for number, line in enumerate(lines) if line.strip() == "---"][:2]
    if len(ends) < 2 or ends[0] != 0:
        return CardFacts()
    try:
        header = yaml.safe_load("\n".join(_entries(lines[1 : ends[1]], ("license", "language", "datasets"))))
    except (yaml.YAMLError, ValueError, RecursionError):
        return CardFacts()
    if not isinstance(header, dict):
        return CardFacts()
    stated = _texts(header.get("license"))
    return CardFacts(stated[0] if stated else None, _texts(header.get("language")), _texts(header.get("datasets")))


def _entries(lines: Sequence[str], keys: Sequence[str]) -> Iterator[str]:
    """Yield the lines of some top-level keys: a header can hold thousands of evaluation results besides."""
    wanted = False
    for line in lines:
        if line[:1].strip() and line[0] not in "-#":
            wanted = line.partition(":")[0].strip() in keys
        if wanted:
            yield line


def _texts(value: object) -> tuple[str, ...]:
    """Return a text, or the texts of a list; YAML reads the language code `no` as false."""
    listed = value if isinstance(value, list) else [value]
    texts = ["no" if text is False else text for text in listed]
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
