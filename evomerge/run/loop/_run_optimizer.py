"""The optimizer of a run: where it starts, brought to where the ledger left it, and the gradients it asks for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from evomerge.engine import GradientTable
from evomerge.errors import EvomergeError
from evomerge.methods import Direction
from evomerge.optimizers import (
    BEGIN_AT_SPACE,
    GradientOptimizer,
    ItemOptimizer,
    LevelOptimizer,
    Optimizer,
    Proposal,
    StageOptimizer,
)
from evomerge.records import Candidate, ItemScores, Point
from evomerge.run._ledger import Ledger
from evomerge.run._ledger_rows import point_of, stored_point
from evomerge.run._objectives import fitness, item_values, values_of
from evomerge.run._progress import Observer
from evomerge.run.config._setup import Setup
from evomerge.run.loop._gene_slopes import GeneSlopes, gene_slopes
from evomerge.run.loop._resume import restored_optimizer
from evomerge.run.loop._state import SearchState

START = "start"  # the ledger's fact: name and point of the reference that an informed optimizer starts at
PLANNED = "planned"  # the ledger's fact: candidates of the whole search, about, when it was begun
LEVELS = "levels"  # the ledger's fact: [first proposal, name] of each level that has begun
UNKNOWN_CANDIDATES = 400  # that a search is taken to have whose budget is hours alone


def as_begun(setup: Setup, ledger: Ledger) -> Setup:
    """Return a search that goes on from where its run began, which few optimizers did at a reference once.

    Args:
        setup: of the search.
        ledger: of the run that it resumes.
    """
    if not setup.informed or ledger.meta(START) is not None or not ledger.candidates(kinds=("candidate",)):
        return setup
    return replace(setup, optimizer_options={**setup.optimizer_options, **BEGIN_AT_SPACE})


class RunOptimizer:
    """Proposes candidates and learns from them. An informed optimizer exists when the references are scored.

    Attributes:
        optimizer: None until it can start.
    """

    def __init__(self, setup: Setup, ledger: Ledger, observer: Observer):
        self._setup, self._ledger, self._observer = setup, ledger, observer
        self.optimizer: Optimizer | None = None
        self._with_gradient: set[int] = set()  # numbers of proposals that ask for a gradient
        self._slopes: GeneSlopes | str | None = None  # a text: why there are none
        self._notes: set[str] = set()

    @property
    def generation_size(self) -> int:
        """Number of proposals in the current generation; 1 before there is an optimizer."""
        return 1 if self.optimizer is None else self.optimizer.generation_size

    def restore(self, state: SearchState) -> None:
        """Create the optimizer if it needs nothing more, and repeat what the ledger says happened."""
        if state.numbers or self._ledger.meta(START) is not None or not self._setup.informed:
            self._create()

    def choose_start(self, references: Iterable[Candidate], floors: Mapping[str, float]) -> None:
        """Start at the best reference that is a point of the space. Call it within a transaction of the ledger.

        Args:
            references: with their scores, as far as they could be scored.
            floors: objective -> internal floor; whoever misses one is worse by that.
        """
        points, best = self._setup.reference_points, None
        for candidate in references:
            if candidate.name in points and "search" in candidate.scores:
                value = fitness(self._setup.objectives, values_of(candidate.scores["search"]), floors)
                if best is None or value > best[0]:
                    best = (value, candidate.name)
        name = None if best is None else best[1]
        self._ledger.set_meta(START, {"name": name, "point": None if name is None else stored_point(points[name])})
        if name is not None:
            self._observer.say(f"the search starts at {name}, the best reference of the space")
        self._create()

    def _create(self) -> None:
        start = (self._ledger.meta(START) or {}).get("point")
        point: Point | None = None if start is None else point_of(start)
        planned = self._ledger.meta(PLANNED)
        if planned is None and (self._setup.levels or self._setup.stages):
            planned = planned_candidates(self._setup)
            self._ledger.set_meta(PLANNED, planned)
        restored = restored_optimizer(self._setup, self._ledger, self._observer, point, planned=planned or 0)
        self.optimizer, self._with_gradient = restored.optimizer, set(restored.with_gradient)

    def ask(self) -> Proposal:
        """Return the next proposal.

        Raises:
            EvomergeError: the optimizer raised, whatever it was.
        """
        assert self.optimizer is not None
        with _said_by(self.optimizer):
            proposal = self.optimizer.ask()
        if isinstance(self.optimizer, LevelOptimizer | StageOptimizer):
            self._note_level(self.optimizer, proposal.number)
        if proposal.gradient:
            self._with_gradient.add(proposal.number)
        return proposal

    def tell(
        self,
        number: int,
        values: tuple[float, ...] | None,
        gradient: Sequence[float] | None,
        items: Mapping[str, ItemScores] | None,
    ) -> None:
        """Answer a proposal, with its gradient and the scores of its items if there are any.

        Raises:
            EvomergeError: the optimizer raised, whatever it was.
        """
        assert self.optimizer is not None
        with _said_by(self.optimizer):
            if items is not None and isinstance(self.optimizer, ItemOptimizer):
                self.optimizer.tell_items(number, item_values(self._setup.objectives, items))
            if gradient is not None and isinstance(self.optimizer, GradientOptimizer):
                self.optimizer.tell_gradient(number, gradient)
            self.optimizer.tell(number, values)

    def _note_level(self, optimizer: LevelOptimizer | StageOptimizer, number: int) -> None:
        """Record that a level of the space begins with a proposal, once."""
        name = optimizer.level_name
        begun = self._ledger.meta(LEVELS, [])
        if not begun or begun[-1][1] != name:
            self._ledger.set_meta(LEVELS, [*begun, [number, name]])
            self._observer.say(f"the search varies {name}: {optimizer.level_size} numbers")

    def directions(self, number: int | None) -> tuple[Direction, ...]:
        """Return the parameters by which derivatives are needed for a proposal; none if it asks for no gradient."""
        if number not in self._with_gradient:
            return ()
        if self._slopes is None:
            self._slopes = gene_slopes(self._setup)
            if isinstance(self._slopes, str):
                self.say_no_gradient(self._slopes)
            elif self._slopes.without:
                names, count = self._setup.space.coordinates, len(self._slopes.without)
                first = names[self._slopes.without[0]]
                self._observer.say(
                    f"{count} of {len(names)} numbers have no derivative ({first}{', ...' if count > 1 else ''}): only "
                    "the evolution varies them"
                )
        return self._slopes.directions if isinstance(self._slopes, GeneSlopes) else ()

    def gradient(self, table: GradientTable | None, point: Point | None) -> tuple[float, ...] | None:
        """Return the derivative by each real gene from what a worker found at a point."""
        if table is None or point is None or not isinstance(self._slopes, GeneSlopes):
            return None
        return self._slopes.gradient(table, point)

    def say_no_gradient(self, note: str) -> None:
        """Say, once, why the search goes on without gradients."""
        if note not in self._notes:
            self._notes.add(note)
            self._observer.say(f"the search goes on without gene gradients: {note}")


def planned_candidates(setup: Setup) -> int:
    """Return about how many candidates a search's budget allows for."""
    budget = setup.entry.budget
    if budget.candidates is not None:
        return budget.candidates
    if budget.items is not None:
        sampled = sum(not objective.exact for objective in setup.objectives)
        return max(1, budget.items // (setup.subset_items * sampled))
    return UNKNOWN_CANDIDATES


@contextmanager
def _said_by(optimizer: Optimizer) -> Iterator[None]:
    """Give the name of an optimizer to what it raises: it may be anybody's."""
    try:
        yield
    except EvomergeError:
        raise
    except Exception as error:
        raise EvomergeError(
            f"the optimizer {optimizer.name} raised {type(error).__name__}: {error}; what was scored is kept, and the "
            "same command goes on once it is corrected"
        ) from error
