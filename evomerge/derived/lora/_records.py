"""The options of a LoRA extraction and the report of what it did."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evomerge.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraOptions:
    """What to extract.

    Attributes:
        rank: at most so many directions for each linear weight, from 1.
        energy: keep only as many of them as hold this share of the squared norm, in (0, 1]; None = all `rank`.
        include: regular expressions searched for in a module's name; a module is decomposed if it matches one of
            them, or there is none.
        exclude: as `include`; a module that matches one of them is not decomposed.
        save_rest: store whatever else differs from the base as it is, so that nothing is lost but what the rank cuts.
        dtype: of the factors on disk, such as "bfloat16".
    """

    rank: int = 32
    energy: float | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    save_rest: bool = False
    dtype: str = "float32"

    def wants(self, name: str) -> bool:
        """Tell whether the patterns let a module be decomposed."""
        included = not self.include or any(re.search(pattern, name) for pattern in self.include)
        return included and not any(re.search(pattern, name) for pattern in self.exclude)

    def excludes(self, *names: str | None) -> bool:
        """Tell whether `exclude` names a module, under any of its names."""
        return any(re.search(pattern, name) for pattern in self.exclude for name in names if name)

    def check(self) -> None:
        """Check the values.

        Raises:
            InvalidInput: one makes no sense.
        """
        if self.rank < 1:
            raise InvalidInput(f"rank is {self.rank}, expected at least 1")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise InvalidInput(f"energy is {self.energy}, expected a share above 0 and up to 1, such as 0.95")
        for pattern in (*self.include, *self.exclude):
            try:
                re.compile(pattern)
            except re.error as error:
                raise InvalidInput(f'"{pattern}" is no regular expression ({error})') from None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraModule:
    """One decomposed weight.

    Attributes:
        name: of the module.
        shape: (out, in).
        rank: number of directions kept.
        error: what is lost of its delta, ||delta - B A|| / ||delta||.
        exact: whether a full decomposition was made, else a randomized one.
    """

    name: str
    shape: tuple[int, int]
    rank: int
    error: float
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraReport:
    """What an adapter holds, and what it lost.

    Attributes:
        modules: the decomposed weights.
        saved: modules stored whole.
        left_out: tensors that differ from the base and are not in the adapter.
        error: what is lost of the whole task vector, left-out tensors included, relative to its Frobenius norm.
        size_bytes: of the adapter's tensors.
    """

    modules: tuple[LoraModule, ...]
    saved: tuple[str, ...]
    left_out: tuple[str, ...]
    error: float
    size_bytes: int

    def plain(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return asdict(self)
