"""From the name of a model, as the user wrote it, to a folder on this machine."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from evomerge.checkpoint._folder import Checkpoint
from evomerge.errors import InvalidInput
from evomerge.recipe import ModelRef, looks_local

# Everything a model needs; never pickles, never code.
PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "*.txt", "*.jinja", "README.md")


def locate(ref: ModelRef, root: Path | None = None) -> Path:
    """Return the folder of a model, downloading it from the hub if it is a hub id.

    A relative path is looked for from `root` (the folder of the file that names it) and from the working directory.

    Raises:
        InvalidInput: it is nowhere, in two different places, or cannot be downloaded.
    """
    if ref.lora is not None:
        raise InvalidInput(f"{ref}: LoRA adapters cannot be merged yet; merge the adapter into its model first")
    found = list(dict.fromkeys(_candidates(ref.path, root)))
    if len(found) > 1:
        raise InvalidInput(f"{ref.path}: found in two places, {found[0]} and {found[1]}; write an absolute path")
    if found:
        if ref.revision:
            raise InvalidInput(f"{ref}: a local folder has no revision; leave out @{ref.revision}")
        return found[0]
    if looks_local(ref.path):
        places = [str(Path.cwd()), *([str(root)] if root and root != Path.cwd() else [])]
        raise InvalidInput(f"{ref.path}: no such folder (looked in {' and '.join(places)})")
    return _download(ref)


def _candidates(path: str, root: Path | None) -> Iterable[Path]:
    expanded = Path(path).expanduser()
    for start in [root, Path.cwd()] if root else [Path.cwd()]:
        folder = (start / expanded).resolve()
        if folder.is_dir():
            yield folder


def _download(ref: ModelRef) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(ref.path, revision=ref.revision, allow_patterns=list(PATTERNS)))
    except Exception as error:  # the hub's errors come from several libraries; all mean "not to be had"
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InvalidInput(f"{ref}: neither a folder here nor to be had from the Hugging Face Hub ({first})") from None


class Parents:
    """The opened models of a recipe or a search, each once, by the name the user gave it."""

    def __init__(self, refs: Sequence[ModelRef], root: Path | None = None):
        """Locate and open every model.

        Raises:
            InvalidInput, RefusedForSafety: see `locate` and `Checkpoint`.
        """
        self._opened = {ref: Checkpoint(locate(ref, root), str(ref)) for ref in dict.fromkeys(refs)}

    def __getitem__(self, ref: ModelRef) -> Checkpoint:
        return self._opened[ref]

    def __iter__(self) -> Iterator[ModelRef]:
        return iter(self._opened)

    def __contains__(self, ref: ModelRef) -> bool:
        return ref in self._opened
