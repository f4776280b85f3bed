"""The files of a model folder besides weights and config: which travel with a merge, which are fetched from the hub."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from evomerge.checkpoint._config import GENERATION_CONFIG
from evomerge.checkpoint._folder import INDEX, SINGLE, is_file_name
from evomerge.checkpoint._json import read_json
from evomerge.checkpoint._model import Model
from evomerge.checkpoint.tokenizer import TOKENIZER_PATTERNS
from evomerge.errors import InvalidInput

# For images, sounds and videos, and for sentence-transformers. Taken from the model that gives the config.
PROCESSOR_PATTERNS = ("*processor_config.json", "processor.json", "feature_extractor*.json")
SENTENCE_PATTERNS = ("modules.json", "config_sentence_transformers.json", "sentence_*_config.json")
# Everything of a model that is text; never pickles or code.
TEXT_PATTERNS = (
    *("config.json", GENERATION_CONFIG, "adapter_config.json", INDEX, "README.md"),
    *TOKENIZER_PATTERNS,
    *PROCESSOR_PATTERNS,
    *SENTENCE_PATTERNS,
)
_ADAPTER = "adapter_model.safetensors"
_MODULES = "modules.json"
_MODULE_FILES = re.compile(r"[\w.-]+\.(json|safetensors|txt)")
COMMIT = re.compile(r"[0-9a-f]{40}")
_PICKLES = ("*.bin", "*.pt", "*.pth")


def copy_companions(model: Model, out: Path) -> None:
    """Copy processor files and sentence-transformers' modules of a model.

    Args:
        model: which the config is taken from.
        out: an existing folder.
    """
    for pattern in (*PROCESSOR_PATTERNS, *SENTENCE_PATTERNS):
        for file in sorted(model.folder.glob(pattern)):
            if file.is_file() and not (out / file.name).exists():
                shutil.copyfile(file, out / file.name)
    for name in sentence_modules(model.folder):
        for file in sorted((model.folder / name).iterdir()):
            if file.is_file() and _MODULE_FILES.fullmatch(file.name):
                (out / name).mkdir(exist_ok=True)
                shutil.copyfile(file, out / name / file.name)


def companion_notes(model: Model) -> Iterator[str]:
    """Yield what the user should know of files that stay behind or are copied as they are.

    Args:
        model: which the config is taken from.
    """
    named = model.config.get("auto_map")
    if isinstance(named, dict) and named:
        code = sorted({str(value).partition("--")[0].partition(".")[0] for value in named.values()})
        yield (
            f"{model.name} brings code of its own (auto_map: {', '.join(code)}), which is neither run nor copied; the "
            "result is loaded by transformers' own classes, or needs that code put beside it"
        )
    for name in sentence_modules(model.folder):
        files = [path.name for path in (model.folder / name).iterdir()]
        if "model.safetensors" in files:
            yield f"{name}/ of sentence-transformers holds weights, which are {model.name}'s own and are not merged"
        elif any(path for pattern in _PICKLES for path in (model.folder / name).glob(pattern)):
            yield f"{name}/ of sentence-transformers holds a pickle, which is not copied; convert it to safetensors"


def sentence_modules(folder: Path) -> list[str]:
    """Return the sub-folders that sentence-transformers' modules.json names and that are there."""
    return [name for name in _named_modules(folder) if (folder / name).is_dir()]


def weight_names(folder: Path) -> list[str]:
    """Return the files that hold a model's or an adapter's weights, by what its texts say; some may not be there.

    Other files of weights beside them (consolidated.safetensors, other precisions) are copies for other programs.

    Args:
        folder: which holds the texts.
    """
    try:
        index = read_json(folder / INDEX)
    except (FileNotFoundError, InvalidInput):  # a damaged index is the opened model's problem
        return [SINGLE, _ADAPTER]
    names = index.get("weight_map") if isinstance(index, dict) else None
    found = set(names.values()) if isinstance(names, dict) else set()
    return [*sorted(name for name in found if isinstance(name, str) and is_file_name(name)), _ADAPTER]


def model_files(folder: Path) -> list[str]:
    """Return the names of the files in a folder, not in its sub-folders, that a model or an adapter consists of."""
    texts = {path.name for pattern in TEXT_PATTERNS if "/" not in pattern for path in folder.glob(pattern)}
    return sorted(name for name in texts.union(weight_names(folder)) if (folder / name).is_file())


def download(repo: str, revision: str | None) -> Path:
    """Fetch what is needed of a model or an adapter on the hub, and nothing else.

    Args:
        repo: its id.
        revision: a commit, branch or tag; None = the default branch.

    Returns:
        The folder of the cache; it is named by the commit that the revision stood for.
    """
    from huggingface_hub import snapshot_download

    folder = Path(
        snapshot_download(repo, revision=revision, allow_patterns=list(TEXT_PATTERNS), ignore_patterns=["*/*"])
    )
    wanted = [*weight_names(folder), "additional_chat_templates/*.jinja"]
    wanted += [f"{name}/*.{kind}" for name in _named_modules(folder) for kind in ("json", "safetensors", "txt")]
    commit = folder.name if COMMIT.fullmatch(folder.name) else revision
    return Path(snapshot_download(repo, revision=commit, allow_patterns=wanted))


def _named_modules(folder: Path) -> Sequence[str]:
    """Return the sub-folders in modules.json; what leads anywhere else is left out."""
    try:
        entries = read_json(folder / _MODULES)
    except (FileNotFoundError, InvalidInput):
        return ()
    names = [entry.get("path") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [
        name
        for name in names
        if isinstance(name, str)
        and name not in ("", ".", "..")
        and PurePosixPath(name).name == name
        and "\\" not in name
    ]
