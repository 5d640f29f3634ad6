"""The checklist of the contract: every entry has a status, and what is called done exists and is tested."""

import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = tomllib.loads((ROOT / "docs" / "coverage.toml").read_text(encoding="utf-8"))["row"]
COMPANIONS = [
    pytest.param(c, id=f"{row['section']}-{row['id']}-{i}")
    for row in ROWS
    for i, c in enumerate(row.get("companions", ()))
]
ENTRIES = [pytest.param(row, id=f"{row['section']}-{row['id']}") for row in ROWS] + COMPANIONS


def test_every_row_of_the_contract_is_listed_once():
    keys = [(row["section"], row["id"]) for row in ROWS]
    assert len(set(keys)) == len(keys)
    kinds = [row["kind"] for row in ROWS]
    assert {k: kinds.count(k) for k in ("class", "method")} == {"class": 20, "method": 82}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_status_means_what_it_says(entry):
    assert entry["status"] in ("done", "open", "declined")
    if entry["status"] == "declined":
        assert len(entry["reason"]) > 10
    if entry["status"] == "done":
        package, name = entry["name"].rsplit(".", 1)
        assert hasattr(importlib.import_module(package), name), entry["name"]
        file, _, function = entry["test"].partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert f"def {function}(" in text, entry["test"]
