"""From the name of a model, as the user wrote it, to an opened model on this machine."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evomerge.checkpoint._adapter import AdaptedModel, Adapter
from evomerge.checkpoint._companions import COMMIT, download
from evomerge.checkpoint._file_state import FileStamps
from evomerge.checkpoint._folder import Checkpoint
from evomerge.checkpoint._model import Model
from evomerge.errors import InvalidInput, MergeFailed, did_you_mean, first_line
from evomerge.recipe import ModelRef, looks_local


class ResolvedModel(NamedTuple):
    """Where a model is.

    Attributes:
        folder: on this machine.
        commit: of the Hugging Face Hub, None for a local folder.
    """

    folder: Path
    commit: str | None


def resolve_model(
    ref: ModelRef,
    root: Path | None = None,
    commits: Mapping[str, str] | None = None,
    folders: Mapping[str, Path] | None = None,
) -> ResolvedModel:
    """Return where a model is, downloading it if it is a hub id; its adapter is left to `open_model`.

    Args:
        ref: the model. A relative path is looked for from `root` and from the working directory.
        root: the folder of the file that names the model.
        commits: hub id (with @revision where the name has it) -> the commit to take.
        folders: hub id or path, as in `ref.pin` -> the folder to take without looking.

    Raises:
        InvalidInput: it is nowhere, in two different places, or cannot be downloaded.
    """
    if folders and ref.pin in folders:
        return ResolvedModel(folders[ref.pin], (commits or {}).get(ref.pin))
    found = list(dict.fromkeys(_candidates(ref.path, root)))
    if len(found) > 1:
        raise InvalidInput(f"{ref.path}: found in two places, {found[0]} and {found[1]}; write an absolute path")
    if found:
        if ref.revision:
            raise InvalidInput(f"{ref.path}: a local folder has no revision; leave out @{ref.revision}")
        return ResolvedModel(found[0], None)
    if looks_local(ref.path):
        if Path(ref.path).expanduser().is_absolute():
            raise InvalidInput(f"{ref.path}: no such folder")
        starts = [str(Path.cwd()), *([str(root)] if root and root != Path.cwd() else [])]
        raise InvalidInput(f"{ref.path}: no such folder (looked in {' and '.join(starts)})")
    return _download(ref, (commits or {}).get(ref.pin))


def open_model(
    ref: ModelRef,
    root: Path | None = None,
    commits: Mapping[str, str] | None = None,
    bases: dict[Path, Checkpoint] | None = None,
    folders: Mapping[str, Path] | None = None,
) -> Model:
    """Find and open a model, with its adapter where the name has one.

    Args:
        ref: the model.
        root: see `resolve_model`.
        commits: see `resolve_model`.
        bases: folder -> the opened model that adapters share; those that are opened here are added.
        folders: see `resolve_model`.

    Raises:
        InvalidInput: see `resolve_model`, `Checkpoint` and `Adapter`.
        RefusedForSafety: see `Checkpoint` and `Adapter`.
    """
    model = _open_plain(ref, root, commits, {} if bases is None else bases, folders)
    if ref.architecture is not None:
        model.config = {**model.config, "architectures": [_known_class(ref)]}
    return model


def _known_class(ref: ModelRef) -> str:
    """Return the class that a name asks for instead of the model's own.

    Raises:
        InvalidInput: transformers has none of that name.
    """
    import transformers

    asked, known = (
        str(ref.architecture),
        [name for name in dir(transformers) if "For" in name or name.endswith("Model")],
    )
    if asked not in known:
        raise InvalidInput(
            f"{ref}: override_architecture: found {asked}, expected a model class of transformers, such as "
            f"LlamaForCausalLM.{did_you_mean(asked, known)}"
        )
    return asked


def _open_plain(
    ref: ModelRef,
    root: Path | None,
    commits: Mapping[str, str] | None,
    bases: dict[Path, Checkpoint],
    folders: Mapping[str, Path] | None,
) -> Model:
    """Open a model with the architecture that it names itself."""
    found = resolve_model(ref, root, commits, folders)
    if ref.lora is None:
        return _opened(found, str(ref))
    if found.folder not in bases:
        bases[found.folder] = _opened(found, ref.pin)
    lora = resolve_model(ref.lora, root, commits, folders)
    return AdaptedModel(bases[found.folder], Adapter(lora.folder, str(ref.lora), lora.commit), str(ref))


def _opened(found: ResolvedModel, name: str) -> Checkpoint:
    model = Checkpoint(found.folder, name)
    model.commit = found.commit
    return model


def _candidates(path: str, root: Path | None) -> Iterable[Path]:
    """Yield the folders that a path may mean."""
    try:
        expanded = Path(path).expanduser()
        for start in [root, Path.cwd()] if root else [Path.cwd()]:
            folder = (start / expanded).resolve()
            if folder.is_dir():
                yield folder
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL in it, a loop of links, ~nobody
        raise InvalidInput(f"{path[:200]!r}: is not a path that can be looked for ({first_line(error)})") from None


def _download(ref: ModelRef, pinned: str | None) -> ResolvedModel:
    """Fetch a snapshot; its folder is named by the commit that the revision stood for at that moment."""
    try:
        folder = download(ref.path, pinned or ref.revision)
    except Exception as error:  # the hub's errors come from several libraries; all mean "not available"
        reason = first_line(error)
        raise InvalidInput(f"{ref}: neither a folder here nor available from the Hugging Face Hub ({reason})") from None
    return ResolvedModel(folder, folder.name if COMMIT.fullmatch(folder.name) else pinned)


class Parents:
    """The opened models of a recipe or a search, each once, by the name the user gave it.

    Besides them it may hold merges that a recipe refers to by a name of its own (see `name`).

    Attributes:
        memo: what callers computed about these models, by keys of their own; lives as long as they are open.
    """

    def __init__(
        self,
        refs: Sequence[ModelRef],
        root: Path | None = None,
        commits: Mapping[str, str] | None = None,
        digests: Mapping[str, str] | None = None,
        folders: Mapping[str, Path] | None = None,
    ):
        """Find and open every model.

        Args:
            refs: the models; each is opened once.
            root: see `resolve_model`.
            commits: see `resolve_model`.
            digests: name of a model -> its digest, where it is known already.
            folders: see `resolve_model`.

        Raises:
            InvalidInput: see `open_model`.
            RefusedForSafety: see `open_model`.
        """
        self._arguments = (tuple(dict.fromkeys(refs)), root, commits, None, folders)
        bases: dict[Path, Checkpoint] = {}
        self._opened: dict[ModelRef, Model] = {
            ref: open_model(ref, root, commits, bases, folders) for ref in self._arguments[0]
        }
        for ref, model in self._opened.items():
            if digests and str(ref) in digests:
                model.digest = digests[str(ref)]
        self._models = dict(self._opened)  # with the named merges
        self._identities: dict[str, str] = {}
        self.memo: dict[Any, Any] = {}

    @classmethod
    def of(cls, models: Mapping[ModelRef, Model]) -> "Parents":
        """Return models that are open already as parents."""
        parents = cls(())
        parents._opened = dict(models)
        parents._models = dict(models)
        return parents

    @property
    def stamps(self) -> dict[str, FileStamps]:
        """Name of a model -> the stamps of its files."""
        return {str(ref): model.stamps for ref, model in self._opened.items()}

    def expect(self, stamps: Mapping[str, FileStamps]) -> None:
        """Take others' stamps of the same files, so that `check_unchanged` finds what changed since they opened them.

        Args:
            stamps: see `stamps`; those of files in other places mean nothing.
        """
        for ref, model in self._opened.items():
            known = stamps.get(str(ref))
            if known is not None and known.paths == model.stamps.paths:
                model.stamps = known

    def check_unchanged(self) -> None:
        """Make sure that every file is what it was when it was opened.

        Raises:
            ParentChanged: see `Model.check_unchanged`.
        """
        for model in self._opened.values():
            model.check_unchanged()

    def reopened(self) -> "Parents":
        """Return the same models, opened anew, without anything that was computed about them."""
        return Parents(*self._arguments)

    def name(self, name: str, identity: str, make: Callable[[], Model]) -> None:
        """Give a model that is no folder a name, unless it has it already.

        Args:
            name: as recipes use it.
            identity: of the model, equal for equal models.
            make: returns the model; called at most once for a name.

        Raises:
            MergeFailed: the name means a model of another identity.
        """
        if name not in self._identities:
            self._models[ModelRef(name)] = make()
            self._identities[name] = identity
        elif self._identities[name] != identity:
            raise MergeFailed(f'"{name}" names two different merges; give one of them another name')

    @property
    def commits(self) -> dict[str, str]:
        """Hub id as it was written -> commit, for every model and adapter that came from the hub."""
        found = {ref.pin: model.commit for ref, model in self._opened.items() if model.commit}
        adapters = {lora.pin: adapter.commit for lora, adapter in self._adapters() if adapter.commit}
        return found | adapters

    @property
    def folders(self) -> dict[str, Path]:
        """Name of a model or adapter as it was written -> its folder on this machine."""
        found = {ref.pin: model.folder for ref, model in self._opened.items()}
        return found | {lora.pin: adapter.folder for lora, adapter in self._adapters()}

    def _adapters(self) -> Iterator[tuple[ModelRef, Adapter]]:
        for ref, model in self._opened.items():
            if ref.lora is not None and isinstance(model, AdaptedModel):
                yield ref.lora, model.adapter

    def __getitem__(self, ref: ModelRef) -> Model:
        return self._models[ref]

    def __iter__(self) -> Iterator[ModelRef]:
        return iter(self._opened)

    def __contains__(self, ref: ModelRef) -> bool:
        return ref in self._models
