"""Print the tests of what a change touches, nearest first: `make quick` runs them.

Usage: python scripts/changed_tests.py [COMMIT]     (what changed since then; by default since main)

Changed tests come first, then test files that name a changed module, then the folders of tests that mirror the changed
packages. A change of anything that every package shares gives the tests of the whole house's rules.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EVERYTHING = "tests/test_house.py"  # the rules that hold for every file


def changed_files(since: str) -> list[str]:
    """Return the files that differ from a commit, and those that git does not know yet, as paths from the root."""
    commands = (["diff", "--name-only", "--diff-filter=d", f"{since}..."], ["diff", "--name-only", "--diff-filter=d"])
    commands += (["ls-files", "--others", "--exclude-standard"],)
    names: dict[str, None] = {}
    for command in commands:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True)
        names.update(dict.fromkeys(done.stdout.split()))
    return list(names)


def mirrors(file: str) -> list[str]:
    """Return the folders of tests that mirror a file's package, the innermost first; none if it has none of its own."""
    parts = Path(file).parts
    if parts[0] in ("evomerge", "tests"):
        folders = [Path("tests", *parts[1:end]) for end in range(len(parts) - 1, 1, -1)]
    else:
        folders = [Path("tests", parts[0])] if parts[0] in ("docs", "scripts", "experiments") else []
    return [str(folder) for folder in folders if (ROOT / folder).is_dir()]


def names_module(test: Path, modules: set[str]) -> bool:
    """Tell whether a test file contains the name of one of the modules as a word."""
    words = set(re.findall(r"\w+", test.read_text(encoding="utf-8")))
    return bool(words & modules)


def tests_of(files: list[str]) -> list[str]:
    """Return the tests of changed files, nearest first; pytest runs a test once, where it stands first."""
    tests = [file for file in files if re.fullmatch(r"tests/.*test_\w+\.py", file)]
    folders = list(dict.fromkeys(folder for file in files for folder in mirrors(file)))
    modules = {Path(file).stem.lstrip("_") for file in files if file.startswith("evomerge/")} - {"init", "init__"}
    for folder in folders:
        found = sorted((ROOT / folder).rglob("test_*.py"))
        tests += [str(test.relative_to(ROOT)) for test in found if names_module(test, modules)]
    return list(dict.fromkeys([*tests, *folders, EVERYTHING]))


if __name__ == "__main__":
    print(" ".join(tests_of(changed_files(sys.argv[1] if len(sys.argv) > 1 else "main"))))
