"""A fresh optimizer brought to where the ledger's asks and tells left the old one."""

from evomerge.optimizers import Optimizer, create
from evomerge.records import Point
from evomerge.run._ledger import Ledger
from evomerge.run._progress import Observer
from evomerge.run.config._setup import Setup


def restored_optimizer(setup: Setup, ledger: Ledger, observer: Observer) -> Optimizer:
    """Return the run's optimizer in the state that the ledger describes.

    Replaying the recorded calls gives the recorded points, because an optimizer is a function of its calls. After an
    upgrade of its library it may not; then the recorded points are injected instead, so that the optimizer learns from
    what was scored.

    Args:
        setup: of the search.
        ledger: of the run.
        observer: hears of a replay that gave other points, and of start recipes that are no points of the space.
    """
    optimizer = _fresh(setup, observer)
    if _replayed(optimizer, ledger, forced=False):
        return optimizer
    observer.say("the optimizer's library now proposes other points than it did; it gets the recorded ones instead")
    optimizer = _fresh(setup, observer, forced=True)
    _replayed(optimizer, ledger, forced=True)
    return optimizer


def _fresh(setup: Setup, observer: Observer, *, forced: bool = False) -> Optimizer:
    """Return a new optimizer with nothing queued if `forced`, else with the start points as its first proposals."""
    if forced:
        # Where there is no mean, the start would be a proposal of its own, before the recorded ones.
        optimizer = _created(setup, setup.space.start)
        return optimizer if optimizer.mean() is not None else _created(setup, None)
    optimizer = _created(setup, setup.space.start)
    points = _start_points(setup, observer)
    if points:
        optimizer.inject(points)
    return optimizer


def _created(setup: Setup, start: Point | None) -> Optimizer:
    return create(
        setup.optimizer,
        setup.space.domain,
        objectives=len(setup.objectives),
        seed=setup.entry.seed,
        start=start,
        options=setup.optimizer_options,
    )


def _start_points(setup: Setup, observer: Observer) -> list[Point]:
    """Return the user's own recipes as points, where the space contains them."""
    points = []
    for reference in setup.references:
        if reference.kind == "control":
            try:
                points.append(setup.space.encode(reference.document))
            except ValueError as error:
                observer.say(f"{reference.name} is scored and compared with, but is no point of the space ({error})")
    return points


def _replayed(optimizer: Optimizer, ledger: Ledger, *, forced: bool) -> bool:
    """Repeat every recorded ask and tell; False at the first ask that gives another point than it gave then."""
    points = {candidate.id: candidate.point for candidate in ledger.each_candidate() if candidate.kind == "candidate"}
    for step in ledger.steps():
        if step.kind == "tell":
            optimizer.tell(step.number, step.values)
            continue
        recorded = points[step.candidate]
        assert recorded is not None
        if forced:
            optimizer.inject([recorded])
        if optimizer.ask().point != recorded:
            return False
    return True
