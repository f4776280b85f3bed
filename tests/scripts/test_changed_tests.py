"""`make quick` runs the tests nearest to a change first."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPTS))
    import changed_tests

    yield changed_tests
    sys.path.remove(str(SCRIPTS))


def test_changed_tests_come_before_tests_that_name_the_module_and_before_the_folder(script: Any) -> None:
    chosen = script.tests_of(["evomerge/methods/model_stock.py", "tests/stats/test_intervals.py"])
    assert chosen[0] == "tests/stats/test_intervals.py"
    folder = chosen.index("tests/methods")
    named = [Path(name) for name in chosen[1:folder]]
    assert named and all("model_stock" in (script.ROOT / name).read_text() for name in named)
    assert chosen[-1] == "tests/test_house.py"


def test_a_sub_folder_comes_before_its_package(script: Any) -> None:
    assert script.mirrors("evomerge/run/loop/_loop.py") == ["tests/run/loop", "tests/run"]
    assert script.mirrors("evomerge/run/_proof.py") == script.mirrors("tests/run/pico_search.py") == ["tests/run"]
    assert script.mirrors("evomerge/results/_card.py") == ["tests/results"]


def test_what_has_no_tests_of_its_own_gives_the_rules_of_the_house(script: Any) -> None:
    assert script.tests_of(["LICENSE", "evomerge/records.py"]) == ["tests/test_house.py"]
