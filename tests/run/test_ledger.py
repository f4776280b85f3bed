"""The ledger: all or nothing, readable while written, and never a traceback for a damaged file."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evomerge.errors import EvomergeError, InvalidInput
from evomerge.records import (
    Failure,
    ItemScores,
    Point,
    Score,
)
from evomerge.run import LEDGER, Ledger, Run, search
from tests.run.pico_search import NEW_RUN

ITEMS = {"acc": ItemScores(ids=(3, 5), values=(1.0, 0.0), weights=(1.0, 2.0), soft=(-0.1, -3.25))}
SCORES = {"acc": Score(value=0.5, stderr=0.5, n=2)}
POINT = Point(reals=(0.1, 1 / 3), integers=(2,), categories=(0, 1))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / LEDGER, {"state": "searching", "seconds": 0.0})


def add(ledger: Ledger, number: int | None = None, fingerprint: str = "f", subset: int = 0, **more: Any) -> int:
    return ledger.add(
        name="candidate {id}",
        kind="candidate",
        generation=0,
        subset=subset,
        recipe={"merge_method": "linear", "models": [{"model": "a"}]},
        fingerprint=fingerprint,
        point=POINT,
        number=number,
        **more,
    ).id


def score(ledger: Ledger, candidate: int) -> None:
    ledger.finish(candidate, failure=None, attempts=1, seconds=0.25, worker="inline")
    ledger.add_scores(candidate, "search", SCORES, ITEMS)


def test_everything_comes_back_as_it_was(ledger: Ledger) -> None:
    with ledger.transaction():
        first, second = add(ledger, number=0), add(ledger, number=1)
        score(ledger, first)
        ledger.tell(first, 0, (0.1 + 0.2, -1e-300))
        failure = Failure(kind="degenerate", reason='its "logits"', detail="two\nlines")
        ledger.finish(second, failure=failure, attempts=2, seconds=1.5, worker="ray-0")
        ledger.tell(second, 1, None)
    for opened in (ledger, Ledger.read(ledger.path)):
        one, two = opened.candidates()
        assert (one.id, one.name, one.point, one.state, one.seconds) == (0, "candidate 0", POINT, "scored", 0.25)
        assert one.scores == {"search": SCORES}
        assert (two.state, two.failure, two.worker, two.scores) == ("degenerate", failure, "ray-0", {})
        assert opened.items("search") == {0: ITEMS}
        assert opened.items("report") == {}
        assert [step[:3] for step in opened.steps()] == [("ask", 0, 0), ("ask", 1, 1), ("tell", 0, 0), ("tell", 1, 1)]
        assert [step.values for step in opened.steps()] == [None, None, (0.1 + 0.2, -1e-300), None]


def test_an_exception_inside_a_transaction_leaves_nothing(ledger: Ledger) -> None:
    add(ledger, number=0)
    for error in (RuntimeError("scorer"), KeyboardInterrupt()):
        with pytest.raises(type(error)), ledger.transaction():
            add(ledger, number=1)
            score(ledger, 0)
            ledger.tell(0, 0, (1.0,))
            ledger.set_meta("seconds", 5.0)
            raise error
        assert [each.state for each in ledger.candidates()] == ["running"]
        assert (ledger.items("search"), len(ledger.steps()), ledger.meta("seconds")) == ({}, 1, 0.0)
    with ledger.transaction():
        add(ledger, number=1)
    assert len(ledger.candidates()) == 2


def test_a_pool_is_scored_once(ledger: Ledger) -> None:
    with ledger.transaction():
        score(ledger, add(ledger))
    with pytest.raises(EvomergeError, match="UNIQUE"), ledger.transaction():
        ledger.set_meta("seconds", 7.0)
        ledger.add_scores(0, "search", SCORES, ITEMS)
    assert ledger.meta("seconds") == 0.0


def test_a_repeat_is_the_same_recipe_on_the_same_subset(ledger: Ledger) -> None:
    for number, (fingerprint, subset) in enumerate((("a", 0), ("a", 1), ("b", 0), ("a", 0))):
        add(ledger, number=number, fingerprint=fingerprint, subset=subset)
    assert ledger.find_original("a", 0) is None, "nothing is scored yet"
    score(ledger, 3)
    score(ledger, 1)
    wanted = {("a", 0): 3, ("a", 1): 1, ("b", 0): None, ("", 0): None}
    assert {key: ledger.find_original(*key) for key in wanted} == wanted
    failure = Failure(kind="infeasible", reason="no layer")
    ledger.finish(2, failure=failure, attempts=1, seconds=0.1, worker="inline")
    assert ledger.find_original("b", 7) == 2, "what cannot be built cannot be built on other items either"
    assert (ledger.failure_of(2), ledger.failure_of(3)) == (failure, None)


def test_a_repeat_has_the_items_of_its_original(ledger: Ledger) -> None:
    score(ledger, add(ledger, number=0))
    repeat = add(ledger, number=1, duplicate_of=0)
    ledger.finish(repeat, failure=None, attempts=0, seconds=0.0, worker="same as 0")
    ledger.add_scores(repeat, "search", SCORES, {})
    with sqlite3.connect(ledger.path) as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (1,)
    assert ledger.items("search") == {0: ITEMS, repeat: ITEMS}
    assert ledger.items_of(repeat, "search") == ITEMS
    assert (ledger.original_of(repeat), ledger.original_of(0)) == (0, None)
    assert ledger.repeats_at_end() == 1
    add(ledger, number=2, fingerprint="other")
    assert ledger.repeats_at_end() == 0


def test_readers_see_whole_transactions_while_one_is_open(ledger: Ledger) -> None:
    reader = Ledger.read(ledger.path)
    with ledger.transaction():
        score(ledger, add(ledger))
        assert reader.candidates() == []
        assert Ledger.read(ledger.path).items("search") == {}
    assert [each.state for each in reader.candidates()] == ["scored"]


def test_a_reader_cannot_write(ledger: Ledger) -> None:
    reader = Ledger.read(ledger.path)
    with pytest.raises(EvomergeError, match="cannot be written to"), reader.transaction():
        reader.set_meta("state", "done")
    assert ledger.meta("state") == "searching"


def test_a_full_disk_is_a_sentence_and_loses_nothing(ledger: Ledger) -> None:
    with ledger.transaction():
        score(ledger, add(ledger))
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(EvomergeError, match=r"cannot be written to .*full"), ledger.transaction():
        for number in range(500):
            add(ledger, number=number)
    ledger._db.execute("PRAGMA max_page_count=1000000")
    assert len(ledger.candidates()) == 1
    with ledger.transaction():
        add(ledger)


def test_a_ledger_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    class Unwritable:
        pass

    with pytest.raises(TypeError):
        Ledger.create(tmp_path / LEDGER, {"state": "searching", "odd": Unwritable()})
    assert not (tmp_path / LEDGER).exists()
    Ledger.create(tmp_path / LEDGER, NEW_RUN)
    assert Run(tmp_path).state == "searching"


def test_no_run_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InvalidInput, match="is no run"):
            Run(path)


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / LEDGER
    foreign = sqlite3.connect(tmp_path / "foreign")
    foreign.execute("CREATE TABLE person (name)")
    foreign.commit()
    noise = random.Random(0).randbytes(20_000)
    contents = [b"", b"text", noise, b"SQLite format 3\0" + noise, (tmp_path / "foreign").read_bytes()]
    for content in contents:
        path.write_bytes(content)
        for opened in (Ledger.read, Ledger.resume, lambda path: Run(path.parent)):
            with pytest.raises(InvalidInput, match=r"damaged|no ledger"):
                opened(path)
        assert path.read_bytes() == content


def test_a_newer_ledger_is_refused(ledger: Ledger) -> None:
    ledger._db.execute("PRAGMA user_version=99")
    for opened in (Ledger.read, Ledger.resume):
        with pytest.raises(InvalidInput, match=r"newer evomerge .format 99, this one knows"):
            opened(ledger.path)


def read_everything(folder: Path) -> None:
    run = Run(folder)
    run.summary()
    _ = (run.state, run.objectives, run.front, run.finalists, run.verdict, run.pick, run.fact("outlines"), run.cost())
    for pool in ("search", "select", "report"):
        run.items(pool)
    for each in run.candidates():
        run.recipe(each)
        run.mean_score(each, "search")


def test_flipped_bytes_never_give_a_traceback(run_search, tmp_path: Path) -> None:
    """Every reading of a damaged ledger works or ends in a sentence."""
    run = run_search(budget={"candidates": 6})
    whole = (run.path / LEDGER).read_bytes()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    chance = random.Random(1)
    refused = 0
    for offset in [*range(16, 128, 8), *range(128, len(whole), max(512, len(whole) // 150))]:
        content = bytearray(whole)
        for position in range(offset, min(offset + 4, len(whole))):
            content[position] ^= chance.randrange(1, 256)
        (damaged / LEDGER).write_bytes(content)
        try:
            read_everything(damaged)
        except EvomergeError as error:
            assert str(error)
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("change", ["DELETE FROM meta", "UPDATE meta SET value = '7'"])
@pytest.mark.parametrize("key", ["folder", "identity", "objectives", "search", "state"])
def test_a_ledger_without_a_fact_that_every_run_has_is_damaged(
    finished_run: Path, tmp_path: Path, key: str, change: str
) -> None:
    """As where a damaged page hides one row: for readers and for the search that would go on."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(finished_run / LEDGER, folder)
    with closing(sqlite3.connect(folder / LEDGER)) as db, db:
        db.execute(f"{change} WHERE key = ?", (key,))
    with pytest.raises(InvalidInput, match=f"is damaged .it does not say {key}.; restore it from a copy"):
        Run(folder)
    with pytest.raises(InvalidInput, match=f"it does not say {key}"):
        search(finished_run.parent / "search.yaml", folder)


def test_a_ledger_cut_short_never_gives_a_traceback(run_search, tmp_path: Path) -> None:
    run = run_search(budget={"candidates": 6})
    whole = (run.path / LEDGER).read_bytes()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for length in range(0, len(whole) - 1, max(700, len(whole) // 40)):
        (damaged / LEDGER).write_bytes(whole[:length])
        with pytest.raises(InvalidInput):
            read_everything(damaged)


def test_a_missing_end_shows_even_where_nothing_is_read(run_search, tmp_path: Path) -> None:
    run = run_search(budget={"candidates": 2})
    with closing(sqlite3.connect(run.path / LEDGER)) as connection:  # pages that are in use no more lie at the end
        for statement in ("CREATE TABLE filler (x)", "INSERT INTO filler VALUES (zeroblob(9000))", "DROP TABLE filler"):
            connection.execute(statement)
            connection.commit()
    read_everything(run.path)
    whole = (run.path / LEDGER).read_bytes()
    (run.path / LEDGER).write_bytes(whole[:-100])
    with pytest.raises(InvalidInput, match="its end is missing"):
        read_everything(run.path)
