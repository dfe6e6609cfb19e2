"""Hooks of the documentation's site (mkdocs.yml): pages from files outside of docs/, and links that lead to pages.

README.md, README.zh.md and the pages for contributors stay where readers of the repository look for them; here they
become pages, and their links lead to pages where there is one. A link to any other file of the repository becomes the
file's name, because a site has no such file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

import mirror

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "README.zh.md": "index.zh.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""The pages that are made of files of the repository's root."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
OUTSIDE = re.compile(
    r"""<(?:script|img|iframe|link|source|video|audio)\b[^>]*?\s(?:src|href)=["']?(?:https?:)?//[^>]*>"""
)
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def on_startup(**_: object) -> None:
    """Make the tree that the API pages are read from, before the plug-in that reads it looks for it."""
    mirror.build()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of files outside of docs/."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to pages."""
    source = {made: name for name, made in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return with_page_links(markdown, source)


def on_post_build(config: MkDocsConfig) -> None:
    """Check that no page loads anything from another server.

    Raises:
        PluginError: One does.
    """
    from mkdocs.exceptions import PluginError

    for path in Path(config.site_dir).rglob("*.html"):
        found = OUTSIDE.search(path.read_text(encoding="utf-8"))
        if found is not None:
            raise PluginError(f"{path.name} loads from another server: {found[0]}")


def with_page_links(markdown: str, source: str) -> str:
    """A file's text with its links as a page has them; code stays as it is.

    Args:
        markdown: The text.
        source: The file's path in the repository.
    """
    here = PAGES.get(source, source.removeprefix("docs/"))

    def replaced(found: re.Match[str]) -> str:
        image, text, link = found.groups()
        if re.match(r"[a-z]+:|#", link):
            return found[0]
        path, hash_sign, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        is_page = target.startswith("docs/") and (target.endswith(".md") or bool(image))
        page = PAGES.get(target) or (target.removeprefix("docs/") if is_page else None)
        if page is None:
            return text if text.strip("`") == target else f"{text} (`{target}`)"
        relative = posixpath.relpath(page, posixpath.dirname(here) or ".")
        return f"{image}[{text}]({relative}{hash_sign}{anchor})"

    parts = CODE.split(markdown)
    return "".join(part if index % 2 else LINK.sub(replaced, part) for index, part in enumerate(parts))
