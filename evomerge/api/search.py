"""`evomerge.search`: search for the best merge, or resume the search, and write the run's page into its folder."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec, cast

from evomerge import results, run
from evomerge.errors import first_line
from evomerge.run import Observer, Run, SilentObserver

P = ParamSpec("P")
HINT = "Ctrl-C stops after the current candidates; the same call resumes."


def _reported(searching: Callable[P, Run]) -> Callable[P, Run]:
    """Return a function with the same arguments that also writes report.html."""

    @wraps(searching)
    def search(*arguments: P.args, **options: P.kwargs) -> Run:
        if options.get("observer") is not None:
            found = searching(*arguments, **options)
            _write_report(found, cast(Observer, options["observer"]))
            return found
        with _own_view(str(options.get("out", arguments[1] if len(arguments) > 1 else ""))) as observer:
            options["observer"] = observer
            found = searching(*arguments, **options)
            _write_report(found, observer)
        if found.state != "done":
            warnings.warn(
                f"the search was interrupted while {found.state}; everything so far is in {found.path}, and the same "
                "call goes on",
                RuntimeWarning,
                stacklevel=2,
            )
        return found

    return search


search = _reported(run.search)


@contextmanager
def _own_view(out: str) -> Iterator[Observer]:
    """Show progress where somebody looks on: in a terminal or a notebook; else nothing."""
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        with results.live_view(Path(out), sys.stderr, hint=HINT) as view:
            yield view
    else:
        yield SilentObserver()


def _write_report(found: Run, observer: Observer) -> None:
    """Write the run's page into its folder; a page that cannot be written takes nothing from the result."""
    try:
        results.write_report(found)
    except Exception as error:
        observer.say(f"report.html is not written: {first_line(error)}; `evomerge report {found.path}` tries again")
