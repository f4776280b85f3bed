"""A search over pico parents with plain Python scorers: real merges, no language, milliseconds a candidate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evomerge.run import Run, search
from tests.run.pico_search import write_search


@pytest.fixture(autouse=True)
def _answers_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers trust their first merge: it takes as long as ten candidates, and test_answer_check.py tests it."""
    monkeypatch.setattr("evomerge.run.workers._candidate_scorer.answer_check", lambda *given: None)


@pytest.fixture
def search_file(pico: dict[str, Path], tmp_path: Path) -> Path:
    """A search file that inline candidates of about 10 ms go through."""
    return write_search(tmp_path, pico)


@pytest.fixture
def run_search(pico: dict[str, Path], tmp_path: Path) -> Callable[..., Run]:
    """Write a search file with changes and run it: (out="run", **changes) -> the run."""

    def run(out: str = "run", *, overrides: dict[str, Any] | None = None, **changes: Any) -> Run:
        return search(write_search(tmp_path, pico, **changes), tmp_path / out, **(overrides or {}))

    return run
