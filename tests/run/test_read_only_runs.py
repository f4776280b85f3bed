"""Runs in folders that cannot be written: finished, interrupted, left by a killed driver, and while a driver writes."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evomerge.errors import InvalidInput
from evomerge.records import ItemScores, Score
from evomerge.run import LEDGER, Ledger, Run, search
from tests.run.pico_search import NEW_RUN

NOBODY = 65534
ITEMS = {"acc": ItemScores(ids=(3, 5), values=(1.0, 0.0))}
SCORES = {"acc": Score(value=0.5, stderr=0.5, n=2)}


@contextmanager
def without_rights() -> Iterator[None]:
    """Run as a user who is not root, for whom the mode of a folder counts."""
    if os.name != "posix":
        pytest.skip("this system knows no modes of folders")
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except OSError as error:
        pytest.skip(f"this process cannot become another user ({error})")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def run_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="evomerge-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def written(folder: Path) -> Ledger:
    """Return the open ledger of a run with one scored candidate."""
    ledger = Ledger.create(folder / LEDGER, NEW_RUN)
    add(ledger)
    return ledger


def add(ledger: Ledger) -> None:
    with ledger.transaction():
        candidate = ledger.add(
            name="candidate {id}", kind="candidate", generation=0, subset=0, recipe={}, fingerprint="f", number=0
        ).id
        ledger.finish(candidate, failure=None, attempts=1, seconds=0.1, worker="inline")
        ledger.add_scores(candidate, "search", SCORES, ITEMS)


def seal(folder: Path) -> dict[str, bytes]:
    """Take away the right to write; return the files."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def assert_reads(folder: Path, candidates: int) -> None:
    with without_rights():
        with pytest.raises(PermissionError):
            (folder / "new").touch()
        run = Run(folder)
        assert run.state == "searching"
        assert [candidate.state for candidate in run.candidates()] == ["scored"] * candidates
        assert run.items("search") == dict.fromkeys(range(candidates), ITEMS)


def test_a_closed_ledger_is_one_plain_file(run_folder: Path) -> None:
    written(run_folder).close()
    assert [file.name for file in run_folder.iterdir()] == [LEDGER]
    with sqlite3.connect(run_folder / LEDGER) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()
    before = seal(run_folder)
    assert_reads(run_folder, 1)
    assert {file.name: file.read_bytes() for file in run_folder.iterdir()} == before


def test_a_closed_ledger_can_be_resumed(run_folder: Path) -> None:
    written(run_folder).close()
    ledger = Ledger.resume(run_folder / LEDGER)
    add(ledger)
    assert len(Run(run_folder).candidates()) == 2, "readers see it at once"
    ledger.close()
    seal(run_folder)
    assert_reads(run_folder, 2)


def test_a_ledger_whose_driver_was_killed(run_folder: Path, tmp_path: Path) -> None:
    """The newest candidate is in the log alone."""
    ledger = written(run_folder)
    ledger._db.execute("PRAGMA wal_autocheckpoint=0")
    ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    add(ledger)
    killed = tmp_path / "killed"
    shutil.copytree(run_folder, killed)
    ledger.close()
    for names in ((LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm"), (LEDGER, f"{LEDGER}-wal")):
        run_folder.chmod(0o755)
        for file in run_folder.iterdir():
            file.unlink()
        for name in names:
            shutil.copyfile(killed / name, run_folder / name)
        before = seal(run_folder)
        assert_reads(run_folder, 2)
        assert {file.name: file.read_bytes() for file in run_folder.iterdir()} == before


def test_a_ledger_of_an_older_evomerge_is_left_in_write_ahead_mode(run_folder: Path) -> None:
    ledger = written(run_folder)
    ledger._db.close()  # as it was closed then: one file, that says there is a log
    assert [file.name for file in run_folder.iterdir()] == [LEDGER]
    seal(run_folder)
    assert_reads(run_folder, 1)


def test_a_run_that_another_user_is_writing(run_folder: Path) -> None:
    ledger = written(run_folder)
    assert_reads_now: Callable[[int], None] = lambda candidates: assert_reads(run_folder, candidates)  # noqa: E731
    seal(run_folder)
    assert_reads_now(1)
    add(ledger)
    assert_reads_now(2)
    ledger.close()


def test_a_folder_that_cannot_be_written_cannot_be_resumed(run_folder: Path) -> None:
    written(run_folder).close()
    seal(run_folder)
    with without_rights(), pytest.raises(InvalidInput, match="cannot be written to"):
        Ledger.resume(run_folder / LEDGER)


def test_a_reader_does_not_keep_a_run_from_closing(run_folder: Path) -> None:
    ledger = written(run_folder)
    reader = Run(run_folder)
    assert len(reader.candidates()) == 1
    ledger.close()
    assert len(reader.candidates()) == len(Run(run_folder).candidates()) == 1


def test_a_finished_search_leaves_one_plain_file(search_file: Path, tmp_path: Path) -> None:
    search(search_file, tmp_path / "run", candidates=2)
    assert [file.name for file in (tmp_path / "run").glob(f"{LEDGER}*")] == [LEDGER]
