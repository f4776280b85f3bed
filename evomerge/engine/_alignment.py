"""Which row of which parent every token of the output's vocabulary takes: applied before the merge.

A token that a parent has keeps that parent's row. One that it lacks gets the row of the only model that has it, else
the base's, else the mean of those that have it, else zeros: mergekit's rule. A row of the output without a token
(padding) that no model has gets the mean of each model's rows, so that its logit is never the largest (Hewitt 2021,
https://nlp.stanford.edu/~johnhew/vocab-expansion.html).
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from evomerge.checkpoint import Model, Parents, Tokenizer, is_vocabulary
from evomerge.errors import MergeFailed, did_you_mean
from evomerge.recipe import ModelRef, TokenRule

MEAN, ZERO, PADDING = -1, -2, -3  # where a row comes from if from no single model; see `Alignment.source`
FetchTensor = Callable[[ModelRef], torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where each row of the output comes from.

    Attributes:
        size: number of the output's rows.
        models: those that are merged, then those that only give rows to single tokens.
        own_rows: model -> (size,) its row for each token, -1 where it lacks the token.
        source: (size,) where the row of a token comes from for models that lack it: a position in `models`, MEAN of
            the models that have it, ZERO, or PADDING, the mean of the model's own rows.
        source_row: (size,) the row there.
        forced: (size,) whether the source's row is for the models that have the token as well.
        tokenless: (size,) whether the row stands for no token.
    """

    size: int
    models: tuple[ModelRef, ...]
    own_rows: Mapping[ModelRef, torch.Tensor]
    source: torch.Tensor
    source_row: torch.Tensor
    forced: torch.Tensor
    tokenless: torch.Tensor

    def digest(self, merged: Sequence[ModelRef]) -> str:
        """Return a digest of all that `gather` does to these models."""
        total = hashlib.sha256(repr([*map(self.models.index, merged)]).encode())
        rest = (self.source, self.source_row, self.forced, self.tokenless)
        for tensor in (*(self.own_rows[ref] for ref in self.models), *rest):
            total.update(tensor.numpy().tobytes())
        return total.hexdigest()

    def leaves_alone(self, model: ModelRef, rows: int) -> bool:
        """Tell whether a model's tensor of so many rows is already as the output wants it."""
        own = self.own_rows[model]
        return rows == self.size and not bool(self.forced.any()) and torch.equal(own, torch.arange(self.size))

    def is_view(self, model: ModelRef, rows: int) -> bool:
        """Tell whether the output's rows are the first ones of a model's tensor of so many rows, in their order."""
        own = self._own_rows(model, rows)
        return bool((own >= 0).all()) and torch.equal(own, torch.arange(self.size))

    def _own_rows(self, model: ModelRef, rows: int) -> torch.Tensor:
        """Return (size,) the row that a model with so many of them has for each of the output's, -1 for none."""
        return torch.where((self.own_rows[model] < rows) & ~self.forced, self.own_rows[model], -1)

    def gather(self, model: ModelRef, fetch: FetchTensor) -> torch.Tensor:
        """Return a model's tensor with the output's rows.

        Args:
            model: whose tensor, of shape (its rows, ...).
            fetch: returns this tensor of any of `models`, or None.

        Returns:
            (size, ...); a view where the model's rows are the output's first ones.
        """
        tensor = fetch(model)
        assert tensor is not None
        if self.is_view(model, tensor.shape[0]):
            return tensor[: self.size]
        own = self._own_rows(model, tensor.shape[0])
        out = tensor.new_zeros((self.size, *tensor.shape[1:]))
        _copy_rows(out, tensor, own >= 0, own)
        missing = own < 0
        for number in self.source[missing].unique().tolist():
            wanted = missing & (self.source == number)
            if number == MEAN:
                out[wanted.to(out.device)] = self._mean(wanted, out, fetch)
            elif number >= 0:
                other = fetch(self.models[number])
                if other is not None:
                    _copy_rows(out, other, wanted, self.source_row)
        padding = missing & (self.source == PADDING)
        if bool(padding.any()):
            out[padding.to(out.device)] = out[~self.tokenless.to(out.device)].mean(0, dtype=torch.float32).to(out.dtype)
        return out

    def _mean(self, wanted: torch.Tensor, like: torch.Tensor, fetch: FetchTensor) -> torch.Tensor:
        """Return the mean over the models that have each wanted token, in float32, rounded once.

        Args:
            wanted: (size,) which rows.
            like: says dtype, device and row shape.
            fetch: as for `gather`.

        Returns:
            (number of wanted rows, ...).
        """
        total = torch.zeros((int(wanted.sum()), *like.shape[1:]), dtype=torch.float32, device=like.device)
        count = torch.zeros(len(total), device=like.device)
        for model in self.models:
            tensor = fetch(model)
            if tensor is None:
                continue
            rows = self.own_rows[model][wanted].to(tensor.device)
            has = (rows >= 0) & (rows < tensor.shape[0])
            total[has] += tensor[rows[has]].float()
            count += has
        return (total / count.clamp(min=1).view(-1, *[1] * (total.ndim - 1))).to(like.dtype)


def _copy_rows(out: torch.Tensor, source: torch.Tensor, where: torch.Tensor, rows: torch.Tensor) -> None:
    """Copy rows of `source` into the rows of `out` that are marked in `where`.

    Args:
        out: (size, ...).
        source: (its rows, ...).
        where: (size,) bool.
        rows: (size,) which row of the source.
    """
    places, numbers = where.nonzero().squeeze(1).to(out.device), rows[where].to(source.device)
    out.index_copy_(0, places, source.index_select(0, numbers).to(out.dtype))


def align(
    parents: Parents,
    models: Sequence[ModelRef],
    base: ModelRef | None,
    output: Tokenizer,
    size: int,
    rules: Mapping[str, TokenRule],
) -> Alignment:
    """Compute the alignment of models to an output tokenizer.

    Args:
        parents: the opened models.
        models: those that are merged.
        base: the merge's base, whose rows go first; None = none.
        output: the result's tokenizer.
        size: rows of the output.
        rules: token -> where its row comes from, which may be a further model.

    Raises:
        MergeFailed: a tokenizer cannot be read, or a rule names a token that does not exist.
    """
    everyone = tuple(dict.fromkeys([*models, *(rule.model for rule in rules.values() if rule.model)]))
    heights = {ref: embedding_rows(parents[ref]) for ref in everyone}
    own = {ref: _own_rows(output.vocabulary, parents[ref].tokenizer.vocabulary, size, heights[ref]) for ref in everyone}
    stacked = torch.stack([own[ref] for ref in models])  # (models, size)
    has = stacked >= 0
    count = has.sum(0)
    source = torch.where(count == 0, ZERO, torch.where(count == 1, has.int().argmax(0), MEAN))
    if base is not None and base in models:
        number = list(models).index(base)
        source = torch.where(has[number], number, source)
    row = stacked.gather(0, source.clamp(min=0).unsqueeze(0)).squeeze(0)
    forced, tokenless = torch.zeros(size, dtype=torch.bool), torch.ones(size, dtype=torch.bool)
    tokenless[[number for number in output.vocabulary.values() if number < size]] = False
    source[tokenless & (count == 0)] = PADDING
    for token, rule in rules.items():
        place = output.vocabulary[token]
        forced[place] = rule.force
        source[place] = ZERO if rule.model is None else everyone.index(rule.model)
        if rule.model is not None:
            row[place] = _row_of(rule, token, parents[rule.model].tokenizer, heights[rule.model])
    no_rows = torch.full((size,), -1)  # models that are not merged count in no mean
    rows = {ref: own[ref] if ref in models else no_rows for ref in everyone}
    return Alignment(size, everyone, rows, source, row, forced, tokenless)


def embedding_rows(model: Model) -> int:
    """Return the number of rows of a model's token embedding.

    Raises:
        MergeFailed: it has none.
    """
    heights = [info.shape[0] for name, info in model.tensors.items() if is_vocabulary(name) and len(info.shape) == 2]
    if not heights:
        raise MergeFailed(f"{model.name}: no token embedding was found, which tokenizer: needs")
    return heights[0]


def uncovered_tokens(alignment: Alignment, tokens: Iterable[tuple[str, int]]) -> list[str]:
    """Return the tokens that get zeros because no model has a row for them.

    Args:
        alignment: to the output's vocabulary.
        tokens: the output's tokens and their ids.
    """
    return [token for token, number in tokens if number < alignment.size and int(alignment.source[number]) == ZERO]


def _own_rows(output: Mapping[str, int], mine: Mapping[str, int], size: int, height: int) -> torch.Tensor:
    """Return (size,) a model's row for each row of the output, -1 for none.

    Rows beyond the tokenizer (padding, as Qwen has it) stay where they are if the model has such rows too.

    Args:
        output: the output's token -> id.
        mine: the model's token -> id.
        size: rows of the output.
        height: rows of the model's embedding.
    """
    used = set(mine.values())
    rows = torch.tensor([i if i < height and i not in used else -1 for i in range(size)])
    for token, number in output.items():
        row = mine.get(token, -1)
        if number < size:
            rows[number] = row if row < height else -1
    return rows


def _row_of(rule: TokenRule, token: str, tokenizer: Tokenizer, height: int) -> int:
    """Return the row of its model that a token's rule names.

    Raises:
        MergeFailed: there is no such token, or no such row.
    """
    asked = token if rule.token is None else rule.token
    if isinstance(asked, str) and asked not in tokenizer.vocabulary:
        hint = did_you_mean(asked, tokenizer.vocabulary)
        raise MergeFailed(f'tokenizer.tokens: "{asked}" is no token of {rule.model}\'s tokenizer.{hint}')
    row = asked if isinstance(asked, int) else tokenizer.vocabulary[asked]
    if not 0 <= row < height:
        raise MergeFailed(f"tokenizer.tokens: {rule.model} has no row {row} for {asked!r}; it has {height}")
    return row
