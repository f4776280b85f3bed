"""`evomerge.search`: search for the best merge, or resume the search, and write the run's page into its folder."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, cast

from evomerge import results, run
from evomerge.errors import first_line
from evomerge.run import Observer, Run

P = ParamSpec("P")


def _reported(searching: Callable[P, Run]) -> Callable[P, Run]:
    """Return a function with the same arguments that also writes report.html."""

    @wraps(searching)
    def search(*arguments: P.args, **options: P.kwargs) -> Run:
        found = searching(*arguments, **options)
        _write_report(found, cast(Observer | None, options.get("observer")))
        return found

    return search


search = _reported(run.search)


def _write_report(found: Run, observer: Observer | None) -> None:
    """Write the run's page into its folder; a page that cannot be written takes nothing from the result."""
    try:
        results.write_report(found)
    except Exception as error:
        if observer is not None:
            observer.say(f"report.html is not written: {first_line(error)}; `evomerge report {found.path}` tries again")
