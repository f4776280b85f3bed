"""A task's YAML as plain data: read without running its code, checked, and fit to travel to a worker.

Functions named by `!function` are carried as references and imported where they are needed: a function of a file that
is no installed module cannot be pickled, and nothing of a task should run before the task has been accepted.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from evomerge.evaluation._user_code import code_of, module_of
from evomerge.evaluation.prepare._request import Refused

# Builders of `datasets` that read the files named in data_files; any other dataset_path is a repository or a folder.
_FILE_BUILDERS = {"json", "csv", "parquet", "arrow", "text", "xml"}
# "pandas" unpickles its files.
_REFUSED_BUILDERS = {"pandas"}
_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """`!function name` in a YAML of `folder`; built_in: the folder is relative to lm-eval's package.

    code: of the user's own file, so that a worker needs no file; None = an installed module, or lm-eval's.
    """

    folder: str
    name: str
    built_in: bool
    code: str | None = None

    def load(self) -> Callable[..., Any]:
        """Import the function. Raises Refused when it is not there."""
        from evomerge.evaluation import _lm_eval

        folder = lm_eval_folder() / self.folder if self.built_in else Path(self.folder)
        try:
            if self.code is not None:
                found: Callable[..., Any] = getattr(module_of(str(self._file), self.code), self.name.rpartition(".")[2])
                return found
            return _lm_eval.import_function(folder, self.name)
        except Exception as error:
            text = f"its !function {self.name} could not be loaded: {type(error).__name__}: {error}"
            raise Refused(text) from error

    def digest(self) -> str:
        """Return the SHA-256 of the user's file that holds the function; of its name when the file is lm-eval's."""
        return hashlib.sha256((self.name if self.code is None else self.code).encode()).hexdigest()

    @property
    def _file(self) -> Path:
        return Path(self.folder, *self.name.split(".")[:-1]).with_suffix(".py")

    def carried(self) -> "FunctionRef":
        """Return the same with the code of the user's file."""
        return self if self.built_in else replace(self, code=code_of(self._file))


@functools.cache
def lm_eval_folder() -> Path:
    """Return the folder of the package lm_eval, without importing it."""
    spec = find_spec("lm_eval")
    assert spec is not None and spec.submodule_search_locations  # a requirement of this program
    return Path(spec.submodule_search_locations[0]).resolve()


def read_config(path: Path, *, built_in: bool) -> dict[str, Any]:
    """Return the YAML of a task with its includes and function references, running none of its code.

    Raises: Refused when a file cannot be read.
    """
    try:
        return _read(path.resolve(), lm_eval_folder() if built_in else None, ())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Refused(f"its YAML cannot be read: {type(error).__name__}: {error}") from error


def _read(path: Path, package: Path | None, parents: tuple[Path, ...]) -> dict[str, Any]:
    """Read one file and what it includes (lm-eval's rules: later includes win over earlier, the file over both)."""
    if path in parents:
        raise ValueError(f"{path.name} includes itself")
    folder = str(path.parent.relative_to(package)) if package else str(path.parent)

    class Loader(_SAFE):
        """Safe YAML plus !function."""

    def function(loader: yaml.Loader, node: yaml.ScalarNode) -> FunctionRef:
        return FunctionRef(folder, str(loader.construct_scalar(node)), package is not None).carried()

    Loader.add_constructor("!function", function)
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a mapping")
    includes = content.pop("include", None) or []
    merged: dict[str, Any] = {}
    for name in [includes] if isinstance(includes, str) else includes:
        merged |= _read((path.parent / name).resolve(), package, (*parents, path))
    return merged | content


def accept(config: Mapping[str, Any]) -> None:
    """Raise Refused for a task that this program does not run."""
    if "class" in config:
        raise Refused("it is written as a Python class, which cannot be split into pools; use a task written in YAML")
    if config.get("unsafe_code"):
        raise Refused("it runs code that the model writes (unsafe_code), which is refused")
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise Refused("it needs images or sound; only text is supported")
    if config.get("dataset_path") in _REFUSED_BUILDERS:
        raise Refused(f"its dataset_path {config['dataset_path']} opens pickles, which run code; use json or parquet")


def anchor_files(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the configuration with relative data files taken from the YAML's folder (lm-eval: from the current one).

    Raises: Refused when a file is not there.
    """
    kwargs = dict(config.get("dataset_kwargs") or {})
    dataset_path = config.get("dataset_path")
    anchored = dict(config)
    if isinstance(dataset_path, str) and dataset_path not in _FILE_BUILDERS and (folder / dataset_path).is_dir():
        anchored["dataset_path"] = str(folder / dataset_path)
    elif dataset_path not in _FILE_BUILDERS:
        return anchored
    for key in ("data_files", "data_dir"):
        if key in kwargs:
            kwargs[key] = _anchored(kwargs[key], folder)
    return anchored | ({"dataset_kwargs": kwargs} if kwargs else {})


def _anchored(value: Any, folder: Path) -> Any:
    """Return a file name, or a list or mapping of them, made absolute; URLs and patterns are only joined."""
    if isinstance(value, Mapping):
        return {key: _anchored(one, folder) for key, one in value.items()}
    if isinstance(value, list):
        return [_anchored(one, folder) for one in value]
    if not isinstance(value, str) or "://" in value:
        return value
    path = folder / value
    if not any(sign in value for sign in "*?[") and not path.exists():
        raise Refused(f"its data file {value} is not there (looked in {folder})")
    return str(path)


def functions_of(value: Any) -> Iterator[FunctionRef]:
    """Yield the function references anywhere in a configuration."""
    if isinstance(value, FunctionRef):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from functions_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from functions_of(one)


def with_functions(value: Any) -> Any:
    """Return a copy of a configuration with its functions imported. Raises Refused."""
    if isinstance(value, FunctionRef):
        return value.load()
    if isinstance(value, Mapping):
        return {key: with_functions(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_functions(one) for one in value]
    return value


def config_digest(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a configuration and of its functions' files; no path of this machine enters it."""

    def plain(value: Any) -> Any:
        return {"function": value.name, "file": value.digest()} if isinstance(value, FunctionRef) else str(value)

    return hashlib.sha256(json.dumps(config, sort_keys=True, default=plain).encode()).hexdigest()
