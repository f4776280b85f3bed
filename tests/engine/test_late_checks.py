"""On a GPU nothing waits for the answer whether a tensor is finite; it is requested once a candidate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evomerge import methods
from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, make_plan, write_folder
from evomerge.errors import DegenerateModel, MergeFailed
from evomerge.recipe import parse_recipe

HUGE = "too large"


@pytest.fixture(autouse=True)
def answers_as_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    now: Callable[..., Any] = methods.merge_into
    monkeypatch.setattr(methods, "merge_into", lambda *args, **kwargs: torch.tensor(now(*args, **kwargs)))


def document(pico: dict[str, Path], weight: float, down: float | None = None) -> dict[str, Any]:
    """Return a linear merge; `down` is the weight of every down projection."""
    value = [*([{"filter": "down_proj", "value": down}] if down is not None else []), {"value": weight}]
    models = [{"model": str(pico[name]), "parameters": {"weight": value}} for name in ("one", "two")]
    normalize = {"normalize": [{"filter": "up_proj", "value": True}, {"value": False}]}
    return {"merge_method": "linear", "models": models, "parameters": normalize, "dtype": "float16"}


def test_a_candidate_is_told_in_the_end(pico: dict[str, Path]) -> None:
    sane, bad = parse_recipe(document(pico, 0.5)), parse_recipe(document(pico, 0.5, down=1e38))
    parents = Parents(sane.models)
    live = LiveModel(parents)
    live.apply(make_plan(sane, parents))
    for _ in range(2):  # what was not finite is not taken for made
        with pytest.raises(DegenerateModel, match=f"down_proj.weight is not finite in float16: .* {HUGE}"):
            live.apply(make_plan(bad, parents))
    live.apply(make_plan(sane, parents))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in live.model.state_dict().values())


def test_answers_of_a_candidate_that_was_given_up_are_not_the_next_ones(pico: dict[str, Path]) -> None:
    sane, bad = parse_recipe(document(pico, 0.5)), parse_recipe(document(pico, 0.0, down=1e38))
    parents = Parents(sane.models)
    live = LiveModel(parents)
    with pytest.raises(MergeFailed, match="weights sum to 0"):  # of the up projections, after some down projections
        live.apply(make_plan(bad, parents))
    live.apply(make_plan(sane, parents))


def test_a_folder_is_not_written(pico: dict[str, Path], tmp_path: Path) -> None:
    bad = parse_recipe(document(pico, 0.5, down=1e38))
    parents = Parents(bad.models)
    with pytest.raises(DegenerateModel, match=HUGE):
        write_folder(make_plan(bad, parents), parents, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
