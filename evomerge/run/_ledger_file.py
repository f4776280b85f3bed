"""Opening a ledger's SQLite file: for one writer, or for readers of whatever is left of it, wherever it lies.

While a run writes, its newest commits are in `ledger.sqlite-wal`, and readers coordinate through `ledger.sqlite-shm`.
A closed run is one plain file. A killed driver leaves the log behind, and a copied or archived run may lie in a folder
that cannot be written: then SQLite itself refuses to open it, and the copy below stands in.
"""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evomerge.errors import EvomergeError, InvalidInput

VERSION = 1  # of the schema, in `user_version`
SCHEMA = """
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
MOMENTS = """
CREATE TABLE IF NOT EXISTS moment (candidate INTEGER PRIMARY KEY, finished REAL NOT NULL);
CREATE TRIGGER IF NOT EXISTS candidate_finished AFTER UPDATE OF state ON candidate WHEN NEW.state != 'running'
BEGIN
  INSERT OR REPLACE INTO moment VALUES (NEW.id, (julianday('now') - 2440587.5) * 86400.0);
END;
"""  # when each candidate was finished; ledgers of older versions get it when their run goes on
BUSY_SECONDS = 30.0  # how long to wait for another process's lock
CLOSE_BUSY_MILLISECONDS = 500  # the same, for leaving the write-ahead log, which may as well stay
COPY_ATTEMPTS = 20  # a driver may write while its files are copied


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open and check an existing ledger for its one writer.

    Raises:
        InvalidInput: not a ledger, damaged, written by a newer evomerge, or in a folder that cannot be written.
    """
    _check_there(path)
    connection = _checked(path, _connect(path, "mode=rw"))
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(MOMENTS)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise InvalidInput(f"{path}: cannot be written to ({error})") from None
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open and check a ledger for reading only; a run may be writing to it, and its folder may be read-only.

    Raises:
        InvalidInput: not a ledger, damaged, or written by a newer evomerge.
    """
    _check_there(path)
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return _checked(path, connection)
        connection.close()
        connection = _open_in_read_only_folder(path)
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        pass  # `_checked` says so
    return _checked(path, connection)


def leave_plain(connection: sqlite3.Connection) -> None:
    """Fold the write-ahead log into the file, so that one plain file remains; while others read, the log stays."""
    with suppress(sqlite3.Error):
        connection.execute(f"PRAGMA busy_timeout={CLOSE_BUSY_MILLISECONDS}")
        connection.execute("PRAGMA journal_mode=DELETE")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever damaged content of a ledger raises into one sentence."""
    try:
        yield
    except EvomergeError:
        raise
    except (sqlite3.Error, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise InvalidInput(f"{path}: is damaged ({type(error).__name__}: {error}); restore it from a copy") from error


def _open_in_read_only_folder(path: Path) -> sqlite3.Connection:
    """Open a ledger in write-ahead mode whose helper files SQLite can neither find nor make."""
    log = _log_of(path)
    if log is None:
        return _connect(path, "mode=ro&immutable=1")  # nothing but the file, and nobody who could write it
    with tempfile.TemporaryDirectory(prefix="evomerge-ledger-") as folder:
        copy = Path(folder) / path.name
        _copy_both(path, log, copy)
        source = _connect(copy, "mode=rw")
        try:
            memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=True)
            with suppress(sqlite3.DatabaseError):  # `_checked` says so of what is left
                source.backup(memory)
            memory.execute("PRAGMA query_only=ON")
        finally:
            source.close()
    return memory


def _log_of(path: Path) -> Path | None:
    """Return the write-ahead log of a ledger, or None if there is nothing in it."""
    log = path.with_name(f"{path.name}-wal")
    return log if log.is_file() and log.stat().st_size else None


def _copy_both(path: Path, log: Path, copy: Path) -> None:
    """Copy a database and its log as they are at one moment.

    Raises:
        InvalidInput: a driver writes without pause.
    """
    for _ in range(COPY_ATTEMPTS):
        before = _looks(path, log)
        shutil.copyfile(path, copy)
        shutil.copyfile(log, copy.with_name(f"{copy.name}-wal"))
        if _looks(path, log) == before:
            return
        time.sleep(0.05)
    raise InvalidInput(f"{path}: is being written to, and this user cannot share its log; try again, or copy the run")


def _looks(*paths: Path) -> list[tuple[int, int]]:
    return [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


def _connect(path: Path, options: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            f"{path.resolve().as_uri()}?{options}", uri=True, isolation_level=None, timeout=BUSY_SECONDS
        )
    except sqlite3.DatabaseError as error:
        raise InvalidInput(f"{path}: is damaged or no ledger ({error})") from None


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InvalidInput(f"{path.parent}: is no run (it holds no {path.name})")


def _checked(path: Path, connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a connection if it is one to a ledger; a foreign file is data, never code.

    Raises:
        InvalidInput: not a ledger, damaged, or written by a newer evomerge.
    """
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('meta', 'step')").fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # sqlite3's own message may be damaged text
        connection.close()
        raise InvalidInput(f"{path}: is damaged or no ledger ({error})") from None
    if path.stat().st_size % page_bytes and not _log_of(path):  # SQLite reads what is missing of the last page as zeros
        connection.close()
        raise InvalidInput(f"{path}: is damaged or no ledger (its end is missing); restore it from a copy")
    if version > VERSION:
        connection.close()
        raise InvalidInput(f"{path}: was written by a newer evomerge (format {version}, this one knows {VERSION})")
    if tables != 2 or version < 1:
        connection.close()
        raise InvalidInput(f"{path}: is a database, but no ledger of a run")
    return connection
