"""What `prepare_tasks` returns: objectives, pools and items, built once and shipped to every worker."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evomerge.evaluation._evaluator import Evaluator, PreparedTask, TaskNeeds
from evomerge.records import Objective, Pool

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evomerge.evaluation._scorer import Scorer
    from evomerge.evaluation.generation import OutsideGenerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything needed to score a model; it can be pickled and holds no model, tokenizer or access token.

    Attributes:
        tasks: objective -> its prepared items, in the order of the requests.
        evaluators: objective -> what prepared it and scores it.
    """

    tasks: Mapping[str, PreparedTask]
    evaluators: Mapping[str, Evaluator]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is measured, in the order of the requests."""
        return tuple(task.objective for task in self.tasks.values())

    @property
    def pools(self) -> dict[str, Mapping[Pool, tuple[int, ...]]]:
        """Objective -> pool -> item numbers, in an order in which any first k are a fair sample.

        Disjoint within an objective; two metrics of one task have the same pools. The items of a group are those of
        its tasks.
        """
        return {name: task.pools for name, task in self.tasks.items()}

    @property
    def facts(self) -> dict[str, Mapping[str, Any]]:
        """Objective -> identity of the measurement (JSON-able): lm-eval and task version, digests, splits, metric.

        Whatever changes what a score means changes a value here.
        """
        return {name: task.facts for name, task in self.tasks.items()}

    @property
    def clusters(self) -> dict[str, Mapping[int, str]]:
        """Objective -> item number -> the group of items that it belongs to; objectives without groups are absent."""
        return {name: task.clusters for name, task in self.tasks.items() if task.clusters}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user ("zoo_add has a single split (test), divided among the pools")."""
        return tuple(dict.fromkeys(note for task in self.tasks.values() for note in task.notes))

    def needs(self, objectives: Iterable[str]) -> TaskNeeds:
        """Return what scoring some objectives takes of a model."""
        found = [self.evaluators[name].needs(self.tasks[name]) for name in objectives]
        return TaskNeeds(text=any(needs.text for needs in found), model=any(needs.model for needs in found))

    def groups(self) -> list[tuple[Evaluator, dict[str, PreparedTask]]]:
        """Return each evaluator with its tasks by objective, in the order of the requests."""
        found: dict[int, tuple[Evaluator, dict[str, PreparedTask]]] = {}
        for name, task in self.tasks.items():
            evaluator = self.evaluators[name]
            found.setdefault(id(evaluator), (evaluator, {}))[1][name] = task
        return list(found.values())

    def tokens(self, tokenizer: "PreTrainedTokenizerBase", items: Mapping[str, Sequence[int]]) -> int:
        """Return about how many tokens go through a model that scores these items once (well under a second).

        What all prompts of a task begin with counts once, and so does a context that an item's choices share; models
        of a family that cannot share them read more. Generated answers count as long as they may be. Items of Python
        scorers count nothing: only their function knows what it asks.

        Args:
            tokenizer: of the model.
            items: objective -> item numbers, as for `Scorer.score`; what two metrics of a task share counts once.
        """
        total = 0
        for evaluator, tasks in self.groups():
            own = {name: items[name] for name in tasks if name in items}
            total += evaluator.tokens(tasks, own, tokenizer) if own else 0
        return total

    def describe(self, objective: str, number: int) -> str:
        """Return what an item asks (see `Evaluator.describe`).

        Args:
            objective: its name.
            number: of the item.
        """
        return self.evaluators[objective].describe(self.tasks[objective], number)

    def scorer(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
        generator: "OutsideGenerator | None" = None,
    ) -> "Scorer":
        """Bind the items to a live model, whose weights may change in place between calls of `score`.

        Args:
            model: a causal language model of transformers, on its device.
            tokenizer: its tokenizer; it is copied, so that the caller's keeps its padding settings.
            batch_size: most rows of a forward pass, and with it most tokens (256 a row; on a CPU never above 1,024).
                Fixed, because it can change the last digits of a score.
            generator: writes the answers of tasks that generate, with the weights that the model has or, where no task
                needs more (`needs`), in its place; None = the model does.

        Raises:
            InvalidInput: the tokenizer and the model, or a task and the model's length, do not fit.
        """
        from evomerge.evaluation._scorer import Scorer

        return Scorer(self, model, tokenizer, batch_size=batch_size, generator=generator)
