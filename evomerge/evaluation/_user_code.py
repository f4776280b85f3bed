"""The user's own Python: read once on the driver with the files that it imports, and run from that text in workers.

A file that is edited in the middle of a run, or that is missing on another machine, changes nothing. Each file's code
runs inside a package of its own that exists in memory only: an `import` in it finds the files beside it first, and
nothing else in the process does. Neither `sys.path` nor any other module changes, and two folders whose files have the
same names do not meet.
"""

import ast
import builtins
import functools
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from evomerge.evaluation._request import InvalidTask

_PREFIX = "evomerge_code_"  # of the packages in memory


@dataclass(frozen=True, slots=True)
class CodeFile:
    """One file beside the user's.

    Attributes:
        name: of the module, as the files import it ("helper", "tools.words").
        path: of the file on the driver.
        code: its text.
        is_package: whether it is a package's `__init__.py`.
    """

    name: str
    path: str
    code: str
    is_package: bool


@dataclass(frozen=True, slots=True)
class UserCode:
    """A Python file with the files beside it that it imports, directly or through each other.

    Attributes:
        path: of the file on the driver.
        code: its text.
        siblings: what it imports from its folder, sorted by name.
    """

    path: str
    code: str
    siblings: tuple[CodeFile, ...] = ()

    def digest(self) -> str:
        """Return the SHA-256 of all its text. Paths do not enter it."""
        digest = hashlib.sha256(self.code.encode())
        for file in self.siblings:
            digest.update(f"\0{file.name}\0{file.code}".encode())
        return digest.hexdigest()

    def module(self) -> ModuleType:
        """Return the file's module, run once in a process. Raises whatever the code raises."""
        return _module_of(self)


def read_code(path: Path) -> UserCode | None:
    """Read a Python file and what it imports from its folder, or return None if it is not there."""
    if not path.is_file():
        return None
    path = path.resolve()
    code = path.read_text(encoding="utf-8-sig")
    found: dict[str, CodeFile] = {}
    _collect(code, "", path.parent, found, own=path)
    return UserCode(str(path), code, tuple(found[name] for name in sorted(found)))


def _collect(code: str, package: str, folder: Path, found: dict[str, CodeFile], own: Path) -> None:
    """Add the files that some code may import from a folder. Imports inside functions count: they run later."""
    for name in _imported_names(code, package):
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            module = ".".join(parts[:length])
            if module in found:
                continue
            file = _file_of(folder, parts[:length])
            if file is None or file == own:
                break
            text = file.read_text(encoding="utf-8-sig")
            is_package = file.name == "__init__.py"
            found[module] = CodeFile(module, str(file), text, is_package)
            _collect(text, module if is_package else module.rpartition(".")[0], folder, found, file)


def _file_of(folder: Path, parts: Sequence[str]) -> Path | None:
    """Return the file of a module below a folder, or None."""
    place = folder.joinpath(*parts)
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _imported_names(code: str, package: str) -> Iterator[str]:
    """Yield the absolute names of modules that some code may import; of `from a import b`, "a" and "a.b"."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):  # running it says what is wrong
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*filter(None, parts), *([node.module] if node.module else [])])
            yield from filter(None, [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)])


class _Finder(MetaPathFinder, Loader):
    """Serves the modules of packages in memory; knows no other name."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, CodeFile, frozenset[str]]] = {}

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname not in self.files:
            return None
        _, file, _ = self.files[fullname]
        spec = ModuleSpec(fullname, self, origin=file.path, is_package=file.is_package)
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        package, file, names = self.files[module.__name__]
        _run(module, file.code, file.path, package, names - {file.name})


_FINDER = _Finder()


@functools.cache
def _module_of(code: UserCode) -> ModuleType:
    package = _PREFIX + hashlib.sha256(f"{code.path}\n{code.digest()}".encode()).hexdigest()[:16]
    names = frozenset(file.name for file in code.siblings if "." not in file.name)
    _FINDER.files |= {f"{package}.{file.name}": (package, file, names) for file in code.siblings}
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
    parent, module = ModuleType(package), ModuleType(f"{package}.main_{Path(code.path).stem}")
    parent.__path__ = []
    module.__file__, module.__package__ = code.path, package
    # Where dataclasses, pickle and the like look for their own module.
    sys.modules |= {package: parent, module.__name__: module}
    try:
        _run(module, code.code, code.path, package, names)
    except BaseException:
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]
        raise
    return module


def _run(module: ModuleType, code: str, path: str, package: str, names: frozenset[str]) -> None:
    """Run a file's text in a module whose `import` finds the files beside it first."""

    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or top not in names:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        found = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or (), 0)
        return found if fromlist else sys.modules[f"{package}.{top}"]

    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": import_}
    exec(compile(code, path, "exec", dont_inherit=True), module.__dict__)


def function_in(code: UserCode, name: str) -> Callable[..., Any]:
    """Return a function of the user's file.

    Raises:
        InvalidTask: running the file failed, or it has no such function.
    """
    from evomerge.errors import did_you_mean

    path = code.path
    try:
        module = code.module()
    except Exception as error:
        raise InvalidTask(f"its file {path} raised {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        defined = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InvalidTask(f'{path} has no function "{name}".{did_you_mean(name, defined)}')
    return found


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """`!function name` in a task's YAML: imported where it is needed, as a file's function cannot be pickled.

    Attributes:
        folder: of the YAML; relative to lm-eval's package where it is lm-eval's own.
        name: "module.function".
        built_in: whether the YAML is lm-eval's own.
        code: of the user's own file, so that a worker needs no file; None = an installed module, or lm-eval's.
    """

    folder: str
    name: str
    built_in: bool
    code: UserCode | None = None

    def load(self) -> Callable[..., Any]:
        """Import the function.

        Raises:
            InvalidTask: it is not there, or its module cannot be run.
        """
        from evomerge.evaluation import _lm_eval

        folder = lm_eval_folder() / self.folder if self.built_in else Path(self.folder)
        try:
            if self.code is not None:
                found: Callable[..., Any] = getattr(self.code.module(), self.name.rpartition(".")[2])
                return found
            return _lm_eval.import_function(folder, self.name)
        except Exception as error:
            text = f"its !function {self.name} could not be loaded: {type(error).__name__}: {error}"
            raise InvalidTask(text) from error

    def digest(self) -> str:
        """Return the SHA-256 of the user's code that holds the function; of its name when the code is lm-eval's."""
        return hashlib.sha256(self.name.encode()).hexdigest() if self.code is None else self.code.digest()

    def with_code(self) -> "FunctionRef":
        """Return the same with the code of the user's file."""
        file = Path(self.folder, *self.name.split(".")[:-1]).with_suffix(".py")
        return self if self.built_in else replace(self, code=read_code(file))


@functools.cache
def lm_eval_folder() -> Path:
    """Return the folder of the package lm_eval, without importing it."""
    spec = find_spec("lm_eval")
    assert spec is not None and spec.submodule_search_locations  # a requirement of this program
    return Path(spec.submodule_search_locations[0]).resolve()


def functions_of(value: object) -> Iterator[FunctionRef]:
    """Yield the function references anywhere in a configuration."""
    if isinstance(value, FunctionRef):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from functions_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from functions_of(inner)


def with_functions(value: object) -> Any:
    """Return a copy of a configuration with its functions imported.

    Raises:
        InvalidTask: one of them cannot be loaded.
    """
    if isinstance(value, FunctionRef):
        return value.load()
    if isinstance(value, Mapping):
        return {key: with_functions(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_functions(inner) for inner in value]
    return value
