"""A way to run a command line in this process, a stored report, and a small real subject on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from theorylens.cli import main
from theorylens.report import Report, write_json
from theorylens.results import (
    About,
    Certificate,
    Crashed,
    Done,
    Estimate,
    Evidence,
    Exact,
    Kind,
    Message,
    Recommendation,
    Record,
    Requirement,
    Result,
    RunFacts,
    Share,
    Skipped,
    SplitFacts,
    Statistical,
    SubjectFacts,
    Verdict,
)


@dataclass(frozen=True)
class Ended:
    """What a command line left."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """``run("gate", path, "--require", "...")`` in this process."""

    def run(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ended(int(left.value.code or 0), captured.out, captured.err)

    return run


def say(text: str, **values: object) -> Message:
    return Message("test." + text[:12], text, **values)


def bound(value: float, errors: int = 12, n: int = 597) -> Done:
    certificate = Certificate(
        theorem="Exact binomial (Clopper–Pearson)", bound=value, empirical=errors / n, n=n, delta=0.05, trivial=0.9,
        loss="0-1 loss", split="test", ledger=(Share(purpose=say("data"), delta=0.05),), comparisons=1,
        loss_range=(0.0, 1.0), hashes={"test": "22" * 32},
    )  # fmt: skip
    between = Statistical(lower=float("-inf"), upper=value, level=0.95, method=say("exact binomial"))
    result = Result(
        code="TL101", kind=Kind.CERTIFICATE, verdict=Verdict.HOLDS, certificate=certificate,
        estimate=Estimate(value=value, uncertainty=between, unit="0-1 loss"), reason=say("Exact."),
    )  # fmt: skip
    about = About(code="TL101", name="generalization.clopper_pearson", question="How often can it err?")
    return Done(about=about, result=result)


def number(code: str, name: str, value: float, verdict: Verdict = Verdict.DESCRIPTIVE) -> Done:
    result = Result(
        code=code, kind=Kind.INDICATOR, verdict=verdict, estimate=Estimate(value=value, uncertainty=Exact()),
        reason=say("It is {x:.3g}.", x=value),
    )  # fmt: skip
    return Done(about=About(code=code, name=name, question="How sharp is the minimum?"), result=result)


def make_record(*, sharpness: float = 4.0, advice: bool = True, stored: tuple[str, ...] = ()) -> Record:
    outcomes = (
        bound(0.0324),
        number("TL301", "landscape.eigenvalues", sharpness),
        number("TL401", "kernels.alignment", 0.5, Verdict.INCONCLUSIVE),
        Skipped(
            about=About(code="TL601", name="dynamics.slope", question="Was it finished?"), reason=say("no history")
        ),
        Crashed(
            about=About(code="TL501", name="bias.shift", question="Does a shift hurt?"), error="E: x", traceback="t"
        ),
    )
    known = [word for o in outcomes for word in (o.about.code, o.about.name)]
    effect = Recommendation(
        id="augment", change=say("Train with shifts of one pixel."), effect=say("untested"),
        command="theorylens audit x",
        supports=(Evidence(code="TL301", finding=say("Error rises to {b:.0%}.", b=0.456)),),
    )  # fmt: skip
    return Record(
        subject=SubjectFacts(
            name="digits-conv", task="classification, cross_entropy", architecture="Sequential", parameters=38282,
            dtype="float32", classes=10, fingerprint="ab" * 32,
            splits=(SplitFacts(role="test", rows=597, units=597, sha256="22" * 32),),
        ),
        run=RunFacts(
            started="2026-11-24T08:00:00+00:00", seconds=61.2, budget=60.0, seed=3, device="cpu", threads=1,
            versions={"theorylens": "0.1.0"}, source="cd" * 32, plan={"TL101": 0}, settings={"shuffled_control": False},
        ),
        outcomes=outcomes, headline="TL101", advice=(effect,) if advice else (), exit_code=3,
        requirements=tuple(Requirement.parse(t, known).check(outcomes, "TL101") for t in stored),
    )  # fmt: skip


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    """``stored("a.json", sharpness=4.0)``: a report on disk."""

    def stored(name: str = "report.json", /, **changes: object) -> Path:
        return write_json(make_record(**changes), tmp_path / name)

    return stored


SUBJECT = """
import torch
import theorylens as tl

def data(seed, n):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] + 0.5 * x[:, 1] > 0).long()

def make():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    x, y = data(0, 200)
    step = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(60):
        step.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        step.step()
    return tl.Subject(model=net, loss="cross_entropy", train=(x, y), test=data(1, 300), name="half plane")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``subject.py`` in it and a ledger of its own."""
    here = tmp_path / "place"
    here.mkdir()
    (here / "subject.py").write_text(SUBJECT, encoding="utf-8")
    monkeypatch.chdir(here)
    monkeypatch.setenv("THEORYLENS_STATE", str(tmp_path / "state"))
    return here


@pytest.fixture
def view() -> Callable[[Path], dict]:
    return lambda path: json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What `theorylens.audit` is asked for, in place of an audit; the report is the stored one."""
    calls: list[dict] = []

    def audit(subject: object, **given: object) -> Report:
        calls.append({"subject": subject, **given})
        return Report(make_record())

    monkeypatch.setattr("theorylens.auditing.audit", audit)
    return calls
