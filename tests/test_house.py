"""The rules of layout and words that a machine can check (see CONTRIBUTING.md)."""

import ast
import inspect
import os
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import evomerge

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "evomerge"
FILES = sorted(PACKAGE.rglob("*.py"))
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE"))]

MAX_FILES = 16  # in a folder, but for lists of one known thing a file
LISTS = ("methods", "cli")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
METAPHORS = "nights?|rooms?|doors?|kitchen|cook|donors?|strangers?|kinship|shelf|standings|tally|greet|greeting|twins?"
METAPHORS += "|despair|hopeless|mourn|mourning|homeless|doubted|loose|lenders?|keepers?|told|shown|orphans"
METAPHORS += "|asked for|stands? behind|says of|to be had"
BRITISH = r"(optimis(?!t)|behaviour|licence|normalis|colour|recognis|initialis|summaris|organis|neighbour|centre)\w*"
NAMELESS = ("one", "each", "thing")  # names of variables that do not name the element
PRIVATE = re.compile(r"evomerge(\.\w+)*\._(?!_)")
BANNED = re.compile(rf"\b(?:{METAPHORS}|{BRITISH})\b|\bfor (?:one|each) in\b", re.IGNORECASE)


@cache
def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(text_of(file))


@cache
def nodes_of(file: Path) -> list[ast.AST]:
    return list(ast.walk(tree_of(file)))


def packages() -> list[str]:
    """Return the dotted names of all packages, `evomerge` itself first."""
    folders = [file.parent.relative_to(ROOT) for file in FILES if file.name == "__init__.py"]
    return [".".join(folder.parts) for folder in sorted(folders)]


def test_no_folder_has_the_name_of_a_public_function() -> None:
    """Importing a package sets its name on its parent: `import evomerge.search` would hide the function `search`."""
    assert not {path.name for path in PACKAGE.iterdir() if path.is_dir()} & set(evomerge.__all__)


def test_folders_are_small() -> None:
    folders = {file.parent for file in FILES}
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in folders}
    lists = {f"evomerge/{name}" for name in LISTS}
    assert {name: count for name, count in counts.items() if count > MAX_FILES and name not in lists} == {}


def test_files_and_functions_are_short() -> None:
    long = []
    for file in FILES:
        if (lines := text_of(file).count("\n")) > MAX_FILE_LINES:
            long.append(f"{file.relative_to(ROOT)}: {lines} lines")
        for node in nodes_of(file):
            if (
                isinstance(node, ast.FunctionDef)
                and node.end_lineno
                and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
            ):
                long.append(
                    f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
                )
    assert long == []


@pytest.mark.parametrize("package", packages())
def test_every_public_name_is_documented(package: str) -> None:
    module = import_module(package)
    assert module.__doc__, "a package's docstring says what it is for and what it must not import"
    public = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    documented = {name: value for name, value in public.items() if inspect.isclass(value) or inspect.isroutine(value)}
    assert [name for name, value in documented.items() if not inspect.getdoc(value)] == []


def test_a_class_name_means_one_thing() -> None:
    """Classes and type aliases of all modules; those inside a function or class are named in their context."""
    defined: dict[str, list[str]] = {}
    for file in FILES:
        for node in tree_of(file).body:
            if isinstance(node, ast.ClassDef):
                defined.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                for name in filter(re.compile(r"[A-Z]+[a-z]").match, names):
                    defined.setdefault(name, []).append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in defined.items() if len(files) > 1} == {}


def test_words_are_plain_and_american() -> None:
    found = []
    for file in [*FILES, *PAGES]:
        text = text_of(file)
        for word in BANNED.finditer(text):
            found.append(f"{file.relative_to(ROOT)}:{text.count(chr(10), 0, word.start()) + 1}: {word[0]}")
        if file.suffix == ".py":
            stored = [node for node in nodes_of(file) if isinstance(node, ast.Name | ast.arg)]
            names = {(node.lineno, node.id if isinstance(node, ast.Name) else node.arg) for node in stored}
            found += [f"{file.relative_to(ROOT)}:{line}: {name}" for line, name in sorted(names) if name in NAMELESS]
    assert found == []


def private_imports(file: Path) -> list[str]:
    """Return the imports of a file that name something private of evomerge, as `file:line: name`."""
    found = []
    for node in nodes_of(file):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names if not node.level]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [f"{file.relative_to(ROOT)}:{node.lineno}: {name}" for name in names if PRIVATE.match(name)]
    return found


def test_tests_scripts_and_experiments_use_public_names() -> None:
    """Where one cannot, a public name is missing. A test may replace a private name by its dotted path."""
    files = [file for folder in ("tests", "scripts", "experiments") for file in sorted((ROOT / folder).rglob("*.py"))]
    assert [line for file in files for line in private_imports(file)] == []


def pages_of_the_repository() -> list[Path]:
    """Return every page; folders that `make` fills are left out, without a look into them."""
    found: list[Path] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in (".git", ".venv", ".venv-peers", ".venv-vllm", "runs")]
        found += [Path(folder, name) for name in files if name.endswith(".md")]
    return found


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages_of_the_repository()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text_of(page))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_demo_is_given_one_time() -> None:
    said = re.search(r"^demo:.*\((about [\w ]+)\)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert said and said[1] in (ROOT / "README.md").read_text(encoding="utf-8")
