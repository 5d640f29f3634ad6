"""Every golden value of the contract is asked for by some test: `golden("G1.1-7")`."""

import ast
import json
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
IDS = [entry["id"] for entry in json.loads((TESTS / "golden" / "values.json").read_text(encoding="utf-8"))]


def said(file: Path) -> set[str]:
    """Every string that a test file writes."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.fixture(scope="module")
def strings():
    return set().union(*(said(file) for file in TESTS.rglob("test_*.py")))


@pytest.mark.parametrize("key", IDS)
def test_it_is_held_by_a_test(key, strings):
    assert key in strings
