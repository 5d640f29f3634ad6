"""A record with every payload, verdict and outcome, in the words of the digits audit; and variants of it."""

from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
import pytest

from theorylens.results import (
    About,
    Assumption,
    Certificate,
    Checked,
    Control,
    Cost,
    Crashed,
    Curve,
    Done,
    Enclosure,
    Estimate,
    Evidence,
    Exact,
    Intervals,
    Kind,
    Levels,
    Line,
    Matrix,
    Message,
    Points,
    Predictor,
    Recommendation,
    Record,
    Result,
    RunFacts,
    Share,
    Skipped,
    Spectrum,
    SplitFacts,
    Statistical,
    Status,
    SubjectFacts,
    Table,
    Unknown,
    Verdict,
    Wall,
)

HOSTILE = '<script>alert("x")</script> & \'q\' $\\frac{1}{2}$ a_b_c | `tick` #1c2024 url(#x) id="y"'


def say(text: str, **values: object) -> Message:
    return Message("test." + "".join(c for c in text[:12] if c.isalnum()), text, **values)


def exact(value: float, unit: str = "") -> Estimate:
    return Estimate(value=value, uncertainty=Exact(), unit=unit)


def between(value: float, lower: float, upper: float, unit: str = "") -> Estimate:
    method = say("bootstrap within class")
    return Estimate(
        value=value, uncertainty=Statistical(lower=lower, upper=upper, level=0.95, method=method), unit=unit
    )


def control(role: str, value: float, unit: str = "") -> Control:
    names = {"init": "random init", "shuffled": "shuffled labels", "theory": "theory"}
    return Control(role=role, name=say(names[role]), estimate=exact(value, unit))


def bound(
    code: str,
    theorem: str,
    value: float,
    empirical: float,
    *,
    n: int = 597,
    delta: float = 0.05,
    trivial: float = 0.898,
    verdict: Verdict | None = None,
    predictor: Predictor = Predictor.THIS_MODEL,
    comparisons: int = 1,
    split: str = "test",
    loss_range: tuple[float, float] = (0.0, 1.0),
    controls: tuple[Control, ...] = (),
    assumptions: tuple[Assumption, ...] = (),
    question: str = "How often can it err, judged by data that no choice was based on?",
) -> Done:
    certificate = Certificate(
        theorem=theorem,
        bound=value,
        empirical=empirical,
        n=n,
        delta=delta,
        trivial=trivial,
        loss="0-1 loss",
        split=split,
        ledger=(Share(purpose=say("data"), delta=delta),),
        comparisons=comparisons,
        loss_range=loss_range,
        hashes={split: "9f86d081884c7d659a2feaa0c55ad015"},
        predictor=predictor,
    )
    verdict = verdict or (Verdict.VACUOUS if certificate.vacuous else Verdict.HOLDS)
    estimate = Estimate(
        value=value,
        uncertainty=Statistical(lower=-math.inf, upper=value, level=1 - delta, method=say("exact binomial")),
        unit="0-1 loss",
    )
    result = Result(
        code=code,
        estimate=estimate,
        kind=Kind.CERTIFICATE,
        verdict=verdict,
        certificate=certificate,
        controls=controls,
        reason=say("Exact. The trivial level is {trivial:.1%}.", trivial=trivial)
        if verdict is Verdict.HOLDS
        else say("No better than one answer for all: {bound:.1%}.", bound=value),
        reading=say(
            "At most {bound:.1%}: {errors} errors on {n} examples.", bound=value, errors=round(empirical * n), n=n
        ),
        assumptions=assumptions,
        references=("Clopper & Pearson (1934). Biometrika 26.",),
        seed=0,
        cost=Cost(seconds=0.12, forwards=n),
    )
    return Done(about=About(code=code, name="generalization.clopper_pearson", question=question), result=result)


def found(
    code: str, name: str, question: str, estimate: Estimate, verdict: Verdict, reason: str, **rest: object
) -> Done:
    fields = {"kind": Kind.INDICATOR, "cost": Cost(seconds=1.4, forwards=1000, hvps=520), "seed": 0, **rest}
    result = Result(code=code, estimate=estimate, verdict=verdict, reason=say(reason), **fields)
    return Done(about=About(code=code, name=name, question=question), result=result)


def curve(n: int = 22) -> Curve:
    step = np.unique(np.geomspace(1, 800, n).round())
    sharp = 2 + 36 * np.exp(-((np.log(step) - 4) ** 2))
    return Curve(
        label=say("Sharpness along training, far below the stability limit"),
        lines=(
            Line(x=step, y=sharp, name=say("this network"), lower=sharp * 0.9, upper=sharp * 1.1),
            Line(x=step, y=sharp[::-1] * 0.7, name=say("shuffled labels"), role="shuffled"),
        ),
        x_name=say("training step, log scale"),
        y_name=say("sharpness, log scale"),
        x_log=True,
        y_log=True,
        walls=(Wall(at=190.0, name=say("limit 2(1 + β)/η: unstable above")),),
    )


def spectrum() -> Spectrum:
    rank = np.arange(1, 13)
    return Spectrum(
        label=say("Twelve largest Hessian eigenvalues beside the controls"),
        levels=(
            Levels(values=4.1 * rank**-0.8, name=say("this network"), error=0.05 / rank),
            Levels(values=0.28 * rank**-0.5, name=say("random init"), role="init"),
            Levels(values=4.55 * rank**-0.8, name=say("shuffled labels"), role="shuffled"),
        ),
        y_name=say("Hessian eigenvalue, log scale"),
        y_log=True,
    )


def small_matrix() -> Matrix:
    names = ("input", "conv1", "conv2", "pool", "fc1", "logits")
    values = np.clip(1 - 0.12 * np.abs(np.subtract.outer(np.arange(6), np.arange(6))), 0, 1)
    return Matrix(
        label=say("Similarity of each layer"),
        values=values,
        top=1.0,
        rows=names,
        columns=names,
        x_name=say("at initialisation"),
        y_name=say("after training"),
    )


def big_matrix(n: int = 150) -> Matrix:
    group = np.repeat(np.arange(10), n // 10)
    rng = np.random.default_rng(0)
    values = 0.2 + 0.6 * (group[:, None] == group[None, :]) + 0.1 * rng.random((len(group), len(group)))
    return Matrix(label=say("Tangent-kernel cosines, digits sorted by class"), values=values, top=1.0)


def points(n: int = 600) -> Points:
    rng = np.random.default_rng(0)
    group = np.arange(n) % 3
    return Points(
        label=say("Features of the last layer"),
        x=rng.normal(size=n) + 4 * group,
        y=rng.normal(size=n),
        x_name=say("first coordinate"),
        y_name=say("second coordinate"),
        group=group,
    )


def intervals() -> Intervals:
    return Intervals(
        label=say("Intrinsic dimension of six layers"),
        names=("input", "conv1", "conv2", "pool", "fc1", "logits"),
        values=np.array([8.1, 8.0, 7.6, 6.9, 6.0, 5.2]),
        lower=np.array([7.4, 7.3, 6.9, 6.2, 5.4, 4.6]),
        upper=np.array([8.8, 8.7, 8.3, 7.6, 6.6, 5.8]),
        x_name=say("intrinsic dimension"),
        roles=("network", "network", "network", "network", "network", "network"),
        walls=(Wall(at=10.0, name=say("as many as classes")),),
    )


def table() -> Table:
    return Table(
        label=say("Examples by class"),
        columns=(say("class"), say("train"), say("note")),
        rows=(("zero", 98, say("as expected")), ("one", 103, "–"), ("two", 12.5, say("few"))),
    )


def assumptions() -> tuple[Assumption, ...]:
    return (
        Assumption(
            statement=say("no test row occurs in train"),
            status=Status.MET,
            evidence=say("row hashes compared; {n} copies", n=0),
        ),
        Assumption(statement=say("nobody chose anything by looking at test"), evidence=say("declared by you")),
    )


def outcomes() -> tuple[object, ...]:
    shared = control("init", 0.961, "0-1 loss"), control("shuffled", 0.9, "0-1 loss")
    broken = (Assumption(statement=say("full-batch training"), status=Status.BROKEN, evidence=say("batches of 50")),)
    return (
        bound(
            "TL101", "Exact binomial (Clopper–Pearson)", 0.03236, 12 / 597, controls=shared, assumptions=assumptions()
        ),
        bound("TL104", "Exact binomial, validation", 0.10099, 0.04, n=200, comparisons=40, split="validation"),
        bound("TL110", "PAC-Bayes-kl, learnt prior", 0.16, 0.035, n=400, predictor=Predictor.ENSEMBLE, split="train"),
        bound("TL111", "PAC-Bayes-kl, prior at initialisation", 1.0, 0.001, n=1000, split="train"),
        found(
            "TL130",
            "generalization.calibration",
            "Are its confidences right?",
            exact(0.0033, "fraction"),
            Verdict.FAILS,
            "Not quite. One group of six claims 99.93 % and is right 97 times in 99.",
            controls=(control("init", 0.2, "fraction"),),
        ),
        found(
            "TL301",
            "landscape.eigenvalues",
            "How sharp is the minimum?",
            exact(4.0912),
            Verdict.INCONCLUSIVE,
            "It cannot tell: as sharp as with shuffled labels.",
            payload=(spectrum(),),
            reading=say(
                "Its sharpest direction has curvature {top:.1f}; shuffled labels reach {other:.1f}.",
                top=4.09,
                other=4.55,
            ),
            controls=(control("init", 0.28), control("shuffled", 4.55)),
            references=("Dinh et al. (2017). ICML.",),
            settings={"steps": 60, "reorthogonalise": True, "tolerance": 1e-6},
            plan=64,
        ),
        found(
            "TL310",
            "landscape.stability",
            "Did training reach the edge of stability?",
            between(0.21, 0.17, 0.25),
            Verdict.DESCRIPTIVE,
            "No. Sharpness peaked at 39; the limit is 190.",
            payload=(curve(),),
            assumptions=broken,
        ),
        found(
            "TL401",
            "kernels.alignment",
            "Does its kernel line up with the labels?",
            between(0.567, 0.529, 0.601),
            Verdict.INCONCLUSIVE,
            "Shuffled labels fall inside the interval.",
            payload=(big_matrix(), small_matrix(), curve()),
            controls=(control("init", 0.44), control("shuffled", 0.58), control("theory", 0.5)),
        ),
        found(
            "TL201",
            "representation.two_nn",
            "Along how many directions do the outputs vary?",
            between(5.23, 4.6, 5.8),
            Verdict.HOLDS,
            "Yes, fewer than with shuffled labels, beyond both intervals.",
            payload=(intervals(),),
            controls=(control("init", 7.9), control("shuffled", 7.6)),
            examples=tuple(range(30)),
        ),
        found(
            "TL501",
            "bias.shift",
            "Does a one-pixel shift leave the answer alone?",
            between(0.456, 0.32, 0.58, "0-1 loss"),
            Verdict.FAILS,
            "No. A one-pixel shift ruins nearly half of the answers.",
            payload=(points(), table()),
            controls=(control("theory", 0.9, "0-1 loss"),),
        ),
        found(
            "TL520",
            "bias.class_balance",
            "Are the classes balanced?",
            Estimate(value=1.27, uncertainty=Enclosure(lower=1.2, upper=1.3, why=say("rounding"))),
            Verdict.DESCRIPTIVE,
            "No class strays beyond chance.",
            kind=Kind.DESCRIPTION,
            payload=(table(),),
        ),
        found(
            "TL601",
            "dynamics.slope",
            "Was training finished?",
            Estimate(value=math.nan, uncertainty=Unknown(why=say("not recorded")), trouble=say("record more steps")),
            Verdict.INCONCLUSIVE,
            "It cannot be told from this record.",
            kind=Kind.DESCRIPTION,
        ),
        Skipped(
            about=About(code="TL420", name="kernels.linearise", question="How far is it from its linearisation?"),
            reason=say("would take about {seconds} s; use --budget 4m", seconds=140),
        ),
        Crashed(
            about=About(code="TL330", name="landscape.complexity", question="How many parameters does it use?"),
            error="FloatingPointError: loss is inf",
            traceback='File "theorylens/landscape/_x.py", line 58\nFloatingPointError: loss is inf',
            seconds=0.3,
        ),
    )


def make_record(**changes: object) -> Record:
    subject = SubjectFacts(
        name="digits-conv",
        task="classification",
        architecture="Sequential, 4 layers",
        parameters=38282,
        dtype="float32",
        classes=10,
        fingerprint="ab12" * 8,
        notes=(say("a DataLoader was re-read in order"),),
        splits=(
            SplitFacts(role="train", rows=1000, units=1000, sha256="11" * 16),
            SplitFacts(role="validation", rows=200, units=200, sha256="33" * 16),
            SplitFacts(role="test", rows=597, units=590, sha256="22" * 16),
        ),
    )
    run = RunFacts(
        started="2026-11-24T08:00:00+00:00",
        seconds=61.2,
        budget=60.0,
        seed=0,
        device="cpu",
        threads=1,
        versions={"theorylens": "0.1.0", "torch": "2.13.0", "numpy": "2.2.0"},
        source="cd" * 16,
        plan={"TL301": 64},
        settings={"device": "auto", "strict": True},
        command="theorylens audit digits.py:make --budget 60s",
        hash="ef" * 16,
    )
    advice = (
        Recommendation(
            id="augment",
            change=say("Train with shifts of one pixel."),
            effect=say("untested"),
            supports=(
                Evidence(
                    code="TL501",
                    finding=say("Error rises from {a:.1%} to {b:.0%} under one-pixel shifts.", a=0.0201, b=0.456),
                ),
            ),
            contradicts=(
                Evidence(code="TL101", finding=say("If digits stay framed as in test, the bound covers your use.")),
            ),
            command="theorylens audit shifted.py:make --only TL501,TL101",
        ),
        Recommendation(
            id="flatness",
            change=say("Leave flatness alone."),
            effect=say("none expected"),
            supports=(Evidence(code="TL301", finding=say("As sharp as a network that memorised.")),),
            command="",
        ),
    )
    requirements = (
        Checked(
            text="certificate <= 0.05",
            measured=0.03236,
            met=True,
            why=say("the unfavourable end is {x:.4g}", x=0.03236),
        ),
        Checked(text="TL420 <= 1", measured=None, met=False, why=say("TL420 was skipped")),
    )
    fields = {
        "subject": subject,
        "run": run,
        "outcomes": outcomes(),
        "headline": "TL101",
        "advice": advice,
        "requirements": requirements,
        "exit_code": 3,
    }
    return Record(**{**fields, **changes})


@pytest.fixture(scope="session")
def record() -> Record:
    return make_record()


@pytest.fixture(scope="session")
def bare() -> Record:
    """Nothing measured, nothing chosen, nothing advised."""
    about = About(code="TL101", name="generalization.clopper_pearson", question="How often can it err?")
    skipped = Skipped(about=about, reason=say("needs a test split; give Subject(test=...)"))
    return make_record(outcomes=(skipped,), advice=(), requirements=(), exit_code=5)


@pytest.fixture(scope="session")
def hostile(record: Record) -> Record:
    """Every string of the record that an author or a file name could bring is an attack."""
    return make_hostile(record)


def make_hostile(value: object) -> object:
    if isinstance(value, Message):
        return Message(
            value.id,
            value.text + " {evil}",
            **{k: make_hostile(v) if isinstance(v, Message) else v for k, v in value.values.items()},
            evil=HOSTILE,
        )
    if isinstance(value, tuple):
        return tuple(make_hostile(v) for v in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = (
            {"code", "name", "role", "split", "headline", "sha256", "unit", "loss", "hashes", "command"}
            if not isinstance(value, SubjectFacts)
            else set()
        )
        changed = {}
        for f in dataclasses.fields(value):
            item = getattr(value, f.name)
            if f.name in kept and isinstance(item, str):
                continue
            changed[f.name] = (
                HOSTILE
                if isinstance(item, str)
                else {HOSTILE: HOSTILE}
                if isinstance(item, dict) and f.name in {"versions", "settings"}
                else make_hostile(item)
            )
        return dataclasses.replace(value, **changed)
    return value


@pytest.fixture(scope="session")
def made() -> object:
    """Everything above, for tests that build their own payloads (test modules cannot import a conftest)."""
    return sys.modules[__name__]


@pytest.fixture(params=["curve", "spectrum", "small_matrix", "big_matrix", "intervals", "points"])
def payload(request: pytest.FixtureRequest) -> object:
    """One drawn payload after the other."""
    return globals()[request.param]()
