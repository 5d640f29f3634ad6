"""Nobody was judged on anything before a test begins."""

import pytest


@pytest.fixture(autouse=True)
def own_ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("THEORYLENS_STATE", str(tmp_path / "state"))
