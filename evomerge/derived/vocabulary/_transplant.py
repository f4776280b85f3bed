"""Writes a model with another model's tokenizer: every matrix with a row for each token gets that tokenizer's rows."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from evomerge.checkpoint import (
    CheckpointWriter,
    Model,
    TensorInfo,
    card_parents,
    derived_card,
    is_head,
    is_tied_copy,
    is_vocabulary,
    set_vocabulary,
    write_json,
)
from evomerge.derived.vocabulary._matching import TokenMatch, match_tokens
from evomerge.derived.vocabulary._pursuit import orthogonal_pursuit
from evomerge.engine import ProgressCallback, embedding_rows
from evomerge.errors import DegenerateModel, InvalidInput, MergeFailed

NewRows = Literal["omp", "subword", "mean"]
"""Where rows of new tokens come from: the same combination of shared tokens that gives their row in the other model;
the mean of the tokens that the model itself reads their text as; the mean of all shared tokens."""

NEW_ROWS: tuple[NewRows, ...] = get_args(NewRows)


@dataclass(frozen=True, slots=True)
class TransplantReport:
    """What a transplant did.

    Attributes:
        shared: tokens that keep the model's own rows.
        by_role: of these, those that are the same only as beginning, end or padding of a text.
        new: tokens that got a new row.
        padding: rows that stand for no token.
        error: mean length of what the combinations leave of the other model's rows, as a share; None = no "omp".
    """

    shared: int
    by_role: int
    new: int
    padding: int
    error: float | None


def transplant(
    model: Model,
    source: Model,
    out: Path,
    *,
    new_rows: NewRows = "omp",
    atoms: int = 64,
    progress: ProgressCallback | None = None,
) -> TransplantReport:
    """Write `model` with the tokenizer of `source`. Memory: the vocabulary's matrices of both, and one other tensor.

    Args:
        model: whose weights are taken.
        source: whose tokenizer is taken.
        out: the new folder.
        new_rows: how tokens that the model does not have get their rows.
        atoms: with "omp", the most shared tokens in a combination.
        progress: called with (bytes written, bytes in all).

    Raises:
        InvalidInput: a model does not fit, has no readable tokenizer, or `out` exists; nothing is left behind.
        DegenerateModel: a new row is not finite; nothing is left behind.
    """
    work = _Transplant(model, source, new_rows, atoms)
    names = [name for name in model.tensors if not (model.tied and is_tied_copy(name))]
    infos = {name: work.info(name) for name in names}
    total, done = sum(info.size_bytes for info in infos.values()), 0
    with CheckpointWriter(out, infos) as writer:
        for name in names:
            tensor = work.rebuilt(name) if work.has_rows(name) else model.tensor(name).contiguous()
            writer.write(name, tensor)
            done += infos[name].size_bytes
            if progress:
                progress(done, total)
        config = deepcopy(model.config)
        config.pop("auto_map", None)
        set_vocabulary(config, work.size, source.config)
        write_json(writer.folder / "config.json", config)
        source.tokenizer.write(writer.folder)
        report = work.report()
        (writer.folder / "README.md").write_text(_card(out, model, source, work, report), encoding="utf-8")
    return report


class _Transplant:
    """The rows of one model for the tokens of another.

    Attributes:
        model: whose weights are taken.
        source: whose tokenizer is taken.
        size: rows of the result.
        match: which tokens are the same.
        new_rows: see `NewRows`.
        atoms: the most shared tokens in a combination.
    """

    def __init__(self, model: Model, source: Model, new_rows: NewRows, atoms: int):
        self.model, self.source, self.new_rows, self.atoms = model, source, new_rows, atoms
        for other in (model, source):
            if other.parts is not None or other.text_config.get("vocab_size_per_layer_input"):
                raise InvalidInput(
                    f"{other.name}: knows tokens beside its embedding (of images, or of each block), which a "
                    "transplant would leave behind; give a plain language model"
                )
        try:
            heights = embedding_rows(model), embedding_rows(source)
            self.match: TokenMatch = match_tokens(model, source, heights)
        except MergeFailed as error:
            raise InvalidInput(str(error)) from error
        self._height, self.size = heights
        if not self.match.rows:
            raise InvalidInput(f"{model.name} and {source.name} have no token in common, so no row can be kept")
        self._ids = torch.tensor(list(self.match.rows))
        self._rows = torch.tensor(list(self.match.rows.values()))
        self._new = torch.tensor(list(self.match.new), dtype=torch.long)
        self._errors: list[float] = []

    def has_rows(self, name: str) -> bool:
        """Tell whether a tensor has a row for each token."""
        shape = self.model.tensors[name].shape
        return is_vocabulary(name) and bool(shape) and shape[0] == self._height

    def info(self, name: str) -> TensorInfo:
        """Return dtype and shape of a tensor of the result."""
        info = self.model.tensors[name]
        return info._replace(shape=(self.size, *info.shape[1:])) if self.has_rows(name) else info

    def rebuilt(self, name: str) -> torch.Tensor:
        """Return a matrix with a row for each token of the new tokenizer.

        Raises:
            DegenerateModel: it is not finite.
        """
        own = self.model.tensor(name)
        kept = own[self._rows]
        out = kept.float().mean(0, keepdim=True).repeat(self.size, *[1] * (own.dim() - 1))
        out[self._ids] = kept.float()
        if len(self._new) and own.dim() == 2 and self.new_rows == "omp":
            out[self._new] = self._combined(name, own)
        elif len(self._new) and self.new_rows != "mean":
            out[self._new] = self._spelled(own)
        if not bool(torch.isfinite(out).all()):
            raise DegenerateModel(
                f"{name}: a row for the new tokenizer is not finite; try another way to make new rows"
            )
        return out.to(own.dtype).contiguous()

    def _combined(self, name: str, own: torch.Tensor) -> torch.Tensor:
        """Return the rows of new tokens: the combinations of shared tokens that they are in the other model."""
        other = self._other(name)
        found = orthogonal_pursuit(other[self._new], other[self._ids], self.atoms)
        self._errors += found.errors.tolist()
        return found.apply(own[self._rows])

    def _other(self, name: str) -> torch.Tensor:
        """Return the other model's matrix of the same kind; a tied model has one for both."""
        candidates = [n for n, info in self.source.tensors.items() if is_vocabulary(n) and len(info.shape) == 2]
        alike = [n for n in candidates if is_head(n) == is_head(name) and not (self.source.tied and is_head(n))]
        chosen = next(iter(alike), None) or next(n for n in candidates if not is_head(n))
        return self.source.tensor(chosen)

    def _spelled(self, own: torch.Tensor) -> torch.Tensor:
        """Return the rows of new tokens: the mean of the tokens that the model reads their text as."""
        tokenizer = self.model.tokenizer.load()
        mean = own[self._rows].float().mean(0)
        found = []
        for token in self.match.new.values():
            text = self.source.tokenizer.spelled(token).decode("utf-8", errors="ignore")
            pieces = [row for row in tokenizer.encode(text, add_special_tokens=False) if row < self._height]
            found.append(own[pieces].float().mean(0) if pieces else mean)
        return torch.stack(found)

    def report(self) -> TransplantReport:
        """Return what was done."""
        match = self.match
        return TransplantReport(
            shared=len(match.rows),
            by_role=len(match.by_role),
            new=len(match.new),
            padding=self.size - len(match.rows) - len(match.new),
            error=sum(self._errors) / len(self._errors) if self._errors else None,
        )


def _card(out: Path, model: Model, source: Model, work: _Transplant, report: TransplantReport) -> str:
    ways = {
        "omp": f"the combination of at most {work.atoms} shared tokens that gives their row in `{source.name}` "
        "(orthogonal matching pursuit)",
        "subword": "the mean of the tokens that the model itself read their text as",
        "mean": "the mean of the shared tokens",
    }
    first = (
        f"`{model.name}` with the tokenizer of `{source.name}`, made with evomerge. No weight was trained: "
        f"{report.shared} tokens keep the model's rows, {report.new} new ones got {ways[work.new_rows]}."
    )
    again = f"Rebuild it with `evomerge transplant {model.name} {source.name} OUT --new-rows {work.new_rows}`."
    parents = card_parents([model, source], digests=False)
    return derived_card(
        out.resolve().name,
        parents,
        [first, again],
        base=model.name,
        relation="finetune",
        library="transformers",
        tags=[],
    )
