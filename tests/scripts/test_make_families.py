"""docs/families.md says what is true of a few families of different kinds; a false page is noticed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPTS))
    import make_families

    yield make_families
    sys.path.remove(str(SCRIPTS))


@pytest.mark.parametrize("family", ["llama", "mixtral", "llava", "gemma3n_text", "distilbert"])
def test_the_page_is_right(script: Any, family: str) -> None:
    text = script.PAGE.read_text(encoding="utf-8")
    row = script.try_family(family, peer=False)
    assert script.check(row, text) == []
    other = row._replace(cells=("it broke", *row.cells[1:]))
    assert script.check(other, text) == [f"{family}: merge: the page says 'yes', found 'it broke'"]


def test_every_family_is_on_the_page(script: Any) -> None:
    text = script.PAGE.read_text(encoding="utf-8")
    rows = [script.Row(family, ("x",) * 5, ()) for family in script.EVERY]
    assert not [row.family for row in rows if any("is not on the page" in line for line in script.check(row, text))]
    assert script.check(script.Row("of_tomorrow", ("yes",) * 5, ()), text) == ["of_tomorrow is not on the page"]
