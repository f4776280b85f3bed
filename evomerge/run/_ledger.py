"""The ledger: one SQLite file that holds everything a run knows. What is not in it did not happen.

One writer; a write-ahead log and synchronous FULL while it writes, a single plain file once it has closed. Every result
is one transaction: the candidate's state, its scores, its items and the values for the optimizer. Resuming
replays the `step` table into a fresh optimizer.

A candidate that repeats a finished one (the same recipe on the same items; column `same_as`) has scores but no items of
its own: reading returns those of the original.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evomerge.errors import EvomergeError
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
from evomerge.run._ledger_file import SCHEMA, VERSION, leave_plain, open_for_reading, open_for_writing, reading
from evomerge.run._ledger_rows import (
    CANDIDATE_COLUMNS,
    candidate_of,
    ids_of,
    stored_ids,
    stored_point,
    stored_values,
    values_and_parts,
)

MAX_FAILED_TRIES = 3  # candidates of one recipe on one subset that fail, before the next takes over their failure


class Step(NamedTuple):
    """One thing that happened between run and optimizer.

    Attributes:
        kind: "ask", "gradient" (just before its tell) or "tell".
        candidate: whom it was about.
        number: the optimizer's number of it.
        values: the objective values of a tell, None = not scored; the derivatives by the genes of a gradient.
    """

    kind: Literal["ask", "gradient", "tell"]
    candidate: int
    number: int
    values: tuple[float, ...] | None


class Ledger:
    """Reads and writes one run's SQLite file. Open it with `create`, `resume` or `read`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, writes: bool = False):
        self._db, self.path, self._writes = connection, path, writes

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, Any]) -> "Ledger":
        """Start a new ledger; it appears under its name only when it is whole."""
        rows = [(key, json.dumps(value)) for key, value in meta.items()]
        draft = path.with_name(f".{path.name}.new")
        draft.unlink(missing_ok=True)
        connection = sqlite3.connect(draft, isolation_level=None)
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript("BEGIN;" + SCHEMA + f"PRAGMA user_version={VERSION};")
        connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        connection.execute("COMMIT")  # one for all: each waits for the disk
        connection.close()
        draft.rename(path)
        return cls.resume(path)

    @classmethod
    def resume(cls, path: Path) -> "Ledger":
        """Open an existing ledger for writing.

        Raises:
            InvalidInput: not a ledger, damaged, or written by a newer evomerge.
        """
        return cls(open_for_writing(path), path, writes=True)

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        """Open a ledger for reading only: while a run writes to it, or in a folder that cannot be written.

        Raises:
            InvalidInput: not a ledger, damaged, or written by a newer evomerge.
        """
        return cls(open_for_reading(path), path)

    def close(self) -> None:
        """Close the file; a writer leaves a single plain file that can be read from a read-only folder."""
        if self._writes:
            leave_plain(self._db)
        self._db.close()

    @contextmanager
    def transaction(self, *, results: bool = True) -> Iterator[None]:
        """Everything inside is committed together, or not at all.

        Args:
            results: whether the commit must outlive a power cut. Asks need not: one that is lost was never scored, and
                is asked again; a killed process loses neither.

        Raises:
            EvomergeError: the file cannot be written to.
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

    def meta(self, key: str, default: object = None) -> Any:
        """Return a fact about the run."""
        with reading(self.path):
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            return default if row is None else json.loads(row[0])

    def set_meta(self, key: str, value: object) -> None:
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
        duplicate_of: int | None = None,
    ) -> Candidate:
        """Add a candidate in state "running" and return it.

        With a proposal number, the ask that it came from is recorded, too.

        Args:
            name: displayed to people; "{id}" in it becomes the candidate's id.
            kind: of candidate or reference.
            generation: the optimizer's; -1 for references.
            subset: number of the item subset it is scored on.
            recipe: its document.
            fingerprint: of the recipe.
            point: where in the space it is, if it came from there.
            number: the optimizer's number of it, if it proposed it.
            duplicate_of: the finished candidate that it repeats.
        """
        (candidate,) = self._db.execute("SELECT coalesce(max(id), -1) + 1 FROM candidate").fetchone()
        name = name.replace("{id}", str(candidate))
        self._db.execute(
            "INSERT INTO candidate"
            " (id, name, kind, generation, subset, number, point, recipe, fingerprint, same_as, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'running')",
            (
                candidate,
                name,
                kind,
                generation,
                subset,
                number,
                None if point is None else json.dumps(stored_point(point)),
                json.dumps(recipe),
                fingerprint,
                duplicate_of,
            ),
        )
        if number is not None:
            self._step("ask", candidate, number, None)
        return Candidate(
            id=candidate,
            name=name,
            kind=kind,
            generation=generation,
            subset=subset,
            point=point,
            recipe=recipe,
            state="running",
        )

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

    def add_scores(
        self, candidate: int, pool: Pool, scores: Scores, items: Mapping[str, ItemScores], *, grown: bool = False
    ) -> None:
        """Record one pool's scores and items of a candidate; a pool is scored once, if not in parts.

        Args:
            candidate: its id.
            pool: that it was scored on.
            scores: objective -> score.
            items: objective -> item scores; empty for a candidate that repeats another.
            grown: whether they take the place of those of a part of the items.
        """
        insert = "INSERT OR REPLACE INTO" if grown else "INSERT INTO"
        self._db.executemany(
            f"{insert} score VALUES (?, ?, ?, ?, ?, ?)",
            [(candidate, pool, name, score.value, score.stderr, score.n) for name, score in scores.items()],
        )
        self._db.executemany(
            f"{insert} item VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    candidate,
                    pool,
                    name,
                    stored_ids(found.ids),
                    stored_values(found),
                    None if found.weights is None else json.dumps(found.weights),
                    None if found.soft is None else json.dumps(found.soft),
                )
                for name, found in items.items()
            ],
        )

    def tell(self, candidate: int, number: int, values: Sequence[float] | None) -> None:
        """Record the values that the optimizer gets next."""
        self._step("tell", candidate, number, values)

    def tell_gradient(self, candidate: int, number: int, gradient: Sequence[float]) -> None:
        """Record the gradient that the optimizer learns next, before its tell."""
        self._step("gradient", candidate, number, gradient)

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
        return [candidate for candidate in self.each_candidate() if kinds is None or candidate.kind in kinds]

    def each_candidate(self) -> Iterator[Candidate]:
        """Yield all candidates as `candidates` returns them: the recipes of a long run need not fit into memory."""
        with reading(self.path):
            yield from self._candidates()

    def _candidates(self) -> Iterator[Candidate]:
        scores: dict[int, dict[Pool, dict[str, Score]]] = {}
        for identity, pool, name, value, stderr, n in self._db.execute("SELECT * FROM score ORDER BY rowid"):
            entry = scores.setdefault(identity, {}).setdefault(pool, {})
            entry[name] = Score(value=value, stderr=stderr, n=n)
        rows = self._db.execute(f"SELECT {CANDIDATE_COLUMNS} FROM candidate ORDER BY id")
        for row in rows:
            yield candidate_of(row, scores.get(row[0], {}))

    def items(self, pool: Pool, *, soft: bool = True) -> dict[int, dict[str, ItemScores]]:
        """Return the item scores of one pool.

        Args:
            pool: which.
            soft: with the soft scores, where there are any.

        Returns:
            Candidate -> objective -> item scores; a candidate that repeats another shares its objects.
        """
        with reading(self.path):
            found = self._items("pool = ?", (pool,), soft)
            if pool == "search":  # the only pool on which candidates repeat others
                query = "SELECT id, same_as FROM candidate WHERE same_as IS NOT NULL AND state = 'scored'"
                for candidate, original in self._db.execute(query):
                    found.setdefault(candidate, found[original])
            return dict(sorted(found.items()))

    def items_of(self, candidate: int, pool: Pool) -> dict[str, ItemScores]:
        """Return objective -> item scores of a candidate; those of the original if it repeats one."""
        with reading(self.path):
            found = self._items("candidate = ? AND pool = ?", (candidate, pool), True)
            if candidate in found:
                return found[candidate]
            original = self._original_of(candidate)
            return self._items("candidate = ? AND pool = ?", (original, pool), True)[original]

    def _items(self, where: str, which: tuple[Any, ...], with_soft: bool) -> dict[int, dict[str, ItemScores]]:
        found: dict[int, dict[str, ItemScores]] = {}
        query = f"SELECT candidate, objective, ids, vals, weights, soft FROM item WHERE {where} ORDER BY candidate"
        numbers: dict[float, float] = {}  # one object for each value, as most metrics have few
        for candidate, name, ids, values, weights, soft in self._db.execute(query, which):
            plain, parts = values_and_parts(values)
            found.setdefault(candidate, {})[name] = ItemScores(
                ids=ids_of(ids),
                values=tuple(numbers.setdefault(value, value) for value in plain),
                weights=None if weights is None else tuple(json.loads(weights)),
                soft=None if soft is None or not with_soft else tuple(json.loads(soft)),
                parts=parts,
            )
        return found

    # -- repeats -------------------------------------------------------------------------------------------------

    def find_original(self, fingerprint: str, subset: int) -> int | None:
        """Return the candidate whose outcome a recipe would repeat, or None.

        That is one that was scored or is degenerate on the same subset, one that cannot be built, whatever the subset,
        or the first of MAX_FAILED_TRIES that failed on the subset. Whoever was lost may not be at fault.
        """
        row = self._db.execute(
            "SELECT id FROM candidate WHERE fingerprint = ? AND same_as IS NULL"
            " AND (state IN ('scored', 'degenerate') AND subset = ? OR state = 'infeasible') ORDER BY id LIMIT 1",
            (fingerprint, subset),
        ).fetchone()
        if row is None:
            first, count = self._db.execute(
                "SELECT min(id), count(*) FROM candidate WHERE fingerprint = ? AND subset = ? AND state = 'failed'"
                " AND same_as IS NULL",
                (fingerprint, subset),
            ).fetchone()
            return int(first) if count >= MAX_FAILED_TRIES else None
        return int(row[0])

    def original_of(self, candidate: int) -> int | None:
        """Return the candidate that this one repeats, or None."""
        with reading(self.path):
            return self._original_of(candidate)

    def _original_of(self, candidate: int) -> Any:
        return self._db.execute("SELECT same_as FROM candidate WHERE id = ?", (candidate,)).fetchone()[0]

    def finished_at(self) -> dict[int, float]:
        """Return candidate -> when it was finished last, in seconds since 1970; empty for runs of older versions."""
        with reading(self.path):
            known = self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'moment'").fetchone()
            return dict(self._db.execute("SELECT candidate, finished FROM moment")) if known else {}

    def failure_of(self, candidate: int) -> Failure | None:
        """Return why a candidate failed; None if it did not."""
        with reading(self.path):
            (failure,) = self._db.execute("SELECT failure FROM candidate WHERE id = ?", (candidate,)).fetchone()
            return None if failure is None else Failure(**json.loads(failure))

    def repeats_at_end(self) -> int:
        """Return how many proposals in a row, up to the last one, repeat a finished candidate."""
        with reading(self.path):
            (count,) = self._db.execute(
                "SELECT count(*) FROM candidate WHERE kind = 'candidate' AND id > (SELECT coalesce(max(id), -1)"
                " FROM candidate WHERE kind = 'candidate' AND same_as IS NULL)"
            ).fetchone()
            return int(count)

    def fingerprints(self) -> set[str]:
        """Return those of the recipes of all candidates, references not counted."""
        with reading(self.path):
            return {row[0] for row in self._db.execute("SELECT fingerprint FROM candidate WHERE kind = 'candidate'")}
