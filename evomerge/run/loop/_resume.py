"""A fresh optimizer brought to where the ledger's asks and tells left the old one."""

from typing import NamedTuple

from evomerge.optimizers import (
    GradientOptimizer,
    ItemOptimizer,
    Optimizer,
    create,
    create_by_levels,
    create_by_stages,
    get,
)
from evomerge.records import Point
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import item_values
from evomerge.run._progress import Observer
from evomerge.run.config._setup import Setup


class Restored(NamedTuple):
    """An optimizer brought to where the ledger left it.

    Attributes:
        optimizer: the same as before.
        with_gradient: numbers of its proposals so far that wanted a gradient.
    """

    optimizer: Optimizer
    with_gradient: frozenset[int]


def restored_optimizer(
    setup: Setup, ledger: Ledger, observer: Observer, start: Point | None = None, *, planned: int = 0
) -> Restored:
    """Return the run's optimizer in the state that the ledger describes.

    Replaying the recorded calls gives the recorded points, because an optimizer is a function of its calls. After an
    upgrade of its library it may not; then the recorded points are injected instead, so that the optimizer learns from
    what was scored.

    Args:
        setup: of the search.
        ledger: of the run.
        observer: hears of a replay that gave other points, and of start recipes that are no points of the space.
        start: where it starts, if that was chosen among the references; None = at the space's start, with the user's
            own recipes as its first proposals.
        planned: candidates of the whole search, about, as it was begun.
    """
    optimizer = _fresh(setup, observer, start, planned)
    asked = _replayed(setup, optimizer, ledger, forced=False)
    if asked is not None:
        return Restored(optimizer, asked)
    observer.say("the optimizer's library now proposes other points than it did; it gets the recorded ones instead")
    optimizer = _fresh(setup, observer, start, planned, forced=True)
    return Restored(optimizer, _replayed(setup, optimizer, ledger, forced=True) or frozenset())


def _fresh(setup: Setup, observer: Observer, start: Point | None, planned: int, *, forced: bool = False) -> Optimizer:
    """Return a new optimizer with nothing queued if `forced`, else with the start points as its first proposals."""
    optimizer = _created(setup, start or setup.space.start, planned)
    if forced:
        # Where there is no mean, the start would be a proposal of its own, before the recorded ones.
        return optimizer if optimizer.mean() is not None else _created(setup, None, planned)
    points = _start_points(setup, observer) if start is None else []
    if points:
        optimizer.inject(points)
    return optimizer


def _created(setup: Setup, start: Point | None, planned: int) -> Optimizer:
    if setup.levels:
        return create_by_levels(
            setup.optimizer,
            setup.space.domain,
            setup.levels,
            seed=setup.entry.seed,
            start=start or setup.space.start,
            planned=planned,
            options=setup.optimizer_options,
        )
    if setup.stages:
        return create_by_stages(
            setup.optimizer,
            setup.space.domain,
            setup.stages,
            objectives=len(setup.objectives),
            seed=setup.entry.seed,
            start=start or setup.space.start,
            planned=planned,
            options=setup.optimizer_options,
        )
    return create(
        setup.optimizer,
        setup.space.domain,
        objectives=len(setup.objectives),
        seed=setup.entry.seed,
        start=start,
        options=setup.optimizer_options,
    )


def _start_points(setup: Setup, observer: Observer) -> list[Point]:
    """Return the user's own recipes as points, where the space contains them; all references for an `ItemOptimizer`."""
    points = []
    for reference in setup.references:
        if reference.kind == "control":
            try:
                points.append(setup.encode(reference.document))
            except ValueError as error:
                observer.say(f"{reference.name} is scored and compared with, but is no point of the space ({error})")
    return list(setup.reference_points.values()) if get(setup.optimizer).items else points


def _replayed(setup: Setup, optimizer: Optimizer, ledger: Ledger, *, forced: bool) -> frozenset[int] | None:
    """Repeat every recorded ask and tell.

    Returns:
        Numbers of the proposals that wanted a gradient; None at the first ask that gives another point than then.
    """
    with_gradient = set()
    points = {candidate.id: candidate.point for candidate in ledger.each_candidate() if candidate.kind == "candidate"}
    for step in ledger.steps():
        if step.kind == "gradient":
            if isinstance(optimizer, GradientOptimizer):
                optimizer.tell_gradient(step.number, step.values or ())
            continue
        if step.kind == "tell":
            if step.values is not None and isinstance(optimizer, ItemOptimizer):
                items = ledger.items_of(step.candidate, "search")
                optimizer.tell_items(step.number, item_values(setup.objectives, items))
            optimizer.tell(step.number, step.values)
            continue
        recorded = points[step.candidate]
        assert recorded is not None
        if forced:
            optimizer.inject([recorded])
        proposal = optimizer.ask()
        if proposal.point != recorded:
            return None
        if proposal.gradient:
            with_gradient.add(proposal.number)
    return frozenset(with_gradient)
