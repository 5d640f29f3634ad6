"""Finished probes on disk: one JSON and one npz each, whole or absent, so that a killed run goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorylens.results import Crashed, Done, Outcome, Skipped, outcome_from_view, outcome_view


def write_whole(path: Path, content: bytes) -> None:
    """Write by rename: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    with half.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


class Store:
    """The run folder of one key. Without a folder nothing is remembered."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def read_json(self, name: str) -> Any | None:
        """What was stored under ``name``, None when there is nothing readable."""
        if self.folder is None:
            return None
        try:
            return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def write_json(self, name: str, value: Any) -> None:
        if self.folder is not None:
            write_whole(self.folder / f"{name}.json", json.dumps(value, ensure_ascii=False, allow_nan=False).encode())

    def read(self, name: str) -> Outcome | None:
        """The outcome stored under ``name``; results that were read back are marked."""
        view = self.read_json(name)
        if view is None or self.folder is None:
            return None
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as arrays:
                return outcome_from_view({**view, "cached": True}, dict(arrays))
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def write(self, name: str, outcome: Outcome) -> None:
        """Store what was measured; crashes are tried again next time, skips cost nothing to find again."""
        if self.folder is None or isinstance(outcome, Crashed | Skipped):
            return
        assert isinstance(outcome, Done)
        arrays: dict[str, NDArray[Any]] = {}
        view = outcome_view(outcome, arrays)
        self._write_arrays(name, arrays)
        self.write_json(name, view)

    def _write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        half = self.folder / f".{name}.{os.getpid()}.part.npz"
        np.savez_compressed(half, allow_pickle=False, **dict(arrays))
        half.replace(self.folder / f"{name}.npz")
