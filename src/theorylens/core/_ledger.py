"""Who was judged on which examples. A test set wears out; what is known of its use is paid for.

Design: a line is on disk before a bound is computed, so a run that is killed has still been counted. Runs side by side
take turns (a lock on the file), and a line that a killed run left torn costs no other line.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import numpy as np

from ._hashing import digest
from ._identity import judged_hash
from ._split import Split
from ._subject import Subject

TELLING = 40  # bytes that labels in order must fill once compressed, and turns from class to class beyond sorted ones


def state_folder() -> Path:
    """Where ledgers live: ``$THEORYLENS_STATE``, else the user's state folder."""
    if given := os.environ.get("THEORYLENS_STATE"):
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "theorylens"


class TestSetLedger:
    """Append-only list of (examples, who was judged on them); a line is on disk before a bound is computed.

    Parameters
    ----------
    path
        The file; the user's ledger of test sets by default.
    """

    __test__ = False  # pytest: not a test class

    def __init__(self, path: Path | None = None) -> None:
        self.path = path if path is not None else state_folder() / "test-sets.jsonl"

    def models(self, test: str, labels: str = "") -> set[str]:
        """Everybody judged on the examples with content hash ``test``, or with the same ``labels`` in order."""
        if not self.path.exists():
            return set()
        return _judged(self.path.read_text(encoding="utf-8", errors="replace"), test, labels)

    def record(self, test: str, model: str, name: str, *, labels: str = "") -> int:
        """Write that ``model`` is judged on ``test``; how many are known to have been, this one included.

        Parameters
        ----------
        test, model
            Hashes of the examples, and of who is judged.
        name
            For whoever reads the file.
        labels
            See `labels_in_order`; empty when the labels tell nothing apart.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file, _alone(file):
            file.seek(0)
            text = file.read().decode("utf-8", errors="replace")
            known = _judged(text, test, labels)
            if model not in _judged(text, test, ""):
                entry = {"test": test, "model": model, "name": name, "labels": labels,
                         "when": datetime.now(UTC).isoformat(timespec="seconds")}  # fmt: skip
                torn = "" if not text or text.endswith("\n") else "\n"  # a killed run's last line stays its own
                file.write((torn + json.dumps(entry, ensure_ascii=False) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        return len(known | {model})


def _judged(text: str, test: str, labels: str) -> set[str]:
    found = set()
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            same = entry["test"] == test or (labels and entry.get("labels") == labels)
            if same:
                found.add(str(entry["model"]))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            continue  # a torn line; what it was to say is lost, the others are not
    return found


@contextmanager
def _alone(file: IO[bytes]) -> Iterator[None]:
    """Nobody else writes meanwhile. Where files cannot be locked, appending still loses no line."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def judged_on_test(subject: Subject) -> int:
    """Write down that ``subject`` is judged on its test split; how many models are known to have been, it included."""
    split = subject.split("test")
    return TestSetLedger().record(
        split.content, judged_hash(subject), subject.name, labels=labels_in_order(split)
    )  # fmt: skip


def tried_on_training(subject: Subject, family: str, what: str, name: str) -> int:
    """Write down a way to certify from the training split; how many of its family are known to have been tried.

    Parameters
    ----------
    family
        Ways that may be chosen among by their bounds.
    what
        Hash of everything that was fixed before the examples: settings, recipe, start.
    """
    split = subject.split("train")
    labels = labels_in_order(split)
    ledger = TestSetLedger(state_folder() / "bound-data.jsonl")
    return ledger.record(
        f"{family}:{split.content}", what, name, labels=f"{family}:{labels}" if labels else ""
    )  # fmt: skip


def labels_in_order(split: Split) -> str:
    """Hash of the targets of a split, row by row: the same when inputs are only prepared in another way.

    Also the same for outputs without a model, whose "inputs" are what each model answered. Empty when such an order of
    labels may come with any data: sorted, in turns, constant, or few.
    """
    targets = split.target_hashes
    first: dict[bytes, int] = {}
    numbers = np.asarray([first.setdefault(h, len(first)) for h in targets], dtype=np.int64)
    changes = int((np.diff(numbers) != 0).sum())
    size = len(zlib.compress(numbers.astype(np.uint8 if len(first) < 256 else np.uint32).tobytes(), 9))
    if changes < len(first) + TELLING or size < TELLING + len(numbers) / 250:
        return ""
    return digest(*targets)
