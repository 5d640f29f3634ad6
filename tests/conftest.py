"""Every test runs on one thread and keeps its own ledger of test-set uses."""

import json
import os
from pathlib import Path

import hypothesis
import pytest
import torch

# The same examples in every run: a red test is then red for everybody. HYPOTHESIS_PROFILE=search looks for new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("state")
    before = os.environ.get("THEORYLENS_STATE")
    os.environ["THEORYLENS_STATE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["THEORYLENS_STATE"]
    else:
        os.environ["THEORYLENS_STATE"] = before


@pytest.fixture(scope="session")
def golden():
    """The contract's golden value of an id, as written there: ``golden("G1.1-7")``."""
    entries = json.loads((Path(__file__).parent / "golden" / "values.json").read_text(encoding="utf-8"))
    return {entry["id"]: entry["value"] for entry in entries}.__getitem__
