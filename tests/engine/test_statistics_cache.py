"""Statistics on disk change no bit, are computed once for all, and are never trusted blindly."""

import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from evomerge.checkpoint import Parents
from evomerge.engine import CacheEntry, LiveModel, StatisticsCache, cache_folder, make_plan
from evomerge.methods import Statistics, StatisticsLocked, load_kernels, use_kernels
from evomerge.recipe import parse_recipe

THINNED = {"weight": 0.7, "density": 0.5}
METHODS: dict[str, dict[str, Any]] = {
    "slerp": {},
    "ties": THINNED,
    "dare_ties": THINNED,
    "dare_linear": {"weight": 0.7, "density": 0.25},
    "della": THINNED,
    "breadcrumbs": THINNED,
    "model_stock": {},
    "sce": {},
    "ramplus_tl": {},
}


def document(pico: dict[str, Path], method: str) -> dict[str, Any]:
    names = ["one"] if method == "slerp" else ["one", "two", "three"]
    found: dict[str, Any] = {
        "merge_method": method,
        "base_model": str(pico["base"]),
        "models": [{"model": str(pico[name]), "parameters": METHODS[method]} for name in names],
    }
    if method in ("slerp", "sce"):
        found["parameters"] = {"t": 0.3} if method == "slerp" else {"select_topk": 0.6}
    if method == "model_stock":
        found["parameters"] = {"filter_wise": True}
    return found


def weights(pico: dict[str, Path], method: str, cache: Path | None) -> dict[str, torch.Tensor]:
    """Return the tensors that a new process's live model would hold."""
    recipe = parse_recipe(document(pico, method))
    parents = Parents(recipe.models)
    live = LiveModel(parents, cache=cache)
    live.apply(make_plan(recipe, parents))
    return {name: tensor.clone() for name, tensor in live.model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope="module", autouse=True)
def _compiled_as_it_comes() -> Iterator[None]:
    with use_kernels("auto"):
        yield


@pytest.fixture(scope="module")
def plain(pico: dict[str, Path]) -> dict[str, torch.Tensor]:
    """The weights of the ties merge without a cache."""
    return weights(pico, "ties", None)


@pytest.fixture(scope="module")
def filled(pico: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the ties merge; tests copy it."""
    load_kernels()  # which leave other gaps in a table than the slow path, so that bytes would differ
    cache = tmp_path_factory.mktemp("filled")
    weights(pico, "ties", cache)
    return cache


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("??/*.safetensors"))


def forbid_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any cached number that has to be computed be an error."""

    def begin(self: Any, known: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(CacheEntry, "begin", begin)


@pytest.mark.parametrize("method", METHODS)
def test_the_cache_changes_no_bit(
    method: str, pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = weights(pico, method, None)
    assert_same(plain, weights(pico, method, tmp_path))  # fills the cache
    if method == "breadcrumbs":
        return  # its selections depend on genes
    assert files(tmp_path)
    forbid_work(monkeypatch)
    assert_same(plain, weights(pico, method, tmp_path))


def test_a_store_makes_the_table_of_densities_at_once(
    pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: list[int] = []
    tabulate = Statistics._tabulate
    monkeypatch.setattr(
        Statistics, "_tabulate", lambda self, model, above: tables.append(model) or tabulate(self, model, above)
    )
    weights(pico, "ties", None)
    assert not tables
    weights(pico, "ties", tmp_path)
    assert len(tables) == 3 * len(files(tmp_path))


def test_numbers_are_those_of_the_content_not_of_the_name(
    pico: dict[str, Path],
    plain: dict[str, torch.Tensor],
    filled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = Path(shutil.copytree(filled, tmp_path / "cache"))
    moved = {name: tmp_path / "moved" / name for name in pico}
    for name, folder in moved.items():
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(pico[name])
    forbid_work(monkeypatch)
    assert_same(plain, weights(moved, "ties", cache))
    with pytest.raises(AssertionError, match="computed again"):
        weights({**pico, "one": pico["two"], "two": pico["one"]}, "ties", cache)


def renumbered(folder: Path, source: Path) -> Path:
    """Copy a pico model with the ids of two tokens exchanged."""
    shutil.copytree(source, folder)
    text = (folder / "tokenizer.json").read_text()
    found = json.loads(text)
    words = found["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    (folder / "tokenizer.json").write_text(json.dumps(found))
    return folder


def test_aligned_rows_have_statistics_of_their_own(
    pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files under another tokenizer are merged in other rows."""
    models = {**pico, "one": renumbered(tmp_path / "one", pico["one"])}

    def found(cache: Path | None, aligned: bool) -> dict[str, torch.Tensor]:
        recipe = parse_recipe({**document(models, "ties"), **({"tokenizer": {"source": "base"}} if aligned else {})})
        live = LiveModel(Parents(recipe.models), cache=cache)
        live.apply(make_plan(recipe, live.parents))
        return {name: tensor.clone() for name, tensor in live.model.state_dict().items()}

    cache = tmp_path / "cache"
    plain, aligned = found(cache, False), found(cache, True)
    name = "model.embed_tokens.weight"
    assert not torch.equal(plain[name], aligned[name])
    forbid_work(monkeypatch)
    for alike in (False, True):
        assert_same(found(None, alike), found(cache, alike))
    assert_same(plain, found(cache, False)), assert_same(aligned, found(cache, True))


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped":
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)
    elif how == "no header":
        path.write_bytes(b"\xff" * 100)
    else:
        save_file({name: tensor.float() for name, tensor in load_file(path).items()}, path)


def test_damaged_files_are_computed_and_written_anew(
    pico: dict[str, Path], plain: dict[str, torch.Tensor], filled: Path, tmp_path: Path
) -> None:
    cache = Path(shutil.copytree(filled, tmp_path / "cache"))
    before = {path: path.read_bytes() for path in files(cache)}
    ways = ["truncated", "empty", "flipped", "no header", "another dtype"]
    for number, path in enumerate(before):
        damage(path, ways[number % len(ways)])
    assert len(before) >= 2 * len(ways)
    assert_same(plain, weights(pico, "ties", cache))
    assert {path: path.read_bytes() for path in files(cache)} == before


def test_a_folder_that_cannot_be_written_is_said_once(
    pico: dict[str, Path], plain: dict[str, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file")
    with caplog.at_level(logging.WARNING):
        assert_same(plain, weights(pico, "ties", tmp_path / "taken" / "statistics"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot be kept" in caplog.text


def test_a_full_disk_is_no_error(
    pico: dict[str, Path],
    plain: dict[str, torch.Tensor],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("evomerge.engine._statistics_cache.save_file", full)
    with caplog.at_level(logging.WARNING):
        assert_same(plain, weights(pico, "ties", tmp_path))
    assert caplog.text.count("No space left") == 1
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".safetensors", ".tmp")]


def test_work_that_another_process_does_comes_last(
    pico: dict[str, Path],
    plain: dict[str, torch.Tensor],
    filled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one set's lock taken, all others are written; then that one is waited for."""
    monkeypatch.setattr("evomerge.engine._statistics_cache.LOCK_FILES", 1 << 32)
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    kept = {path: path.read_bytes() for path in files(tmp_path)}
    for path in kept:
        path.unlink()
    first = files_in_order(tmp_path, kept)[0]
    other = FileLock(StatisticsCache(tmp_path).lock(first.stem).lock_file)
    other.acquire()
    waited: list[bool] = []
    acquire = FileLock.acquire

    def meanwhile(self: FileLock, timeout: float = -1, **more: Any) -> Any:
        if self.lock_file == other.lock_file and timeout:
            waited.append(len(files(tmp_path)) == len(kept) - 1)
            first.write_bytes(kept[first])  # the other process is done
            other.release()
        return acquire(self, timeout, **more)

    monkeypatch.setattr(FileLock, "acquire", meanwhile)
    monkeypatch.setattr(Statistics, "_tabulate", once_for_each(Statistics._tabulate, at_most=3 * (len(kept) - 1)))
    assert_same(plain, weights(pico, "ties", tmp_path))
    assert waited == [True]


def files_in_order(cache: Path, kept: dict[Path, bytes]) -> list[Path]:
    """Return the files of a cache, any order will do, after making their folders."""
    for path in kept:
        path.parent.mkdir(exist_ok=True)
    return sorted(kept)


def once_for_each(method: Any, at_most: int) -> Any:
    calls = []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        assert len(calls) <= at_most
        return method(*arguments)

    return counted


def test_busy_is_raised_at_once_and_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evomerge.engine._statistics_cache.LOCK_WAIT_SECONDS", 0.01)
    store = StatisticsCache(tmp_path)
    entry = CacheEntry(store, "ab" * 32)
    with store.lock("ab" * 32):
        with pytest.raises(StatisticsLocked):
            entry.begin({})
        store.waits = True
        known: dict[str, torch.Tensor] = {}
        entry.begin(known)
        entry.end({"gram": torch.ones(2, 2, dtype=torch.float64)}, True)
    assert CacheEntry(store, "ab" * 32).load()["gram"].sum() == 4


def test_the_cap_deletes_what_was_used_longest_ago(tmp_path: Path) -> None:
    store = StatisticsCache(tmp_path)
    for number in range(4):
        entry = CacheEntry(store, f"{number}" * 64)
        entry.end({"gram": torch.ones(1000, dtype=torch.float64)}, True)
        os.utime(store.path(f"{number}" * 64), (number, number))
    CacheEntry(store, "0" * 64).load()  # looked up: the youngest now
    StatisticsCache(tmp_path, cap_bytes=20_000)
    assert [path.stem[0] for path in files(tmp_path)] == ["0", "3"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"EVOMERGE_CACHE": "/big/disk"}, "/big/disk"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/evomerge"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/somebody/.cache/evomerge"),
        ({}, "/home/somebody/.cache/evomerge"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the places of other systems")
def test_where_the_cache_is(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVOMERGE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/somebody", **environment}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
