"""Where a sweep keeps its results when nobody asked for them to be kept."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def kept_or_temporary(directory: str | Path | None) -> Iterator[str | Path]:
    """``directory``, or one that is gone afterwards."""
    if directory is not None:
        yield directory
        return
    with tempfile.TemporaryDirectory() as made:
        yield made
