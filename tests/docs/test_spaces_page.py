"""docs/spaces.md: every block is a space whose points are recipes; every key and every shipped space has its line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.checkpoint import Parents
from evomerge.recipe import ModelRef, parse_recipe
from evomerge.records import ParentSummary, Point
from evomerge.space import build_space, shipped_spaces, space_schema
from tests.docs.code_blocks import ROOT, blocks_of

PAGE = ROOT / "docs" / "spaces.md"
BLOCKS = [block for block in blocks_of(PAGE) if block.language == "yaml"]


@pytest.fixture(scope="module")
def parents(pico: dict[str, Path]) -> Sequence[ParentSummary]:
    refs = [ModelRef(str(pico[name])) for name in ("base", "one", "two", "three")]
    opened = Parents(refs)
    return [opened[ref].summary(digest=False) for ref in refs]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_points_of_each_example_are_recipes(block: Any, parents: Sequence[ParentSummary]) -> None:
    space = build_space(yaml.safe_load(block.text), block.place, parents[0], parents[1:])
    domain = space.domain
    corners = [
        Point(
            reals=(end,) * domain.reals,
            integers=tuple(int(end * (count - 1)) for count in domain.integers),
            categories=tuple(int(end * (count - 1)) for count in domain.categories),
        )
        for end in (0.0, 1.0)
    ]
    for point in (space.start, *corners):
        document = space.decode(point)
        parse_recipe(document)
        assert space.decode(space.encode(document)) == document


def test_every_key_and_every_shipped_space_has_its_line() -> None:
    text = PAGE.read_text(encoding="utf-8")
    schema = space_schema()
    keys = {key for entry in schema["anyOf"][:3] for key in entry["properties"]}
    keys |= {key for name in ("GeneEntry", "SelectionEntry") for key in schema["$defs"][name]["properties"]}
    assert [key for key in sorted(keys) if f"`{key}`" not in text and f"`{key}: K`" not in text] == []
    assert [name for name in shipped_spaces() if f"| `{name}` |" not in text] == []
