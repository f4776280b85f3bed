"""The code of docs/extending.md runs as it stands, over pico models, and each example is short."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.finished_run import SCORER

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
MAX_LINES = 30  # of an example, without empty lines and the name of the file


def sections() -> dict[str, list[str]]:
    """Return heading -> its blocks of Python, of the sections that have any."""
    parts = re.split(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    texts = dict(zip(parts[::2], parts[1::2], strict=True))
    blocks = {heading: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for heading, text in texts.items()}
    return {heading: found for heading, found in blocks.items() if found}


def file_of(block: str) -> str | None:
    """Return the file that a block is the content of, or None for one that is to be run."""
    found = re.match(r"# file: (\w+\.py)\n", block)
    return found[1] if found else None


@pytest.fixture
def folder(pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with models, a search file and the page's modules."""
    for name, path in pico.items():
        shutil.copytree(path, tmp_path / "models" / name)
    (tmp_path / "share.py").write_text(SCORER)
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps({"threshold": i / 10 - 3}) for i in range(60)))
    (tmp_path / "lines.txt").write_text("\n".join(f"{i} and {i + 1}" for i in range(60)))
    search = {
        "parents": {"base": "models/base", "models": ["models/one", "models/two"]},
        "space": "layerwise_task_arithmetic",
        "tasks": [{"scorer": "share.py:share", "items": "items.jsonl"}],
        "pools": {"search": 20, "select": 20, "report": 20},
        "subset": {"size": 10},
        "budget": {"candidates": 6},
        "workers": {"count": 0},
        "proof": {"finalists": 2},
    }
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(search))
    modules = {name: block for blocks in sections().values() for block in blocks if (name := file_of(block))}
    for name, block in modules.items():
        (tmp_path / name).write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in modules:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.parametrize("heading", sections())
def test_the_code_runs(heading: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in sections()[heading]:
        if file_of(block) is None:
            exec(compile(block, f"{PAGE.name}: {heading}", "exec"), {})
    assert "Traceback" not in capsys.readouterr().err


def test_examples_are_short() -> None:
    for heading, blocks in sections().items():
        for block in blocks:
            lines = [line for line in block.splitlines() if line.strip() and not line.startswith("# file: ")]
            assert len(lines) <= MAX_LINES, (heading, len(lines))


def test_examples_keep_their_contracts(folder: Path) -> None:
    from blend import Blend
    from consensus import Consensus
    from hill_climber import HILL_CLIMBER, HillClimber
    from next_token import NextToken

    assert (Consensus.name, NextToken.name, HILL_CLIMBER.name) == ("consensus", "next_token", HillClimber.name)
    space = Blend(["models/one", "models/two"])
    assert space.encode(space.decode(space.start)).reals == pytest.approx(space.start.reals, abs=1e-3)
