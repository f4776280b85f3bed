"""What `prepare` returns: objectives, pools and items, built once and shipped to every worker."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evomerge.evaluate._items import ScorerItems, TaskItems
from evomerge.evaluate._metrics import Measure
from evomerge.records import Objective, Pool

if TYPE_CHECKING:
    from evomerge.evaluate._scorer import Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything needed to score a model; it can be pickled and holds no model, tokenizer or token.

    objectives: in the order of the requests.
    pools: objective -> pool -> item numbers, in an order in which any first k are a fair sample. Disjoint within an
        objective; two metrics of one task have the same pools.
    facts: objective -> provenance for the ledger and the report (JSON-able): lm-eval and task version, digests,
        splits, few-shot, metric. Whatever changes what a score means changes a value here.
    notes: sentences for the user ("zoo_add has a single split (test), divided among the pools").
    """

    objectives: tuple[Objective, ...]
    pools: Mapping[str, Mapping[Pool, tuple[int, ...]]]
    facts: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]
    _sources: Mapping[str, TaskItems | ScorerItems]
    _source_of: Mapping[str, str]
    _measures: Mapping[str, Measure]
    _model_options: Mapping[str, Any]

    def scorer(self, model: Any, tokenizer: Any, *, batch_size: int) -> "Scorer":
        """Bind the items to a live model, whose weights may change in place between calls of `score`.

        Args:
            model: a causal language model of transformers, on its device.
            tokenizer: its tokenizer; it is copied, so that the caller's keeps its padding settings.
            batch_size: rows of a forward pass; fixed, because it can change the last digits of a score.

        Raises: InvalidInput when the tokenizer and the model, or a task and the model's length, do not fit.
        """
        from evomerge.evaluate._scorer import Scorer

        return Scorer(
            sources=self._sources,
            source_of=self._source_of,
            measures=self._measures,
            model_options=self._model_options,
            model=model,
            tokenizer=tokenizer,
            batch_size=batch_size,
        )
