"""The checklist of the contract: every entry has a status, and what is called done exists and is tested."""

import importlib
import tomllib
from pathlib import Path

import pytest
import tutorial_page

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
        assert_a_test(entry["test"])


def assert_a_test(place):
    file, _, function = place.partition("::")
    assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), place


@pytest.mark.parametrize("row", [row for row in ROWS if row["kind"] in ("class", "method")], ids=lambda row: row["id"])
def test_everything_the_tutorial_defines_is_done_and_says_what_differs(row):
    assert row["status"] == "done"
    assert len(row["note"]) > 20
    assert len(row["note_zh"]) > 10


@pytest.mark.parametrize("row", [row for row in ROWS if row["status"] == "done"], ids=lambda row: row["id"])
def test_what_was_wrong_there_has_a_test_that_it_is_not_wrong_here(row):
    if row["verdict"] in ("wrong", "toy", "idea-wrong"):
        assert "regression" in row
    if "regression" in row:
        assert_a_test(row["regression"])
        assert row["regression"].startswith("tests/tutorial/")


def test_no_false_claim_of_the_prose_is_left_unanswered():
    assert [row["id"] for row in ROWS if row["verdict"] == "idea-wrong" and row["status"] != "done"] == []


def test_the_pages_for_readers_of_the_tutorial_are_what_the_list_makes(capsys):
    assert tutorial_page.main(["--check"]) == 0, capsys.readouterr().out
