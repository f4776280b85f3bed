"""A task's YAML as plain data: read without running its code, checked, and fit to travel to a worker.

Functions named by `!function` are carried as references and imported where they are needed: a function of a file that
is no installed module cannot be pickled, and nothing of a task should run before the task has been accepted.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evomerge.evaluation._items import LOCAL_BUILDERS
from evomerge.evaluation._request import InvalidTask
from evomerge.evaluation._user_code import FunctionRef, lm_eval_folder

# "pandas" unpickles its files.
_REFUSED_BUILDERS = {"pandas"}
_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_config(path: Path, *, built_in: bool) -> dict[str, Any]:
    """Return the YAML of a task with its includes and function references, running none of its code.

    Args:
        path: of the YAML.
        built_in: whether it is lm-eval's own.

    Raises:
        InvalidTask: a file cannot be read.
    """
    try:
        return _read(path.resolve(), lm_eval_folder() if built_in else None, ())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidTask(f"its YAML cannot be read: {type(error).__name__}: {error}") from error


def _read(path: Path, package: Path | None, parents: tuple[Path, ...]) -> dict[str, Any]:
    """Read one file and what it includes (lm-eval's rules: later includes win over earlier, the file over both)."""
    if path in parents:
        raise ValueError(f"{path.name} includes itself")
    folder = str(path.parent.relative_to(package)) if package else str(path.parent)

    class YamlLoader(_SAFE):
        """Safe YAML plus !function."""

    def function(loader: yaml.Loader, node: yaml.ScalarNode) -> FunctionRef:
        return FunctionRef(folder, str(loader.construct_scalar(node)), package is not None).with_code()

    YamlLoader.add_constructor("!function", function)
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=YamlLoader)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a mapping")
    includes = content.pop("include", None) or []
    merged: dict[str, Any] = {}
    for name in [includes] if isinstance(includes, str) else includes:
        merged |= _read((path.parent / name).resolve(), package, (*parents, path))
    return merged | content


def runs_code(config: Mapping[str, Any]) -> bool:
    """Tell whether a task is run only where the user allows it: for its answers are code, or it is a Python class."""
    return "class" in config or bool(config.get("unsafe_code"))


def accept(config: Mapping[str, Any], name: str, *, allow_code: bool) -> None:
    """Raise InvalidTask for a task that this program does not run.

    Args:
        config: of the task.
        name: of the task.
        allow_code: whether the user allows it what `runs_code` tells of.
    """
    if runs_code(config) and not allow_code:
        what = "is written as a Python class" if "class" in config else "runs code that the model writes (unsafe_code)"
        raise InvalidTask(
            f"it {what}; to have that done, in a process of its own with limits, name it: allow_code: [{name}] in a "
            f"search file, --allow-code {name} on a command line"
        )
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise InvalidTask("it needs images or sound; only text is supported")
    if config.get("dataset_path") in _REFUSED_BUILDERS:
        raise InvalidTask(
            f"its dataset_path {config['dataset_path']} opens pickles, which run code; use json or parquet"
        )


def anchor_files(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the configuration with relative data files taken from the YAML's folder (lm-eval: from the current one).

    Raises:
        InvalidTask: a file is not there.
    """
    kwargs = dict(config.get("dataset_kwargs") or {})
    dataset_path = config.get("dataset_path")
    anchored = dict(config)
    if isinstance(dataset_path, str) and dataset_path not in LOCAL_BUILDERS and (folder / dataset_path).is_dir():
        anchored["dataset_path"] = str(folder / dataset_path)
    elif dataset_path not in LOCAL_BUILDERS:
        return anchored
    for key in ("data_files", "data_dir"):
        if key in kwargs:
            kwargs[key] = _anchored(kwargs[key], folder)
    return anchored | ({"dataset_kwargs": kwargs} if kwargs else {})


def _anchored(value: object, folder: Path) -> Any:
    """Return a file name, or a list or mapping of them, made absolute; URLs and patterns are only joined."""
    if isinstance(value, Mapping):
        return {key: _anchored(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_anchored(inner, folder) for inner in value]
    if not isinstance(value, str) or "://" in value:
        return value
    path = folder / value
    if not any(sign in value for sign in "*?[") and not path.exists():
        raise InvalidTask(f"its data file {value} is not there (looked in {folder})")
    return str(path)


def config_digest(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a configuration and of its functions' files; no path of this machine enters it."""

    def plain(value: object) -> Any:
        return {"function": value.name, "file": value.digest()} if isinstance(value, FunctionRef) else str(value)

    return hashlib.sha256(json.dumps(config, sort_keys=True, default=plain).encode()).hexdigest()
