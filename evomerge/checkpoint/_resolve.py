"""From the name of a model, as the user wrote it, to an opened model on this machine."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evomerge.checkpoint._adapter import AdaptedModel, Adapter
from evomerge.checkpoint._folder import Checkpoint
from evomerge.checkpoint._model import Model
from evomerge.errors import InvalidInput, MergeFailed
from evomerge.recipe import ModelRef, looks_local

# Everything a model needs; never pickles, never code.
MODEL_FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.txt", "*.jinja", "README.md")


class Located(NamedTuple):
    """Where a model is. commit: of the hub, None for a local folder."""

    folder: Path
    commit: str | None


def locate(ref: ModelRef, root: Path | None = None) -> Path:
    """Return the folder of a model, without its adapter (see `find`)."""
    return find(ref, root).folder


def find(
    ref: ModelRef,
    root: Path | None = None,
    commits: Mapping[str, str] | None = None,
    places: Mapping[str, Path] | None = None,
) -> Located:
    """Say where a model is (an adapter is left to `open_model`), downloading it if it is a hub id.

    A relative path is looked for from `root` (the folder of the file that names it) and from the working directory.
    commits: hub id (with @revision where the name has it) -> the commit to take. places: the same, or a path -> the
    folder to take without looking.

    Raises:
        InvalidInput: it is nowhere, in two different places, or cannot be downloaded.
    """
    if places and ref.pin in places:
        return Located(places[ref.pin], (commits or {}).get(ref.pin))
    found = list(dict.fromkeys(_candidates(ref.path, root)))
    if len(found) > 1:
        raise InvalidInput(f"{ref.path}: found in two places, {found[0]} and {found[1]}; write an absolute path")
    if found:
        if ref.revision:
            raise InvalidInput(f"{ref.path}: a local folder has no revision; leave out @{ref.revision}")
        return Located(found[0], None)
    if looks_local(ref.path):
        starts = [str(Path.cwd()), *([str(root)] if root and root != Path.cwd() else [])]
        raise InvalidInput(f"{ref.path}: no such folder (looked in {' and '.join(starts)})")
    return _download(ref, (commits or {}).get(ref.pin))


def open_model(
    ref: ModelRef,
    root: Path | None = None,
    commits: Mapping[str, str] | None = None,
    bases: dict[Path, Checkpoint] | None = None,
    places: Mapping[str, Path] | None = None,
) -> Model:
    """Locate and open a model, with its adapter where the name has one.

    Args:
        bases: folder -> the opened model that adapters share; gets those that are opened here.

    Raises:
        InvalidInput, RefusedForSafety: see `find`, `Checkpoint` and `Adapter`.
    """
    found = find(ref, root, commits, places)
    if ref.lora is None:
        return _opened(found, str(ref))
    bases = {} if bases is None else bases
    if found.folder not in bases:
        bases[found.folder] = _opened(found, ref.pin)
    changes = find(ref.lora, root, commits, places)
    return AdaptedModel(bases[found.folder], Adapter(changes.folder, str(ref.lora), changes.commit), str(ref))


def _opened(found: Located, name: str) -> Checkpoint:
    model = Checkpoint(found.folder, name)
    model.commit = found.commit
    return model


def _candidates(path: str, root: Path | None) -> Iterable[Path]:
    expanded = Path(path).expanduser()
    for start in [root, Path.cwd()] if root else [Path.cwd()]:
        folder = (start / expanded).resolve()
        if folder.is_dir():
            yield folder


def _download(ref: ModelRef, pinned: str | None) -> Located:
    """Fetch a snapshot; its folder is named by the commit that the revision stood for at that moment."""
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(ref.path, revision=pinned or ref.revision, allow_patterns=list(MODEL_FILES))
    except Exception as error:  # the hub's errors come from several libraries; all mean "not to be had"
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InvalidInput(f"{ref}: neither a folder here nor to be had from the Hugging Face Hub ({first})") from None
    name = Path(path).name
    return Located(Path(path), name if re.fullmatch(r"[0-9a-f]{40}", name) else pinned)


class Parents:
    """The opened models of a recipe or a search, each once, by the name the user gave it.

    Besides them it may hold `named` models: merges that a recipe refers to by a name of its own.
    """

    def __init__(
        self,
        refs: Sequence[ModelRef],
        root: Path | None = None,
        commits: Mapping[str, str] | None = None,
        digests: Mapping[str, str] | None = None,
        places: Mapping[str, Path] | None = None,
    ):
        """Locate and open every model.

        Args:
            digests: name of a model -> its digest, where somebody has worked it out already. places: see `find`.

        Raises:
            InvalidInput, RefusedForSafety: see `open_model`.
        """
        self._how = (tuple(dict.fromkeys(refs)), root, commits, None, places)
        bases: dict[Path, Checkpoint] = {}
        self._opened: dict[ModelRef, Model] = {
            ref: open_model(ref, root, commits, bases, places) for ref in self._how[0]
        }
        for ref, model in self._opened.items():
            if digests and str(ref) in digests:
                model.digest = digests[str(ref)]
        self._known = dict(self._opened)  # with the named ones
        self._identities: dict[str, str] = {}
        self.memo: dict[Any, Any] = {}  # what others worked out about these models, kept as long as they are open

    def reopened(self) -> "Parents":
        """Return the same models, opened anew; nothing that was worked out about them is known any more."""
        return Parents(*self._how)

    def name(self, name: str, identity: str, make: Callable[[], Model]) -> None:
        """Let `name` stand for a model that is no folder; `make` is called unless it does so already.

        Raises:
            MergeFailed: it stands for a model of another identity.
        """
        if name not in self._identities:
            self._known[ModelRef(name)] = make()
            self._identities[name] = identity
        elif self._identities[name] != identity:
            raise MergeFailed(f'"{name}" names two different merges; give one of them another name')

    @property
    def commits(self) -> dict[str, str]:
        """Hub id as it was written -> commit, for every model and adapter that came from the hub."""
        found = {ref.pin: model.commit for ref, model in self._opened.items() if model.commit}
        adapted = {ref: model for ref, model in self._opened.items() if isinstance(model, AdaptedModel)}
        found.update({ref.lora.pin: m.adapter.commit for ref, m in adapted.items() if ref.lora and m.adapter.commit})
        return found

    @property
    def places(self) -> dict[str, Path]:
        """Name of a model or adapter as it was written -> its folder on this machine."""
        found = {ref.pin: model.folder for ref, model in self._opened.items()}
        adapted = {ref: model for ref, model in self._opened.items() if isinstance(model, AdaptedModel)}
        return found | {ref.lora.pin: model.adapter.folder for ref, model in adapted.items() if ref.lora}

    def __getitem__(self, ref: ModelRef) -> Model:
        return self._known[ref]

    def __iter__(self) -> Iterator[ModelRef]:
        return iter(self._opened)

    def __contains__(self, ref: ModelRef) -> bool:
        return ref in self._known
