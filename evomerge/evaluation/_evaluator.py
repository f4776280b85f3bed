"""What a kind of task is: the extension point that lm-eval tasks, groups and Python scorers go through, too."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from evomerge.errors import EvomergeError
from evomerge.evaluation._request import LmEvalSettings, PoolSizes, TaskRequest
from evomerge.evaluation._rng import isolated_randomness
from evomerge.records import ItemScores, Objective, Pool

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTask:
    """One objective's items, ready to travel to the workers; it can be pickled and holds no model or tokenizer.

    Attributes:
        objective: what is measured: name, metric, direction (see `PrepareContext.objective`).
        pools: pool -> item numbers, in an order in which any first k are a fair sample; disjoint.
        facts: identity of the measurement (JSON-able): digests of items and code, versions, settings. A run can be
            resumed only while they stay the same, so whatever changes what a score means changes a value here.
        notes: sentences for the user.
        items: whatever `Evaluator.score` needs: the items by number, settings, code.
        prompt: some prompt of the items, which the health check reads before items are scored; "" = any text.
        clusters: item number -> name of the group of items that it belongs to, such as questions on one passage; they
            are not independent, and intervals treat them as one. Absent items are independent of all others.
        guards_itself: whether scoring the items raises `DegenerateModel` for a model whose numbers are not finite or
            constant. Without, a fixed prompt is run before each candidate, as other numbers would hide such a model.
    """

    objective: Objective
    pools: Mapping[Pool, tuple[int, ...]]
    facts: Mapping[str, Any]
    items: Any
    notes: tuple[str, ...] = ()
    prompt: str = ""
    clusters: Mapping[int, str] = field(default_factory=dict)
    guards_itself: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareContext:
    """The search around an entry, for the evaluator that prepares it.

    Attributes:
        request: the entry.
        requests: all entries of the search.
        pools: items wanted in each pool.
        seed: of the division into pools.
        lm_eval: settings of all lm-eval tasks; of no use to others.
        shared: what evaluators keep for the other entries of the same call, by a key of their own.
    """

    request: TaskRequest
    requests: Sequence[TaskRequest]
    pools: PoolSizes
    seed: int
    lm_eval: LmEvalSettings = field(default_factory=LmEvalSettings)
    shared: dict[str, Any] = field(default_factory=dict)

    def path(self, text: str) -> Path:
        """Return a path named in the options, which starts at the search file's folder."""
        path = Path(text).expanduser()
        return path if self.request.folder is None else self.request.folder / path

    def objective(
        self,
        name: str,
        *,
        task: str | None = None,
        metric: str = "score",
        direction: Literal["max", "min"] = "max",
        link: Literal["identity", "exp"] = "identity",
        weight: float = 1.0,
        exact: bool = False,
    ) -> Objective:
        """Return the entry's objective, with the weight, floor and scale that the user gave it.

        Args:
            name: of the objective, where the user gave no other.
            task: what is measured; None = `name`.
            metric: what the numbers are called.
            direction: of the metric as it is displayed; values of items are always "higher is better".
            link: how the mean of the values becomes the metric (see `Objective.link`).
            weight: where the user gave none; 0 for what a model costs.
            exact: whether all items have the same value (see `Objective.exact`).
        """
        request = self.request
        return Objective(
            name=request.name or name,
            task=task or name,
            metric=metric,
            direction=direction,
            link=link,
            weight=weight if request.weight is None else request.weight,
            floor=request.floor,
            scale=request.scale,
            exact=exact,
        )


class TaskNeeds(NamedTuple):
    """What scoring takes of a model.

    Attributes:
        text: whether answers are generated.
        model: whether anything else is asked of the live model, such as log-likelihoods.
    """

    text: bool
    model: bool


class BoundTasks(Protocol):
    """All tasks of one evaluator, bound to one model object whose weights change in place between calls."""

    def score(self, items: Mapping[str, Sequence[int]]) -> Mapping[str, ItemScores]:
        """Score items with the weights as they are now.

        Args:
            items: objective -> distinct item numbers, not empty, of any of its pools.

        Returns:
            objective -> scores, in the order of its numbers.
        """
        ...


@runtime_checkable
class GoldTasks(BoundTasks, Protocol):
    """Tasks whose right answers have a log-likelihood, so that a gradient can be taken while they are scored."""

    def has_gold(self, objectives: Iterable[str]) -> bool:
        """Tell whether a gradient that leads to better scores can be taken while these objectives are scored."""
        ...

    def score(
        self, items: Mapping[str, Sequence[int]], gold: Mapping[str, float] | None = None
    ) -> Mapping[str, ItemScores]:
        """Score items, and call `backward` on the way.

        Args:
            items: objective -> distinct item numbers, not empty, of any of its pools.
            gold: objective -> weight in the sum of mean log-likelihoods of right answers that is differentiated; None =
                no gradient.
        """
        ...


class Evaluator(ABC):
    """A kind of task: it prepares items once on the driver, and scores item numbers on a live model in a worker.

    An evaluator promises:

    * the same item means the same question for every candidate, as comparisons are paired;
    * the same weights and items give the same values: nothing depends on the candidate before, the order of the items,
      the clock or a global random number;
    * a broken model never becomes a number (`DegenerateModel`);
    * scoring needs no network.

    Instances travel to the workers with what they prepared and must be picklable; what an instance is configured with
    enters the identity of the measurement as far as it is plain data. `evomerge.testing.evaluators.EvaluatorContract`
    holds the promises as tests.

    Attributes:
        name: what a search file calls it (`evaluator: NAME`).
        description: one line for lists of evaluators.
        only_reads: whether no code of a user's gets the model. Otherwise its weights, which may be a parent's own, are
            compared before and after each call (two passes over them).
    """

    name: str
    description: str = ""
    only_reads: bool = False

    @abstractmethod
    def prepare(self, options: Mapping[str, Any], context: PrepareContext) -> PreparedTask:
        """Check the options of an entry and return its items. Runs once, on the driver.

        Args:
            options: of the entry, as written; unknown ones must be refused.
            context: the search around the entry; `prepare_items` makes pools of a list of items.

        Raises:
            InvalidInput: an option is wrong; a sentence of what was found, what was expected and what to do.
        """

    @abstractmethod
    def score(
        self,
        task: PreparedTask,
        ids: Sequence[int],
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
    ) -> ItemScores:
        """Score items of a task with the weights that the model holds now. Runs in a worker, under `torch.no_grad`.

        Args:
            task: what `prepare` returned; it must not be changed.
            ids: distinct item numbers, sorted, of any of its pools.
            model: a causal language model of transformers, on its device, in evaluation mode.
            tokenizer: its tokenizer.
            batch_size: most rows of a forward pass.

        Returns:
            Scores in the order of `ids`, higher is better.

        Raises:
            DegenerateModel: the model's outputs are not finite, or constant.
            EvomergeError: anything else that goes wrong; it becomes the failure of one candidate.
        """

    def bind(
        self,
        tasks: Mapping[str, PreparedTask],
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
    ) -> BoundTasks:
        """Return all of this evaluator's tasks bound to a model object. Override it to share work between tasks, or to
        keep something for the model object, such as tokens.

        Args:
            tasks: objective -> what `prepare` returned.
            model: whose weights change in place between calls of `BoundTasks.score`.
            tokenizer: its tokenizer.
            batch_size: most rows of a forward pass.
        """
        return SeparateTasks(self, tasks, model, tokenizer, batch_size=batch_size)

    def needs(self, task: PreparedTask) -> TaskNeeds:
        """Return what scoring a task takes of a model.

        Args:
            task: what `prepare` returned.
        """
        return TaskNeeds(text=False, model=True)

    def describe(self, task: PreparedTask, number: int) -> str:
        """Return what an item asks, for people who look at wins and losses; "" where there is nothing to show.

        Args:
            task: what `prepare` returned.
            number: of the item.
        """
        return ""

    def tokens(
        self,
        tasks: Mapping[str, PreparedTask],
        items: Mapping[str, Sequence[int]],
        tokenizer: "PreTrainedTokenizerBase",
    ) -> int:
        """Return about how many tokens go through a model that scores items once, for estimates of time.

        Args:
            tasks: objective -> what `prepare` returned.
            items: objective -> item numbers.
            tokenizer: of the model.

        Returns:
            0 where that is not known.
        """
        return 0


class GeneratingEvaluator(Evaluator):
    """An evaluator whose answers somebody else may generate, with the same weights (see `needs`)."""

    @abstractmethod
    def bind(
        self,
        tasks: Mapping[str, PreparedTask],
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
        generator: Any = None,
    ) -> BoundTasks:
        """Return all of this evaluator's tasks bound to a model object (see `Evaluator.bind`).

        Args:
            tasks: objective -> what `prepare` returned.
            model: whose weights change in place; it has none where all its tasks need is generated text.
            tokenizer: its tokenizer.
            batch_size: most rows of a forward pass.
            generator: an `evaluation.generation.Generator` that writes the answers; None = the model does.
        """


class SeparateTasks:
    """Tasks that share nothing: each is scored by itself."""

    def __init__(
        self,
        evaluator: Evaluator,
        tasks: Mapping[str, PreparedTask],
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
    ):
        self._evaluator, self._tasks = evaluator, tasks
        self._model, self._tokenizer, self._batch_size = model, tokenizer, batch_size

    def score(self, items: Mapping[str, Sequence[int]]) -> dict[str, ItemScores]:
        """Score each objective's items, in the order of their numbers.

        Raises:
            EvomergeError: the evaluator raised, whatever it was.
        """
        import torch

        from evomerge.evaluation._model_guard import settings_restored

        found = {}
        for name, ids in items.items():
            try:
                with torch.no_grad(), ExitStack() as apart:
                    if len(items) > 1:  # what a single one leaves behind is put back by who calls this
                        apart.enter_context(isolated_randomness())
                        apart.enter_context(settings_restored(self._model))
                    scores = self._evaluator.score(
                        self._tasks[name], sorted(ids), self._model, self._tokenizer, batch_size=self._batch_size
                    )
            except Exception as error:  # an evaluator may be anybody's
                if isinstance(error, EvomergeError) or memory_is_full(error):
                    raise
                text = f"{name}: the evaluator {self._evaluator.name} raised {type(error).__name__}: {error}"
                raise EvomergeError(text) from error
            found[name] = scores
        return found


def memory_is_full(error: BaseException) -> bool:
    """Tell whether an error of Python or torch means that memory does not suffice."""
    import torch

    # For the memory of a CPU, torch raises a plain RuntimeError: "[enforce fail ...] DefaultCPUAllocator: ..."
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
