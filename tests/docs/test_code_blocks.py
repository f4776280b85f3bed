"""Every code block of the README and of docs/ is run or checked, or says why not.

Python runs as it stands, in a folder with the models and files that the pages name, page by page. YAML is read by the
schema of what it is. Shell lines are parsed by the real command line; verbs that need no benchmark are called, too.
"""

import functools
import json
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

import evomerge
from evomerge.cli import cli
from evomerge.errors import EvomergeError
from evomerge.recipe import parse_recipe
from tests.docs.code_blocks import (
    LANGUAGES,
    PAGES,
    ROOT,
    Block,
    blocks_of,
    check_command,
    check_data,
    check_inline_command,
    commands_of,
    inline_commands,
    parse_command,
)
from tests.finished_run import SCORER

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
PLACEHOLDERS = {
    "ID": "0",
    "RUN": "runs/my-search",
    "MODEL": "models/one",
    "FINE_TUNE": "models/one",
    "BASE": "models/base",
}
NOT_CALLED = ("evaluate", "soup", "init", "watch", "transplant")  # they read benchmarks, wait, or need two tokenizers
WRITERS = ("merge", "merge-files", "export", "moe", "lora")  # their second or third argument is the folder they write


def pages_with(*languages: str) -> list[str]:
    """Return the names of the pages that have blocks to be run in one of the languages."""
    return [
        name
        for name, page in zip(NAMES, PAGES, strict=True)
        if any(block.language in languages and block.reason is None for block in blocks_of(page))
    ]


def blocks(name: str, *languages: str) -> list[Block]:
    """Return the blocks of a page that are to be run, in its order."""
    return [block for block in blocks_of(ROOT / name) if block.language in languages and block.reason is None]


def file_of(block: Block) -> str | None:
    """Return the file that a block of Python is the content of, or None for one that is to be run."""
    first = block.text.partition("\n")[0]
    return first.removeprefix("# file: ") if first.startswith("# file: ") else None


@pytest.fixture(scope="module")
def prepared(pico: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages name: models, recipes, a search file and its finished run."""
    folder = tmp_path_factory.mktemp("pages")
    for name, source in {**pico, "math": pico["one"], "kanji": pico["two"], "reverse": pico["three"]}.items():
        shutil.copytree(source, folder / "models" / name)
    (folder / "share.py").write_text(SCORER)
    (folder / "items.jsonl").write_text("\n".join(json.dumps({"threshold": i / 10 - 3}) for i in range(60)))
    (folder / "lines.txt").write_text("\n".join(f"{i} and {i + 1}" for i in range(60)))
    files = {
        "search.yaml": {
            "parents": {"base": "models/base", "models": ["models/one", "models/two"]},
            "space": "layerwise_task_arithmetic",
            "tasks": [{"scorer": "share.py:share", "items": "items.jsonl"}],
            "pools": {"search": 12, "select": 12, "report": 12},
            "subset": {"size": 6},
            "budget": {"candidates": 4},
            "workers": {"count": 0},
            "proof": {"finalists": 2},
        },
        "recipe.yaml": {
            "merge_method": "linear",
            "models": [{"model": f"models/{name}", "parameters": {"weight": 0.5}} for name in ("one", "two")],
        },
        "experts.yaml": {
            "base_model": "models/base",
            "gate_mode": "random",
            "experts": [{"source_model": f"models/{name}"} for name in ("one", "two")],
        },
    }
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))
    run = evomerge.search(folder / "search.yaml", folder / "runs" / "my-search")
    for name in ("quickstart", "first", "second"):
        shutil.copytree(run.path, folder / "runs" / name)
    evomerge.export(run, folder / "merged")
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of one test; modules that its blocks define are forgotten afterwards."""
    folder, known = tmp_path / "page", set(sys.modules)
    shutil.copytree(prepared, folder, ignore=lambda path, _: ["models"] if Path(path) == prepared else [])
    (folder / "models").symlink_to(prepared / "models")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in set(sys.modules) - known:
        if (folder / f"{name}.py").exists():
            del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_block_has_a_language_or_a_reason(name: str) -> None:
    for block in blocks_of(ROOT / name):
        assert block.language in LANGUAGES, f"{block.place}: name the language, one of {', '.join(LANGUAGES)}"
        assert block.language != "text" or block.reason, f"{block.place}: say why: <!-- not run: ... -->"


@pytest.mark.parametrize("name", pages_with("python"))
def test_python_runs(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(name, "python"):
        if (file := file_of(block)) is not None:
            (folder / file).write_text(block.text)
        else:
            shutil.rmtree("merged", ignore_errors=True)
            exec(compile(block.text, block.place, "exec"), {})
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", pages_with("yaml", "toml", "json"))
def test_data_fits_its_schema(name: str, folder: Path) -> None:
    for block in blocks(name, "yaml", "toml", "json"):
        check_data(block, folder / "models")


@functools.cache
def recipes() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return place -> method and recipe, of the whole recipes over models that the tests have."""
    found = {}
    for name in pages_with("yaml"):
        for block in blocks(name, "yaml"):
            document = yaml.safe_load(block.text)
            if "merge_method" in document:
                models = [str(ref) for ref in parse_recipe(document).models]
                if all(model.startswith("models/") for model in models):
                    found[block.place] = (document["merge_method"], document)
    return found


@pytest.mark.parametrize("place", recipes(), ids=lambda place: f"{recipes()[place][0]} of {place}")
def test_recipes_merge(place: str, folder: Path, tmp_path: Path) -> None:
    merged = evomerge.merge(recipes()[place][1], tmp_path / "out")
    assert (Path(merged) / "config.json").exists()


@pytest.mark.parametrize("name", pages_with("bash"))
def test_commands_are_known(name: str) -> None:
    for block in blocks_of(ROOT / name):
        for words in commands_of(block) if block.language == "bash" else []:
            if block.reason is None:
                check_command([PLACEHOLDERS.get(word, word) for word in words])
            elif words[0] == "evomerge":
                parse_command(words)


@pytest.mark.parametrize("name", NAMES)
def test_commands_within_sentences_are_known(name: str) -> None:
    for words in inline_commands((ROOT / name).read_text(encoding="utf-8")):
        check_inline_command(words)


def callable_commands() -> dict[tuple[str, ...], str]:
    """Return the distinct commands of all pages that can be called quickly -> where they stand."""
    listed = [
        (words, block.place)
        for name in pages_with("bash")
        for block in blocks(name, "bash")
        for words in commands_of(block)
    ]
    in_tables = "\n".join(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|"))
    listed += [(words, "README.md, in a table") for words in inline_commands(in_tables)]
    found: dict[tuple[str, ...], str] = {}
    for words, place in listed:
        words = [PLACEHOLDERS.get(word, word) for word in words]
        quick = words[0].endswith("evomerge") and len(words) > 1 and words[1] not in NOT_CALLED
        upload = words[1:2] == ["push"] and "--dry-run" not in words
        if quick and not upload and not any(word.startswith(("experiments/", ">")) for word in words):
            found.setdefault(tuple(words[1:]), place)
    return found


@pytest.mark.parametrize("words", callable_commands(), ids=" ".join)
def test_commands_work(words: tuple[str, ...], folder: Path) -> None:
    if "--png" in words and find_spec("resvg_py") is None:
        pytest.skip("resvg-py is not installed")
    if words[0] == "search":
        shutil.rmtree(words[words.index("--out") + 1])  # a finished run would not search again
    if words[0] in WRITERS:
        shutil.rmtree(next(word for word in words[2:] if word.endswith("/")), ignore_errors=True)
    result = CliRunner().invoke(cli, list(words), standalone_mode=False)
    assert result.exit_code == 0, f"{callable_commands()[words]}: {result.output} {result.exception}"


def test_a_block_that_is_wrong_is_found(folder: Path) -> None:
    """The checks themselves: each of these would be a mistake on a page."""
    page = ROOT / "README.md"

    def block(language: str, text: str) -> Block:
        return blocks_of(page, f"```{language}\n{text}\n```\n")[0]

    for text in ("merge_method: tise\nmodels: [{model: a}]", "tasks: [{taks: gsm8k}]", "pool: {search: 3}"):
        with pytest.raises((AssertionError, EvomergeError)):
            check_data(block("yaml", text), folder / "models")
    for text in ("evomerge mrege a b", "evomerge merge a b --sed 3", "make dmeo", "python scripts/none.py", "frob x"):
        with pytest.raises((AssertionError, click.ClickException)):
            check_command(commands_of(block("bash", text))[0])
    assert blocks_of(page, "<!-- not run: a cluster -->\n```bash\nray\n```\n")[0].reason == "a cluster"
    assert blocks_of(page, "<!-- not run: a cluster -->\nWords.\n\n```bash\nray\n```\n")[0].reason is None
