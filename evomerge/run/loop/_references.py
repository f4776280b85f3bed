"""What the references tell, once all are scored: that nothing can be, or that objectives are in different units."""

from collections.abc import Iterable

from evomerge.errors import NothingScored
from evomerge.records import Candidate
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import displayed_value
from evomerge.run._progress import Observer
from evomerge.run.config import uneven_scales
from evomerge.run.config._setup import Setup

NOTES = "notes"  # the ledger's fact: sentences for the user


def all_failed(references: Iterable[Candidate]) -> bool:
    """Return whether scoring raised for every reference: no merge is the reason, as the parents are among them."""
    states = {reference.state for reference in references}
    return states == {"failed"}


def check_references(references: Iterable[Candidate], setup: Setup, ledger: Ledger, observer: Observer) -> None:
    """Look at the references once all are finished.

    Args:
        references: with their scores or failures.
        setup: the checked search.
        ledger: gets a note if objectives that are averaged are in different units.
        observer: hears of it.

    Raises:
        NothingScored: scoring raised for every one of them.
    """
    found = list(references)
    if all_failed(found):
        failure, first = found[-1].failure, found[0].id
        assert failure is not None
        raise NothingScored(
            f"none of the {len(found)} references could be scored, parents included, so the scorer or this machine is "
            f"at fault and no merge was tried: {failure.reason}. `evomerge explain {ledger.path.parent} {first}` shows "
            "where. Once that is corrected the same command tries them again; a scorer whose code has changed needs "
            "another --out"
        )
    scored = [reference.scores["search"] for reference in found if "search" in reference.scores]
    values = {o.name: [displayed_value(o, scores[o.name].value) for scores in scored] for o in setup.objectives}
    warning = uneven_scales(setup.objectives, values)
    if warning and warning not in ledger.meta(NOTES, []):
        ledger.set_meta(NOTES, [*ledger.meta(NOTES, []), warning])
        observer.say(f"note: {warning}")
