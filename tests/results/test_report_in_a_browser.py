"""The report in a real browser: desktop, phone and dark, for each kind of outcome; screenshots are kept where wanted.

`make screenshots` keeps them in build/screenshots; so does every run of these tests in the folder EVOMERGE_SCREENSHOTS.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from evomerge.results import write_report
from evomerge.run import Run, search
from tests.browser import Browser, browser, browser_path
from tests.large_run import make_large_run
from tests.run.pico_search import write_search

pytestmark = pytest.mark.skipif(browser_path() is None, reason="there is no Chromium here")

MAX_SECONDS = 2.0
VIEWS = {"desktop": (1200, False), "phone": (390, False), "dark": (390, True)}
STACK = {"method": "passthrough", "genes": {"source": {"per": "layer"}, "repeat": {"per": "layer", "range": [0, 2]}}}


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    """A browser that has shown a page already: the first waits for the browser itself."""
    with browser() as found:
        found.visit("about:blank")
        yield found


@pytest.fixture(scope="module")
def pages(
    finished_run: Path, large_run: Path, pico: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The page of each kind of run."""
    root = tmp_path_factory.mktemp("pages")
    stack = search(write_search(root / "stack", pico, space=STACK, budget={"candidates": 12}), root / "stack" / "run")
    runs = {
        "gain": Run(large_run),
        "kept": Run(make_large_run(root / "kept", 60, gain=-0.2)),
        "stack": stack,
        "one_objective": Run(finished_run),
    }
    return {name: write_report(run, root / f"{name}.html") for name, run in runs.items()}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["gain", "kept", "stack", "one_objective"])
def test_a_page_in_a_browser(kind: str, view: str, opened: Browser, pages: dict[str, Path]) -> None:
    width, dark = VIEWS[view]
    visit = opened.visit(pages[kind], width=width, dark=dark)
    for _ in range(4):  # on a busy machine, a visit can take long whatever the page
        if visit.seconds < MAX_SECONDS:
            break
        visit = opened.visit(pages[kind], width=width, dark=dark)
    if "EVOMERGE_SCREENSHOTS" in os.environ:
        folder = Path(os.environ["EVOMERGE_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{kind}-{view}.png").write_bytes(visit.screenshot)
    assert visit.messages == [], "nothing on the console"
    assert visit.requests == [pages[kind].resolve().as_uri()], "and no request but the page itself"
    assert visit.overflow <= 0, "nothing makes the page wider than a phone"
    assert visit.seconds < MAX_SECONDS
    assert visit.screenshot.startswith(b"\x89PNG") and len(visit.screenshot) > 20_000
