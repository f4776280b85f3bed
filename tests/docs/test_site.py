"""The documentation site: every page has its place, links keep their meaning, generated pages are up to date.

`make docs` builds the site itself, where a warning is an error; CI runs it.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.code_blocks import ROOT

DOCS = ROOT / "docs"


def navigation() -> list[str]:
    """Return the pages and folders that mkdocs.yml lists."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def listed(entries: list[dict[str, Any]]) -> list[str]:
        values = [value for entry in entries for value in entry.values()]
        return [page for value in values for page in (listed(value) if isinstance(value, list) else [value])]

    return listed(config["nav"])


def test_every_page_is_in_the_navigation() -> None:
    listed = navigation()
    pages = [page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md"))]
    missing = [page for page in pages if page not in listed and not any(page.startswith(part) for part in listed)]
    assert missing == [], "give each a place under nav: in mkdocs.yml"


def test_nothing_of_the_site_is_fetched() -> None:
    """Without these the theme would load fonts from elsewhere, or ask a repository's host for its stars."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in text and "repo_url" not in text
    assert not re.search(r"extra_(javascript|css):\s*\[?.*https?://|emoji", text)


def test_the_page_of_methods_says_what_the_methods_say() -> None:
    from scripts.make_methods_page import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(), "run `make reference`"


def test_links_of_the_repository_become_links_of_the_site() -> None:
    from scripts.site_pages import FETCHED, REPOSITORY, expand_navigation, rewrite_links, site_pages

    pages = site_pages()
    text = (
        "[a](../README.md#top) [b](decisions/README.md) [c](../evomerge/methods/ties.py) [d](../no) ![e](images/x.svg)"
    )
    assert rewrite_links(text, "docs/start.md", pages) == (
        f"[a](index.md#top) [b](decisions/README.md) [c]({REPOSITORY}/blob/main/evomerge/methods/ties.py) "
        "[d](../no) ![e](images/x.svg)"
    )
    assert rewrite_links("[a](../../docs/start.md)", "experiments/nous/README.md", pages) == "[a](../start.md)"
    [decisions] = expand_navigation([{"Decisions": "decisions/"}], pages)
    assert decisions["Decisions"][:2] == ["decisions/README.md", "decisions/0001-statistics-coefficients-combine.md"]
    assert FETCHED.search('<script async src="https://x/y.js"></script>') and not FETCHED.search('<a href="https://x">')


def test_formulas_are_typeset() -> None:
    from scripts.make_methods_page import typeset

    assert typeset("base + lambda * sum(w_i (x_i - base)) >= t^2") == "base + λ · sum(wᵢ (xᵢ − base)) ≥ t²"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_lists_read_alike_in_the_repository_and_in_the_site(page: Path) -> None:
    """The site's Markdown wants an empty line before a list, and four spaces before what belongs to an item."""
    fenced, before, wrong = False, "", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fenced ^= line.lstrip().startswith("```")
        item = re.match(r"( *)([-*]|\d+\.) ", line)
        if not fenced and item:
            if before and not re.match(r" *([-*]|\d+\.) | {2,}\S", before):
                wrong.append(f"{page.name}:{number}: an empty line before the list")
            if len(item[1]) % 4:
                wrong.append(f"{page.name}:{number}: indent by four spaces")
        elif not fenced and not before and re.match(r" {2,3}\S", line):
            wrong.append(f"{page.name}:{number}: indent by four spaces")
        before = line
    assert wrong == []
