"""What other packages add to evomerge: objects behind entry points, found by name and loaded when first used.

A package declares, for example::

    [project.entry-points."evomerge.methods"]
    my_method = "my_package:MY_METHOD"

Every kind of extension (methods, optimizers, evaluators, spaces, trackers) has a `Registry` of what comes with
evomerge, what a process registered, and what installed packages bring. Built-in names always win, so that no installed
package can change what an existing file means. Nothing of a package is imported before its name is requested.
"""

from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Literal, TypeVar

from evomerge.errors import InvalidInput, did_you_mean

Group = Literal["methods", "optimizers", "evaluators", "spaces", "trackers"]
Extension = TypeVar("Extension")


@cache
def _installed(group: Group) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"evomerge.{group}")}


def plugin_names(group: Group) -> tuple[str, ...]:
    """Return the names that installed packages bring for a kind of extension, sorted; nothing is imported.

    Args:
        group: the kind of extension, the part of the entry-point group after "evomerge.".
    """
    return tuple(sorted(_installed(group)))


@cache
def load_plugin(group: Group, name: str) -> Any:
    """Return the object behind an entry point.

    Args:
        group: the kind of extension.
        name: one of `plugin_names(group)`.

    Raises:
        InvalidInput: importing it failed; the sentence names the package and the cause.
        KeyError: no installed package brings this name.
    """
    point = _installed(group)[name]
    try:
        return point.load()
    except Exception as error:  # foreign code: whatever it raises is the package's fault, and must be named as such
        package = point.dist.name if point.dist else "an installed package"
        raise InvalidInput(
            f'"{name}" of {package} (entry point evomerge.{group}, {point.value}) cannot be loaded: '
            f"{type(error).__name__}: {error}; correct or remove that package"
        ) from error


class Registry(Generic[Extension]):
    """The extensions of one kind by name: built-in ones, registered ones, and those of installed packages."""

    def __init__(
        self,
        group: Group,
        kind: str,
        built_in: Mapping[str, Extension | str],
        check: Callable[[Any], Extension],
        *,
        reserved: Collection[str] = (),
    ) -> None:
        """Begin with what comes with evomerge.

        Args:
            group: the kind of extension, as in its entry points.
            kind: what one is called in messages, such as "merge method".
            built_in: name -> extension, or "module:attribute" that is imported when its name is first requested.
            check: returns the extension that a package or a caller gave, which may be a class that it creates; raises
                InvalidInput with a sentence where that is none.
            reserved: names that stand for something else, so that none may be registered under them.
        """
        self._group, self._kind = group, kind
        self._built_in, self._check = built_in, check
        self._reserved = tuple(reserved)
        self._registered: dict[str, Extension] = {}
        self._loaded: dict[str, Extension] = {}  # of "module:attribute" and entry points

    def names(self) -> tuple[str, ...]:
        """Return all names: built-in ones, then registered ones, then those of installed packages."""
        return tuple(dict.fromkeys((*self._built_in, *self._registered, *plugin_names(self._group))))

    def registered(self) -> tuple[Extension, ...]:
        """Return what `register` was given in this process."""
        return tuple(self._registered.values())

    def get(self, name: str) -> Extension:
        """Return the extension of a name.

        Raises:
            InvalidInput: there is none (the sentence names the closest), or the package that brings it is broken.
        """
        if name in self._built_in:
            found = self._built_in[name]
            return self._import(name, found) if isinstance(found, str) else found
        if name in self._registered:
            return self._registered[name]
        if name in plugin_names(self._group):
            return self._of_package(name)
        known = (*self.names(), *self._reserved)
        raise InvalidInput(f'no {self._kind} is called "{name}"; known: {", ".join(known)}.{did_you_mean(name, known)}')

    def register(self, given: object, name: str | None = None) -> Extension:
        """Make an extension known in this process. One that was registered under its name before is replaced.

        Args:
            given: the extension, or what `check` makes one of.
            name: what it is called; by default, its own `name`.

        Returns:
            The extension.

        Raises:
            InvalidInput: it is none, or it has the name of a built-in one.
        """
        extension = self._check(given)
        name = str(getattr(extension, "name", "")) if name is None else name
        if name in self._built_in or name in self._reserved:
            raise InvalidInput(f'the {self._kind} "{name}" comes with evomerge; choose another name for yours')
        self._registered[name] = extension
        return extension

    def _import(self, name: str, path: str) -> Extension:
        if name not in self._loaded:
            module, _, attribute = path.partition(":")
            self._loaded[name] = self._check(getattr(import_module(module), attribute))
        return self._loaded[name]

    def _of_package(self, name: str) -> Extension:
        if name in self._loaded:
            return self._loaded[name]
        place = f'the entry point "{name}" of evomerge.{self._group}'
        try:
            extension = self._check(load_plugin(self._group, name))
        except InvalidInput as error:
            raise InvalidInput(f"{place}: {error}; correct or remove the package that brings it") from error
        own = getattr(extension, "name", name)
        if isinstance(own, str) and own != name:
            raise InvalidInput(
                f'{place} names itself "{own}", and the names must be equal; correct or remove the '
                "package that brings it"
            )
        self._loaded[name] = extension
        return extension


def created(given: Any, kind: type[Extension], expected: str) -> Extension:
    """Return an object of a class that a package or a caller gave, or the object that it gave.

    Args:
        given: an object of `kind`, or a subclass of it that is created without arguments.
        kind: what is expected.
        expected: the same in words, for the sentence.

    Raises:
        InvalidInput: it is neither, or the class is abstract or needs arguments.
    """
    if isinstance(given, type) and issubclass(given, kind):
        try:
            given = given()
        except TypeError as error:
            raise InvalidInput(f"{given.__name__} cannot be created without arguments ({error})") from error
    if not isinstance(given, kind):
        raise InvalidInput(f"found {given!r}, expected {expected}")
    return given
