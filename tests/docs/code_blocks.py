"""The code blocks of the pages, and what tests do with each kind of them.

A block that no test can run says so in a comment on the line before it: `<!-- not run: needs a cluster -->`.
"""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from evomerge.checkpoint import Parents
from evomerge.cli import VERBS, cli
from evomerge.recipe import ModelRef, MoeEntry, RecipeEntry, check_document, parse_moe, parse_recipe
from evomerge.run import SearchEntry
from evomerge.space import build_space

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "experiments").glob("*/README.md")),
]
LANGUAGES = ("python", "yaml", "bash", "toml", "json", "text")
ENTRY_POINTS = {f"evomerge.{kind}" for kind in ("methods", "optimizers", "evaluators", "spaces", "trackers")}
FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
REASON = re.compile(r"<!-- not run: (.+?) -->\s*\Z", re.DOTALL)
SMALL_SEARCH = {"parents": {"base": "a", "models": ["b", "c"]}, "space": "auto", "tasks": [{"task": "t"}]}
SMALL_RECIPE = {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block.

    Attributes:
        page: its file.
        line: where its first line of code stands.
        language: as the fence names it.
        text: the code.
        reason: why no test runs it, or None.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def place(self) -> str:
        """The page and the line, as messages name them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8") if text is None else text
    found = []
    for match in FENCE.finditer(text):
        reason = REASON.search(text, 0, match.start())
        code = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(Block(page=page, line=line, language=match[2], text=code, reason=reason[1] if reason else None))
    return found


def commands_of(block: Block) -> list[list[str]]:
    """Return the commands of a block of shell lines, without prompts and comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in line.removeprefix("$ ").split(" && ")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


# -- YAML, TOML, JSON ------------------------------------------------------------------------------------------------


def check_data(block: Block, models: Path) -> None:
    """Hold a block of data against the schema of what it is, or of what it is a part of.

    Args:
        block: of YAML, TOML or JSON.
        models: folder of the models that a space is built for: base, one, two, three.

    Raises:
        EvomergeError: it does not fit.
        AssertionError: it is part of nothing that is known.
    """
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "toml":
        entries = tomllib.loads(block.text)["project"]["entry-points"]
        assert set(entries) <= ENTRY_POINTS, block.place
    else:
        for document in yaml.safe_load_all(block.text):
            _check_yaml(document, block, models)


def _check_yaml(document: dict[str, Any], block: Block, models: Path) -> None:
    keys = set(document)
    if "merge_method" in keys:
        parse_recipe(document, where=block.place)
    elif "experts" in keys:
        parse_moe(document, where=block.place)
    elif keys & {"genes", "kind", "method"}:
        refs = [ModelRef(str(models / name)) for name in ("base", "one", "two", "three")]
        parents = Parents(refs)
        base, *others = (parents[ref].summary(digest=False) for ref in refs)
        build_space(document, block.place, base, others)
    else:
        _check_part(document, block)


def _check_part(document: Mapping[str, Any], block: Block) -> None:
    """Hold some keys of a search file, a recipe or a mixture against its schema, the rest being filled in."""
    for schema, filled in ((SearchEntry, SMALL_SEARCH), (RecipeEntry, SMALL_RECIPE), (MoeEntry, {})):
        if set(document) <= set(schema.model_fields):
            problems = check_document(schema, {**filled, **document}, block.place).problems
            assert problems == [], block.place
            return
    raise AssertionError(f"{block.place}: keys {sorted(document)} are neither those of a search file nor of a recipe")


# -- shell -----------------------------------------------------------------------------------------------------------


@contextmanager
def _paths_need_not_exist() -> Iterator[None]:
    """Let the parser take names of files that are not there, as those of the examples are."""
    convert = click.Path.convert

    def lenient(self: click.Path, value: Any, *rest: Any) -> Any:
        exists, self.exists = self.exists, False
        try:
            return convert(self, value, *rest)
        finally:
            self.exists = exists

    click.Path.convert = lenient  # type: ignore[method-assign]
    try:
        yield
    finally:
        click.Path.convert = convert  # type: ignore[method-assign]


def parse_command(words: list[str]) -> None:
    """Let the real command line parse `evomerge ...`, without calling the verb.

    Raises:
        click.ClickException: it does not parse.
    """
    with _paths_need_not_exist(), click.Context(cli, info_name="evomerge") as context:
        if words[1:2] in (["--help"], ["--version"]):
            return
        name, command, rest = cli.resolve_command(context, words[1:])
        assert command is not None
        if rest != ["--help"]:
            command.make_context(name, rest, parent=context)


def check_command(words: list[str]) -> None:
    """Check one shell command: those of evomerge by its parser, others by what they name.

    Raises:
        AssertionError: it names something that is not there, or is no command that a test knows.
        click.ClickException: the parser refuses it.
    """
    words = words[1:] if re.fullmatch(r"[A-Z_]+=\S*", words[0]) else words
    program = words[0].removeprefix(".venv/bin/")
    if program == "evomerge":
        parse_command([program, *words[1:]])
    elif program == "make":
        text = (ROOT / "Makefile").read_text(encoding="utf-8")
        wanted = [word for word in words[1:] if "=" not in word]
        assert all(re.search(rf"^{target}:.*##", text, re.MULTILINE) for target in wanted), words
    elif program in ("python", "python3"):
        _check_python(words[1:])
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = re.findall(r"\[(\w+)\]", " ".join(words))
        assert words[1] == "install" and set(extras) <= set(project["optional-dependencies"]), words
    else:
        assert program in ("git", "cd"), f"{words}: say in a comment before the block why no test runs it"


def _check_python(words: list[str]) -> None:
    """A script must be there and know the options; of `-m MODULE`, venv and pip are known, and pytest."""
    if words[0] == "-m":
        assert words[1] in ("venv", "pip", "pytest") or (ROOT / words[1].replace(".", "/")).with_suffix(".py").exists()
        return
    script = ROOT / words[0]
    assert script.exists(), words
    source = script.read_text(encoding="utf-8")
    assert all(word.partition("=")[0] in source for word in words[1:] if word.startswith("--")), words


def inline_commands(text: str) -> list[list[str]]:
    """Return the words of `evomerge VERB ...` where a page names it within a sentence."""
    spans = re.findall(r"(?<!`)`(evomerge [^`\n]+)`(?!`)", FENCE.sub("", text))
    return [words for span in spans if (words := shlex.split(span))[1] != "..."]


def check_inline_command(words: list[str]) -> None:
    """Check that the verb and the long options of a command within a sentence are known."""
    if words[1].startswith("-") or not words[1].islower():
        assert words[1] in ("--help", "--version", "VERB"), words
        return
    assert words[1] in VERBS, words
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known.add("--help")
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, words
