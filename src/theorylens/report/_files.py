"""Whole files or none: what is written under a name was finished before it got the name."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` to ``path`` as UTF-8 by atomic rename; the path written.

    Raises
    ------
    FileNotFoundError
        When the folder does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"the folder {str(target.parent)!r} for {target.name!r} does not exist; create it first"
        )
    half = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        half.write_text(text, encoding="utf-8", newline="\n")
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)
    return target
