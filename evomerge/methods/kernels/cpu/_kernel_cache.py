"""numba's store of machine code on disk, so that whatever is wrong with it costs a compilation and nothing else.

numba trusts its files: a damaged one ends the program, in words at best, and a full disk ends what could go on without
a stored kernel. Here each file begins with a digest of the rest. What does not have its digest, or cannot be read,
counts as absent and is written anew; what cannot be written stays in memory.
"""

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile

_DIGEST_BYTES = 32


class CheckedFiles(IndexDataCacheFile):
    """The index and the code files of a function."""

    def _load_index(self) -> dict[Any, Any]:
        """Return the index; an empty one where it is damaged."""
        try:
            content = _checked(Path(self._index_path))
            version, stamp, overloads = pickle.loads(content)
        except Exception:  # absent, damaged, or of another numba
            return {}
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, Any]) -> None:
        self._write(self._index_path, self._dump((self._version, self._source_stamp, overloads)))

    def _load_data(self, name: str) -> Any:
        """Return a stored function.

        Raises:
            OSError: it is absent or damaged; numba then compiles it.
        """
        return pickle.loads(_checked(Path(self._data_path(name))))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), self._dump(data))

    def _write(self, path: str, content: bytes) -> None:
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)


def _checked(path: Path) -> bytes:
    """Return what a file holds behind its digest. Raises OSError where that is another one."""
    content = path.read_bytes()
    digest, rest = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != digest:
        raise OSError(f"{path} is damaged")
    return rest


class KernelCache(FunctionCache):
    """The stored versions of a function, one for each signature."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = CheckedFiles(self._cache_path, self._impl.filename_base, locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the stored version of a signature; None where there is none that can be used."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever numba, LLVM or the disk raise
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store a version, if that is possible."""
        with suppress(Exception):  # a full disk, a folder that vanished
            super().save_overload(sig, data)
