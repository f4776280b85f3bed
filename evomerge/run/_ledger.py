"""The ledger: one SQLite file that holds everything a run knows. What is not in it did not happen.

Write-ahead log, synchronous FULL, one writer. Every result is one transaction: the candidate's state, its scores, its
items and what the optimizer is about to be told. Resuming replays the `step` table into a fresh optimizer.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evomerge.errors import EvomergeError, InvalidInput
from evomerge.records import (
    Candidate,
    Failure,
    ItemScores,
    Kind,
    Point,
    Pool,
    Score,
    Scores,
)

VERSION = 1

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE candidate (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, generation INTEGER NOT NULL, subset INTEGER NOT NULL,
  number INTEGER, point TEXT, recipe TEXT NOT NULL, fingerprint TEXT NOT NULL, same_as INTEGER, state TEXT NOT NULL,
  failure TEXT, attempts INTEGER NOT NULL DEFAULT 0, seconds REAL, worker TEXT);
CREATE INDEX candidate_fingerprint ON candidate (fingerprint, subset);
CREATE TABLE score (
  candidate INTEGER NOT NULL, pool TEXT NOT NULL, objective TEXT NOT NULL, value REAL NOT NULL, stderr REAL NOT NULL,
  n INTEGER NOT NULL, PRIMARY KEY (candidate, pool, objective));
CREATE TABLE item (
  candidate INTEGER NOT NULL, pool TEXT NOT NULL, objective TEXT NOT NULL, ids TEXT NOT NULL, vals TEXT NOT NULL,
  weights TEXT, soft TEXT, PRIMARY KEY (candidate, pool, objective));
CREATE TABLE step (
  seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, candidate INTEGER NOT NULL, number INTEGER NOT NULL, vals TEXT);
"""


class Step(NamedTuple):
    """One thing that happened between run and optimizer. values: what was told; None = not scored (or an ask)."""

    kind: Literal["ask", "tell"]
    candidate: int
    number: int
    values: tuple[float, ...] | None


class Ledger:
    """Reads and writes one run's SQLite file. Open it with `create`, `resume` or `read`."""

    def __init__(self, connection: sqlite3.Connection, path: Path):
        self._db, self.path = connection, path

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, Any]) -> "Ledger":
        """Start a new ledger; it appears under its name only when it is whole."""
        draft = path.with_name(f".{path.name}.new")
        draft.unlink(missing_ok=True)
        connection = sqlite3.connect(draft, isolation_level=None)
        connection.executescript(
            "PRAGMA synchronous=FULL; BEGIN;" + _SCHEMA + f"PRAGMA user_version={VERSION}; COMMIT;"
        )
        rows = [(key, json.dumps(value)) for key, value in meta.items()]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        connection.close()
        draft.rename(path)
        return cls.resume(path)

    @classmethod
    def resume(cls, path: Path) -> "Ledger":
        """Open an existing ledger for writing.

        Raises:
            InvalidInput: not a ledger, damaged, or written by a newer evomerge.
        """
        ledger = cls(_connect(path, "rw"), path)
        try:
            ledger._db.execute("PRAGMA journal_mode=WAL")
            ledger._db.execute("PRAGMA synchronous=FULL")
        except sqlite3.DatabaseError as error:
            raise InvalidInput(f"{path}: cannot be written to ({error})") from None
        return ledger

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        """Open a ledger for reading only; a run may be writing to it."""
        return cls(_connect(path, "ro"), path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self, *, results: bool = True) -> Iterator[None]:
        """Everything inside is committed together, or not at all.

        results: whether the commit must outlive a power cut. Asks need not: one that is lost was never scored, and is
        asked again; a killed process loses neither.
        """
        try:
            self._db.execute(f"PRAGMA synchronous={'FULL' if results else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # SQLite has rolled back by itself after some errors, such as a full disk
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise EvomergeError(
                    f"{self.path}: cannot be written to ({error}); nothing that was recorded is lost, "
                    "and the same command goes on from there"
                ) from error
            raise

    def meta(self, key: str, default: Any = None) -> Any:
        """Return a fact about the run."""
        with reading(self.path):
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            return default if row is None else json.loads(row[0])

    def set_meta(self, key: str, value: Any) -> None:
        """Record a fact about the run."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def add(
        self,
        *,
        name: str,
        kind: Kind,
        generation: int,
        subset: int,
        recipe: Mapping[str, Any],
        fingerprint: str,
        point: Point | None = None,
        number: int | None = None,
        same_as: int | None = None,
    ) -> int:
        """Add a candidate in state "running" and return its id; with a proposal number, also the ask behind it."""
        (candidate,) = self._db.execute("SELECT coalesce(max(id), -1) + 1 FROM candidate").fetchone()
        self._db.execute(
            "INSERT INTO candidate"
            " (id, name, kind, generation, subset, number, point, recipe, fingerprint, same_as, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'running')",
            (
                candidate,
                name.replace("{id}", str(candidate)),
                kind,
                generation,
                subset,
                number,
                None if point is None else json.dumps(_plain_point(point)),
                json.dumps(recipe),
                fingerprint,
                same_as,
            ),
        )
        if number is not None:
            self._step("ask", candidate, number, None)
        return int(candidate)

    def finish(
        self,
        candidate: int,
        *,
        failure: Failure | None,
        attempts: int,
        seconds: float,
        worker: str,
    ) -> None:
        """Set a candidate's final state."""
        self._db.execute(
            "UPDATE candidate SET state = ?, failure = ?, attempts = ?, seconds = ?, worker = ? WHERE id = ?",
            (
                failure.kind if failure else "scored",
                json.dumps(asdict(failure)) if failure else None,
                attempts,
                seconds,
                worker,
                candidate,
            ),
        )

    def add_scores(self, candidate: int, pool: Pool, scores: Scores, items: Mapping[str, ItemScores]) -> None:
        """Record one pool's scores and items of a candidate; a pool is scored once."""
        self._db.executemany(
            "INSERT INTO score VALUES (?, ?, ?, ?, ?, ?)",
            [(candidate, pool, name, score.value, score.stderr, score.n) for name, score in scores.items()],
        )
        self._db.executemany(
            "INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    candidate,
                    pool,
                    name,
                    _ids(each.ids),
                    json.dumps(each.values),
                    None if each.weights is None else json.dumps(each.weights),
                    None if each.soft is None else json.dumps(each.soft),
                )
                for name, each in items.items()
            ],
        )

    def tell(self, candidate: int, number: int, values: Sequence[float] | None) -> None:
        """Record what the optimizer is about to be told."""
        self._step("tell", candidate, number, values)

    def _step(self, kind: str, candidate: int, number: int, values: Sequence[float] | None) -> None:
        row = (kind, candidate, number, None if values is None else json.dumps(list(values)))
        self._db.execute("INSERT INTO step (kind, candidate, number, vals) VALUES (?, ?, ?, ?)", row)

    def steps(self) -> list[Step]:
        """Return all asks and tells in their order."""
        with reading(self.path):
            rows = self._db.execute("SELECT kind, candidate, number, vals FROM step ORDER BY seq")
            return [Step(k, c, n, None if v is None else tuple(json.loads(v))) for k, c, n, v in rows]

    def candidates(self, *, kinds: Sequence[Kind] | None = None) -> list[Candidate]:
        """Return all candidates (of some kinds) with the scores of every pool, by id."""
        return [each for each in self.each_candidate() if kinds is None or each.kind in kinds]

    def each_candidate(self) -> Iterator[Candidate]:
        """Yield all candidates as `candidates` returns them: the recipes of a whole night need not fit into memory."""
        with reading(self.path):
            yield from self._candidates()

    def _candidates(self) -> Iterator[Candidate]:
        scores: dict[int, dict[Pool, dict[str, Score]]] = {}
        for identity, pool, name, value, stderr, n in self._db.execute("SELECT * FROM score ORDER BY rowid"):
            entry = scores.setdefault(identity, {}).setdefault(pool, {})
            entry[name] = Score(value=value, stderr=stderr, n=n)
        rows = self._db.execute(
            "SELECT id, name, kind, generation, subset, point, recipe, state, failure, seconds, worker"
            " FROM candidate ORDER BY id"
        )
        for row in rows:
            yield _candidate(row, scores.get(row[0], {}))

    def items(self, pool: Pool, *, soft: bool = True) -> dict[int, dict[str, ItemScores]]:
        """Return candidate -> objective -> item scores of one pool. soft: with the soft scores, where there are any."""
        with reading(self.path):
            return self._items("pool = ?", (pool,), soft)

    def items_of(self, candidate: int, pool: Pool) -> dict[str, ItemScores]:
        """Return objective -> item scores of a candidate."""
        with reading(self.path):
            return self._items("candidate = ? AND pool = ?", (candidate, pool), True)[candidate]

    def _items(self, where: str, which: tuple[Any, ...], with_soft: bool) -> dict[int, dict[str, ItemScores]]:
        found: dict[int, dict[str, ItemScores]] = {}
        query = f"SELECT candidate, objective, ids, vals, weights, soft FROM item WHERE {where} ORDER BY candidate"
        numbers: dict[float, float] = {}  # one object for each value, as most metrics have few
        for candidate, name, ids, values, weights, soft in self._db.execute(query, which):
            found.setdefault(candidate, {})[name] = ItemScores(
                ids=_stored_ids(ids),
                values=tuple(numbers.setdefault(value, value) for value in json.loads(values)),
                weights=None if weights is None else tuple(json.loads(weights)),
                soft=None if soft is None or not with_soft else tuple(json.loads(soft)),
            )
        return found

    def twin(self, fingerprint: str, subset: int) -> int | None:
        """Return the scored candidate that is the same recipe on the same subset, or None."""
        row = self._db.execute(
            "SELECT id FROM candidate WHERE fingerprint = ? AND subset = ? AND state = 'scored' ORDER BY id LIMIT 1",
            (fingerprint, subset),
        ).fetchone()
        return None if row is None else int(row[0])


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever damaged content of a ledger raises into one sentence."""
    try:
        yield
    except EvomergeError:
        raise
    except (sqlite3.Error, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise InvalidInput(f"{path}: is damaged ({type(error).__name__}: {error}); restore it from a copy") from error


def _candidate(row: Sequence[Any], scores: Mapping[Pool, Scores]) -> Candidate:
    identity, name, kind, generation, subset, point, recipe, state, failure, seconds, worker = row
    return Candidate(
        id=identity,
        name=name,
        kind=kind,
        generation=generation,
        subset=subset,
        point=None if point is None else _point(json.loads(point)),
        recipe=json.loads(recipe),
        state=state,
        failure=None if failure is None else Failure(**json.loads(failure)),
        scores=scores,
        seconds=seconds,
        worker=worker,
    )


@lru_cache(maxsize=64)
def _ids(ids: tuple[int, ...]) -> str:
    """Return item ids as they are stored; all candidates of a generation have the same."""
    return json.dumps(ids)


@lru_cache(maxsize=64)
def _stored_ids(text: str) -> tuple[int, ...]:
    """Return item ids from what `_ids` made of them."""
    return tuple(json.loads(text))


def _plain_point(point: Point) -> dict[str, Any]:
    return {"reals": point.reals, "integers": point.integers, "categories": point.categories}


def _point(plain: Mapping[str, Any]) -> Point:
    return Point(**{name: tuple(values) for name, values in plain.items()})


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open and check a ledger; a stranger's file is data, never code."""
    if not path.is_file():
        raise InvalidInput(f"{path.parent}: is no run (it holds no {path.name})")
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=30
        )
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('meta', 'step')").fetchone()
    except sqlite3.DatabaseError as error:
        raise InvalidInput(f"{path}: is damaged or no ledger ({error})") from None
    if version > VERSION:
        raise InvalidInput(f"{path}: was written by a newer evomerge (format {version}, this one knows {VERSION})")
    if tables != 2 or version < 1:
        raise InvalidInput(f"{path}: is a database, but no ledger of a run")
    return connection
