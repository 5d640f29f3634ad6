"""The *How to read this* fold of a card: a section of the probe's theory page, when there is one."""

from __future__ import annotations

import re
from importlib.resources import files

from markdown_it import MarkdownIt
from markupsafe import Markup

HEADINGS = {"en": "How to read", "zh": "怎样读"}
_SAFE_NAME = re.compile(r"^[A-Za-z0-9_-]+$")


def how_to_read(code: str, lang: str) -> Markup:
    """The section as HTML without links or raw HTML; empty when the page or the section is missing."""
    if not _SAFE_NAME.match(code):
        return Markup("")
    page = files("theorylens") / "theory" / f"{code}.{lang}.md"
    if not page.is_file():
        return Markup("")
    section = _section(page.read_text(encoding="utf-8"), HEADINGS[lang])
    return Markup(_markdown().render(section)) if section else Markup("")


def _section(text: str, heading: str) -> str:
    found = re.search(rf"^##\s+{re.escape(heading)}[^\n]*\n(.*?)(?=^#{{1,2}}\s|\Z)", text, re.S | re.M)
    return found.group(1).strip() if found else ""


def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    return reader.disable(["link", "autolink", "image", "heading", "lheading", "html_block", "html_inline"])
