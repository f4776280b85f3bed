"""The number of layers as an objective: fewer are better, and a floor is the most that there may be.

tasks:
  - {task: gsm8k}
  - {evaluator: layers, floor: 40}
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evomerge.errors import EvomergeError
from evomerge.evaluation._evaluator import Evaluator, PrepareContext, PreparedTask, TaskNeeds
from evomerge.evaluation._request import InvalidTask
from evomerge.records import POOLS, ItemScores

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Layers(Evaluator):
    """What a model costs by its depth. It has one item in each pool, as the depth is no sample of anything."""

    name = "layers"
    description = "the number of layers of the language model; fewer are better"
    only_reads = True

    def prepare(self, options: Mapping[str, Any], context: PrepareContext) -> PreparedTask:
        """Return the objective; unless the user gave it a weight, it is no part of the weighted mean.

        Args:
            options: none.
            context: the search around the entry.

        Raises:
            InvalidTask: there are options.
        """
        if options:
            raise InvalidTask(
                f"layers has no option {next(iter(options))!r}; it takes floor: (the most layers), name:, and weight: "
                "with scale:"
            )
        return PreparedTask(
            objective=context.objective(self.name, metric=self.name, direction="min", weight=0.0, exact=True),
            pools={pool: (number,) for number, pool in enumerate(POOLS)},
            facts={"evaluator": self.name},
            items=None,
            guards_itself=True,  # there is no answer that could hide a broken model; other tasks look at those
        )

    def score(
        self,
        task: PreparedTask,
        ids: Sequence[int],
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
    ) -> ItemScores:
        """Return the number of layers, negated.

        Raises:
            EvomergeError: the model's config does not say it.
        """
        depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
        if depth is None:
            raise EvomergeError(f"the config of {model.config.model_type} does not say how many layers there are")
        return ItemScores(ids=tuple(ids), values=(-float(depth),) * len(ids))

    def needs(self, task: PreparedTask) -> TaskNeeds:
        """Return that neither answers nor weights are looked at."""
        return TaskNeeds(text=False, model=False)
