"""The workers that a search asks for, and what travels to them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.methods import Method, register
from evomerge.run import check_search, create_executor
from evomerge.run.config import Extensions
from tests.run.pico_search import write_search


class Mean(Method):
    """Half of each of two models."""

    name = "named_mean"
    title = formula = "the mean"
    paper = "none"
    base = "optional"
    inputs = (2, 2)
    parameters = ()

    def coefficients(self, inputs: Any, settings: Any, statistics: Any) -> None:
        return None

    def combine(self, out: Any, block: Any, coefficients: None) -> None:
        out.copy_((block.models[0].to(out.dtype) + block.models[1].to(out.dtype)) / 2)


class OtherMean(Mean):
    """Another one, of which a search knows nothing."""

    name = "other_mean"


def test_workers_get_the_registered_methods_that_a_search_names(
    pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else a notebook has registered may be nothing that can travel."""
    register(Mean()), register(OtherMean())
    mean = {"merge_method": "named_mean", "models": [{"model": str(pico[name])} for name in ("one", "two")]}
    (tmp_path / "mean.yaml").write_text(yaml.safe_dump(mean))
    names = lambda shared: [method.name for method in shared.methods]  # noqa: E731
    monkeypatch.setattr("evomerge.run._driver.InlineExecutor", names)

    def sent(file: Path, **given: Any) -> Any:
        return create_executor(check_search(file, extensions=Extensions(**given)))

    plain, started = write_search(tmp_path / "plain", pico), write_search(tmp_path, pico, start=["mean.yaml"])
    assert sent(plain) == []
    assert sent(started) == ["named_mean"]
    assert sent(plain, space=check_search(plain).space) == ["named_mean", "other_mean"], "nobody knows what it decodes"
