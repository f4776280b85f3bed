"""Hooks of mkdocs (see mkdocs.yml): pages that lie outside docs/, and links between all of them.

Every page is written for the repository: links lead to files, as GitHub follows them. Here README.md, the experiments'
READMEs and a few others join the site, links between pages become links of the site, and a link to any other file of
the repository becomes one to its place on the web. A link that leads nowhere is left as it is, for mkdocs to refuse.
"""

import logging
import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/evomerge/evomerge"
TOP_PAGES = {
    "README": "index",
    **{name: name.lower() for name in ("ARCHITECTURE", "CONTRIBUTING", "BENCHMARKS", "CHANGELOG")},
}
FETCHED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"https?:[^>]*>|<link\b[^>]*\bhref=\"https?:[^>]*>")
LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)]*)?(\))")


def site_pages() -> dict[str, str]:
    """Return where each page of the site comes from: path in the repository -> path in the site."""
    pages = {f"{source}.md": f"{name}.md" for source, name in TOP_PAGES.items()}
    for file in sorted((ROOT / "docs").rglob("*.md")):
        pages[file.relative_to(ROOT).as_posix()] = file.relative_to(ROOT / "docs").as_posix()
    for file in sorted((ROOT / "experiments").glob("*/README.md")):
        pages[file.relative_to(ROOT).as_posix()] = f"experiments/{file.parent.name}.md"
    return pages


def rewrite_links(text: str, source: str, pages: dict[str, str]) -> str:
    """Return a page's text with its links as they are in the site.

    Args:
        text: of the page, in Markdown.
        source: its path in the repository.
        pages: as `site_pages` returns them.
    """
    here = PurePosixPath(pages[source]).parent

    def rewritten(match: re.Match[str]) -> str:
        start, target, anchor, end = match[1], match[2], match[3] or "", match[4]
        path = os.path.normpath(PurePosixPath(source).parent / target)
        if path in pages:
            target = os.path.relpath(pages[path], here)
        elif path.startswith("docs/"):
            target = os.path.relpath(path.removeprefix("docs/"), here)
        elif (ROOT / path).exists():
            target = f"{REPOSITORY}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}"
        return f"{start}{target}{anchor}{end}"

    return LINK.sub(rewritten, text)


def expand_navigation(entries: list[Any], pages: dict[str, str]) -> list[Any]:
    """Return the navigation with each folder ("decisions/") replaced by its pages, its README first."""
    expanded = []
    for entry in entries:
        ((title, value),) = entry.items()
        if isinstance(value, list):
            value = expand_navigation(value, pages)
        elif value.endswith("/"):
            inside = [page for page in pages.values() if page.startswith(value)]
            value = sorted(inside, key=lambda page: (not page.endswith("README.md"), page))
        expanded.append({title: value})
    return expanded


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """Put every page of the folders into the navigation."""
    config.nav = expand_navigation(config.nav or [], site_pages())
    return config


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages outside docs/."""
    from mkdocs.structure.files import File

    for source, page in site_pages().items():
        if not source.startswith("docs/"):
            files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Rewrite a page's links."""
    pages = site_pages()
    source = next(path for path, place in pages.items() if place == page.file.src_uri)
    return rewrite_links(markdown, source, pages)


def on_post_page(output: str, *, page: "Page", config: "MkDocsConfig") -> None:
    """Warn of whatever a reader's browser would fetch from elsewhere; with `strict`, a warning is an error."""
    for tag in FETCHED.findall(output):
        logging.getLogger("mkdocs").warning("%s: fetches %s", page.file.src_uri, tag[:120])
