"""Requirements on a network as a pytest test.

    def test_the_network(theorylens_audit):
        theorylens_audit(make_subject(), require=["certificate <= 0.1"], budget="30s")

    def test_the_report(theorylens_audit):
        theorylens_audit("report.json", require=["certificate <= 0.1"])

Pytest loads this file in every run on a machine that has theorylens, so it imports nothing heavy before a test asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pytest

if TYPE_CHECKING:
    from theorylens.core import Subject
    from theorylens.report import Report
    from theorylens.results import Checked


@runtime_checkable
class Audit(Protocol):
    """What the fixture ``theorylens_audit`` gives: audits a subject, or reads a report, and fails the test or not."""

    def __call__(
        self,
        what: Subject | str | Path,
        *,
        require: str | Sequence[str] = (),
        budget: str | float | None = None,
        only: str | None = None,
        skip: str | None = None,
        seed: int = 0,
        allow_crash: Sequence[str] = (),
    ) -> Report: ...


@pytest.fixture
def theorylens_audit() -> Audit:
    """Audit a Subject, or read a report from its JSON file; the test fails when a requirement is not met.

    It also fails when a probe crashed that ``allow_crash`` does not name, and when nothing was measured. The report is
    returned. Of a stored report only ``require`` and ``allow_crash`` are used.
    """
    return _audit


def _audit(
    what: Subject | str | Path,
    *,
    require: str | Sequence[str] = (),
    budget: str | float | None = None,
    only: str | None = None,
    skip: str | None = None,
    seed: int = 0,
    allow_crash: Sequence[str] = (),
) -> Report:
    __tracebackhide__ = True
    wanted = (require,) if isinstance(require, str) else tuple(require)
    if isinstance(what, str | Path):
        report, checked = _stored(what, wanted)
    else:
        from theorylens.auditing import Options, audit

        report = audit(what, budget=budget, only=only, skip=skip, seed=seed, options=Options(require=wanted))
        checked = report.record.requirements
    if faults := _faults(report, checked, allow_crash):
        pytest.fail(f"{report.record.subject.name}: " + "\n  ".join(faults), pytrace=False)
    return report


def _stored(path: str | Path, wanted: Sequence[str]) -> tuple[Report, tuple[Checked, ...]]:
    from theorylens.report import Report
    from theorylens.results import Requirement

    report = Report.load(path)
    outcomes, headline = report.record.outcomes, report.record.headline
    known = [word for o in outcomes for word in (o.about.code, o.about.name)]
    return report, tuple(Requirement.parse(text, known).check(outcomes, headline) for text in wanted)


def _faults(report: Report, checked: Sequence[Checked], allow_crash: Sequence[str]) -> list[str]:
    """Everything for which the test fails, one line each."""
    from theorylens.results import Crashed, Done

    outcomes = report.record.outcomes
    crashed = [o for o in outcomes if isinstance(o, Crashed) and o.about.code not in allow_crash]
    faults = [f"not met: {c.text} ({c.why.render()})" for c in checked if not c.met]
    faults += [f"{o.about.code} crashed: {o.error}\n{o.traceback}" for o in crashed]
    if not any(isinstance(o, Done) for o in outcomes):
        faults.append("nothing was measured")
    return faults
