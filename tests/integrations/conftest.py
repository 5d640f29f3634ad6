"""Two stored reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from theorylens.report import write_json
from theorylens.results import (
    About,
    Certificate,
    Crashed,
    Done,
    Estimate,
    Exact,
    Kind,
    Message,
    Outcome,
    Record,
    Result,
    RunFacts,
    Share,
    Skipped,
    SubjectFacts,
    Verdict,
)

TL101 = About(code="TL101", name="generalization.clopper_pearson", question="How often can it err?")


def _record(*outcomes: Outcome) -> Record:
    return Record(
        subject=SubjectFacts(
            name="stored", task="classification", architecture="Linear", parameters=8, dtype="float32", classes=2,
            fingerprint="ab", splits=(),
        ),
        run=RunFacts(
            started="2026-11-24T08:00:00+00:00", seconds=1.0, budget=None, seed=0, device="cpu", threads=1, versions={},
            source="cd", plan={},
        ),
        outcomes=outcomes, headline="TL101",
    )  # fmt: skip


@pytest.fixture
def record_file(tmp_path: Path) -> Path:
    certificate = Certificate(
        theorem="Clopper-Pearson", bound=0.03, empirical=0.01, n=500, delta=0.05, comparisons=1, loss="0-1 loss",
        ledger=(Share(purpose=Message("t.data", "data"), delta=0.05),), loss_range=(0.0, 1.0), trivial=0.5,
        split="test", hashes={},
    )  # fmt: skip
    result = Result(
        code="TL101", kind=Kind.CERTIFICATE, verdict=Verdict.HOLDS, certificate=certificate,
        estimate=Estimate(value=0.03, uncertainty=Exact()), reason=Message("t.exact", "Exact."),
    )  # fmt: skip
    about = About(code="TL501", name="bias.shift", question="Does a shift hurt?")
    crashed = Crashed(about=about, error="FloatingPointError: loss is inf", traceback='File "x.py", line 1')
    return write_json(_record(Done(about=TL101, result=result), crashed), tmp_path / "report.json")


@pytest.fixture
def empty_file(tmp_path: Path) -> Path:
    skipped = Skipped(about=TL101, reason=Message("t.needs", "needs a test split"))
    return write_json(_record(skipped), tmp_path / "empty.json")
