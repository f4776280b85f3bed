"""What `prepare` returns: objectives, pools and items, built once and shipped to every worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evomerge.evaluation._items import AnswerLimits, ScorerItems, TaskItems
from evomerge.evaluation._metrics import Measure
from evomerge.evaluation.prepare._request import Member
from evomerge.records import Objective, Pool

if TYPE_CHECKING:
    from evomerge.evaluation.score._scorer import Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything needed to score a model; it can be pickled and holds no model, tokenizer or token.

    objectives: in the order of the requests.
    pools: objective -> pool -> item numbers, in an order in which any first k are a fair sample. Disjoint within an
        objective; two metrics of one task have the same pools. The items of a group are those of its tasks.
    facts: objective -> provenance for the ledger and the report (JSON-able): lm-eval and task version, digests,
        splits, few-shot, metric. Whatever changes what a score means changes a value here.
    notes: sentences for the user ("zoo_add has a single split (test), divided among the pools").
    """

    objectives: tuple[Objective, ...]
    pools: Mapping[str, Mapping[Pool, tuple[int, ...]]]
    facts: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]
    _sources: Mapping[str, TaskItems | ScorerItems]
    _members: Mapping[str, tuple[Member, ...]]
    _measures: Mapping[str, Measure]
    _weights: Mapping[str, Mapping[int, float]]
    _model_options: Mapping[str, Any]
    _answer_limits: AnswerLimits

    def tokens(self, tokenizer: Any, items: Mapping[str, Sequence[int]]) -> int:
        """Return about how many tokens go through a model that scores these items once (well under a second).

        What all prompts of a task begin with counts once, and so does a context that an item's choices share; models
        of a family that cannot share them read more. Generated answers count as long as they may be. Items of Python
        scorers count nothing: only their function knows what it asks.

        Args:
            tokenizer: of the model.
            items: objective -> item numbers, as for `Scorer.score`; what two metrics of a task share counts once.
        """
        from evomerge.evaluation._token_cost import count_tokens

        return count_tokens(self._sources, self._members, tokenizer, items)

    def scorer(self, model: Any, tokenizer: Any, *, batch_size: int) -> "Scorer":
        """Bind the items to a live model, whose weights may change in place between calls of `score`.

        Args:
            model: a causal language model of transformers, on its device.
            tokenizer: its tokenizer; it is copied, so that the caller's keeps its padding settings.
            batch_size: most rows of a forward pass, and with it most tokens (256 a row; on a CPU never above 1,024).
                Fixed, because it can change the last digits of a score.

        Raises: InvalidInput when the tokenizer and the model, or a task and the model's length, do not fit.
        """
        from evomerge.evaluation.score._scorer import Scorer

        return Scorer(
            sources=self._sources,
            members=self._members,
            measures=self._measures,
            weights=self._weights,
            model_options=self._model_options,
            answer_limits=self._answer_limits,
            model=model,
            tokenizer=tokenizer,
            batch_size=batch_size,
        )
