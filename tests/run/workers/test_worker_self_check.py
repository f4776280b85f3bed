"""A worker whose models are wrong ends the run; a sound one stores statistics that later runs find."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evomerge.checkpoint import Checkpoint
from evomerge.engine import Builder, self_check
from evomerge.errors import SelfCheckFailed
from evomerge.run import Run
from tests.run.pico_search import rows

SHORT = {"budget": {"candidates": 4}}
SEARCH = {**SHORT, "space": {"method": "ties", "genes": {"weight": {"per": ["model"]}}}}


def test_wrong_models_end_the_run(
    run_search: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a live model's builder writes is off in one element of each tensor; what goes to disk is not."""
    build = Builder.build

    def wrong(self: Builder, plan: Any, out: torch.Tensor) -> None:
        build(self, plan, out)
        if self.keep_statistics:
            out.view(-1)[0] += 1

    monkeypatch.setattr(Builder, "build", wrong)
    with pytest.raises(SelfCheckFailed, match="self-check: 1 of"):
        run_search(**SHORT)
    scored = {row[0] for row in rows(tmp_path / "run", "score")["score"]}
    assert len(scored) == 3  # the parents, of which nothing is merged
    monkeypatch.setattr(Builder, "build", build)
    assert run_search(**SHORT).state == "done"  # nothing wrong was recorded: the same command goes on


def test_the_check_looks_once_for_each_worker(run_search: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    where = "evomerge.run.workers._candidate_scorer.self_check"
    monkeypatch.setattr(where, lambda *given: checked.append(self_check(*given)) or checked[-1])
    run_search(**SHORT)
    assert checked.count(True) == 1 and checked[-1]  # parents alone have nothing to compare


def test_workers_do_not_hash_the_parents(run_search: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    digest = Checkpoint._digest
    monkeypatch.setattr(Checkpoint, "_digest", lambda self: hashed.append(self.name) or digest(self))
    run_search(**SEARCH)
    assert len(hashed) == 3  # the base and two models, once, by the driver


def test_statistics_are_kept_for_the_next_run(
    run_search: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOMERGE_CACHE", str(tmp_path / "cache"))
    space = {"method": "ties", "genes": {"weight": {"per": ["model"]}, "density": {"per": ["model"]}}}
    first = run_search(**{**SEARCH, "space": space})
    kept = {path: path.read_bytes() for path in (tmp_path / "cache" / "statistics").glob("??/*.safetensors")}
    assert kept
    second = run_search("again", **{**SEARCH, "space": space})
    assert {path: path.read_bytes() for path in kept} == kept
    assert rows(first.path, "score", "item") == rows(second.path, "score", "item")
