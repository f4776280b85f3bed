"""Where an engine's weights come from: parents that any of its processes can open, and build every merge from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from evomerge import methods
from evomerge.checkpoint import FileStamps, Parents
from evomerge.engine._residency import MemoryShare
from evomerge.engine.live import LiveModel
from evomerge.engine.plan import make_plan
from evomerge.errors import DegenerateModel, EvomergeError, InvalidInput, MergeFailed
from evomerge.methods import Method
from evomerge.recipe import ModelRef, parse_recipe

_KINDS: dict[str, type[EvomergeError]] = {
    kind.__name__: kind for kind in (DegenerateModel, InvalidInput, MergeFailed, EvomergeError)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSource:
    """What a process needs to build any merge of a search. Can be pickled.

    Attributes:
        parents: all of them, the base first.
        root: the folder at which relative paths of parents start.
        device: "cpu" or "cuda".
        commits: parent -> commit of the hub that its name stands for.
        digests: parent -> digest, with which statistics are kept on disk.
        stamps: parent -> how its files were when its digest was computed.
        places: name of a parent or adapter -> its folder.
        cache: folder that keeps statistics, or None.
        share: of a machine's memory that the process may take.
        methods: of the caller's own, which are registered first.
        row_bytes: see `LiveModel`.
    """

    parents: tuple[ModelRef, ...]
    root: Path | None
    device: str
    commits: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    stamps: Mapping[str, FileStamps] = field(default_factory=dict)
    places: Mapping[str, Path] = field(default_factory=dict)
    cache: Path | None = None
    share: MemoryShare = field(default_factory=MemoryShare)
    methods: tuple[Method, ...] = ()
    row_bytes: int = 0

    def opened(self, devices: list[torch.device] | None = None) -> LiveModel:
        """Open the parents.

        Args:
            devices: where to merge; None = as `device` says.
        """
        for method in self.methods:
            methods.register(method)
        parents = Parents(self.parents, self.root, self.commits, self.digests, self.places)
        parents.expect(self.stamps)
        return LiveModel(
            parents,
            device=self.device,
            devices=devices,
            cache=self.cache,
            share=self.share,
            row_bytes=self.row_bytes,
        )


class GuardedTensors:
    """Tensors up to the first error: a loader that is left half-way takes no further weights.

    Attributes:
        error: what ended them, or None.
    """

    def __init__(self, tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
        """Read nothing yet.

        Args:
            tensors: by their names in a checkpoint.
        """
        self._tensors = tensors
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        try:
            yield from self._tensors
        except Exception as error:
            self.error = error

    def described(self) -> tuple[str, str] | None:
        """Return the error as class name and text, as another process can understand it."""
        if self.error is None:
            return None
        known = next((name for name, kind in _KINDS.items() if isinstance(self.error, kind)), "EvomergeError")
        own = isinstance(self.error, EvomergeError)
        return known, str(self.error) if own else f"{type(self.error).__name__}: {self.error}"


def raised(described: tuple[str, str]) -> EvomergeError:
    """Return the error that another process described."""
    kind, text = described
    return _KINDS[kind](text)


class MergeExtension:
    """What vLLM adds to each of its worker processes: a merge is built there, and every process keeps its share of it.

    vLLM mixes it into its own worker class, which brings `reload_weights` and `device`.
    """

    _opened: tuple[MergeSource, LiveModel] | None

    def load_merge(self, source: MergeSource, document: Mapping[str, Any]) -> tuple[str, str] | None:
        """Build a merge and replace the weights by it.

        Args:
            source: of the search.
            document: the recipe as plain data.

        Returns:
            None, or what went wrong.
        """
        tensors = GuardedTensors(self._tensors(source, document))
        self.reload_weights(weights_iterator=iter(tensors))  # type: ignore[attr-defined]
        return tensors.described()

    def _tensors(self, source: MergeSource, document: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
        kept = getattr(self, "_opened", None)
        if kept is None or kept[0] != source:
            kept = self._opened = source, source.opened([self.device])  # type: ignore[attr-defined]
        live = kept[1]
        live.parents.check_unchanged()
        yield from live.tensors(make_plan(parse_recipe(document, root=source.root), live.parents))
