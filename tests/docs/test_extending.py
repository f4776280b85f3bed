"""The examples of docs/extending.md are short, and keep the contracts they speak of. test_code_blocks.py runs them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.code_blocks import ROOT, blocks_of

BLOCKS = [block for block in blocks_of(ROOT / "docs" / "extending.md") if block.language == "python"]
MAX_LINES = 30  # of an example, without empty lines and the name of the file


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's files as modules, for one test."""
    files = {block.text.split("\n")[0].removeprefix("# file: "): block.text for block in BLOCKS}
    files = {name: text for name, text in files.items() if name.endswith(".py")}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in files:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_examples_are_short() -> None:
    for block in BLOCKS:
        lines = [line for line in block.text.splitlines() if line.strip() and not line.startswith("# file: ")]
        assert len(lines) <= MAX_LINES, (block.place, len(lines))


def test_examples_keep_their_contracts(modules: None) -> None:
    from blend import Blend
    from consensus import Consensus
    from hill_climber import HILL_CLIMBER, HillClimber
    from next_token import NextToken

    assert (Consensus.name, NextToken.name, HILL_CLIMBER.name) == ("consensus", "next_token", HillClimber.name)
    space = Blend(["models/one", "models/two"])
    assert space.encode(space.decode(space.start)).reals == pytest.approx(space.start.reals, abs=1e-3)
