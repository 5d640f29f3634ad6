"""How many models were judged on one test set. A test set wears out; what is known of its use is paid for."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path


def state_folder() -> Path:
    """Where the ledger lives: ``$THEORYLENS_STATE``, else the user's state folder."""
    if given := os.environ.get("THEORYLENS_STATE"):
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "theorylens"


class TestSetLedger:
    """Append-only list of (test set, model); a line is on disk before a bound is computed."""

    __test__ = False  # pytest: not a test class

    def __init__(self, path: Path | None = None) -> None:
        self.path = path if path is not None else state_folder() / "test-sets.jsonl"

    def models(self, test: str) -> set[str]:
        """Hashes of the models judged on the test set with content hash ``test``; a torn last line is ignored."""
        if not self.path.exists():
            return set()
        found = set()
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry.get("test") == test:
                found.add(str(entry["model"]))
        return found

    def record(self, test: str, model: str, name: str) -> int:
        """Write that ``model`` is judged on ``test``; the number of distinct models known so far, this one included."""
        known = self.models(test)
        if model not in known:
            entry = {
                "test": test,
                "model": model,
                "name": name,
                "when": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        return len(known | {model})
