"""The theory pages that are shipped, by code and language."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def pages() -> dict[str, dict[str, Traversable]]:
    """Code to language to page, for instance ``pages()["TL101"]["en"]``."""
    found: dict[str, dict[str, Traversable]] = {}
    folder = files("theorylens") / "theory"
    for page in folder.iterdir() if folder.is_dir() else ():
        code, _, rest = page.name.partition(".")
        if code.startswith("TL") and rest.endswith(".md"):
            found.setdefault(code, {})[rest.removesuffix(".md")] = page
    return found
