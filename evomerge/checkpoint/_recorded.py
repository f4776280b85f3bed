"""Models as a ledger remembers them: their configs and the headers of their tensors, without a single weight."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoint._model import Model, StoredTensor, TensorInfo
from evomerge.checkpoint.family import is_vocabulary
from evomerge.errors import InvalidInput, MergeFailed


class RecordedModel(Model):
    """A model of which only the config and the tensors' names, dtypes and shapes are known: enough for a plan."""

    def __init__(self, name: str, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]):
        """Keep what is known.

        Args:
            name: as the user calls it.
            config: content of config.json.
            tensors: name -> dtype and shape, in the order in which they are stored.
        """
        self.name, self.config, self._tensors = name, dict(config), dict(tensors)
        self.folder = Path(name)

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Name -> dtype and shape of every tensor."""
        return self._tensors

    def with_rows(self, count: int) -> "RecordedModel":
        """Return the same model with so many tokens: what a plan needs where vocabularies differ.

        Args:
            count: of the rows of its embedding and head.
        """
        tensors = {
            name: info._replace(shape=(count, *info.shape[1:])) if is_vocabulary(name) and info.shape else info
            for name, info in self._tensors.items()
        }
        return RecordedModel(self.name, self.config, tensors)

    def stored(self, name: str) -> tuple[StoredTensor, ...]:
        """Raise MergeFailed: there are no weights."""
        raise MergeFailed(f"{self.name}: only its outline is known, not its weights")

    def assemble(self, name: str, parts: Sequence[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
        """Raise MergeFailed: there are no weights."""
        raise MergeFailed(f"{self.name}: only its outline is known, not its weights")

    def _digest(self) -> str:
        raise MergeFailed(f"{self.name}: only its outline is known, not its weights")


def model_outlines(models: Iterable[Model]) -> dict[str, Any]:
    """Return what `recorded_models` makes models of again, as JSON can hold it; equal tables of tensors are kept once.

    Args:
        models: opened ones.
    """
    tables: list[list[list[Any]]] = []
    found: dict[str, Any] = {}
    for model in models:
        table = [
            [name, str(info.dtype).removeprefix("torch."), list(info.shape)] for name, info in model.tensors.items()
        ]
        if table not in tables:
            tables.append(table)
        found[model.name] = {"config": model.config, "tensors": tables.index(table)}
    return {"models": found, "tables": tables}


def recorded_models(plain: Mapping[str, Any]) -> dict[str, RecordedModel]:
    """Return name -> model from what `model_outlines` returned.

    Raises:
        InvalidInput: it is damaged.
    """
    try:
        tables = [
            {name: TensorInfo(getattr(torch, dtype), tuple(map(int, shape))) for name, dtype, shape in table}
            for table in plain["tables"]
        ]
        return {
            name: RecordedModel(name, entry["config"], tables[entry["tensors"]])
            for name, entry in plain["models"].items()
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"the outlines of the parents are damaged ({type(error).__name__}: {error})") from error
