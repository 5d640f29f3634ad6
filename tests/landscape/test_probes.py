"""Judges on bare numbers; probes on a small trained network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from theorylens.core import Subject
from theorylens.landscape import (
    CriticalPoint,
    Ends,
    Place,
    StepRule,
    eigenvalues,
    probe_critical_point,
    probe_eigenvalues,
)
from theorylens.landscape._critical import judge as judge_point
from theorylens.landscape._critical import read as read_point
from theorylens.landscape._curvature import Eigenvalues
from theorylens.landscape._outermost import judge, read
from theorylens.results import Enclosure, Estimate, Intervals, Kind, Message, Spectrum, Status, Table, Verdict

WHY = Message("test.why", "for a test")
LATE = Message("test.trouble", "it did not converge")


def number(value, error=0.0, trouble=None):
    limits = Enclosure(lower=value - error, upper=value + error, why=WHY)
    return Estimate(value=value, uncertainty=limits, trouble=trouble)


def found(*values, error=0.0, trouble=None):
    values = np.array(values, dtype=float)
    return Eigenvalues(
        values=values, residuals=np.full_like(values, error), errors=np.full_like(values, error),
        converged=np.full(len(values), trouble is None), complete=True, products=1, parameters=10, trouble=trouble,
    )  # fmt: skip


def point(relative=0.0, top=2.0, low=1.0, error=0.0, initial=None, trouble=None):
    return CriticalPoint(
        loss=1.0, gradient_norm=relative, parameter_norm=1.0, initial_gradient_norm=initial,
        ends=Ends(found(top, error=error), found(low, error=error, trouble=trouble)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "others", "verdict", "said"),
    [
        (number(8, 0.1), {"init": number(2)}, Verdict.DESCRIPTIVE, "8, 4 times that before training; smallest"),
        (number(8, 0.1), {"init": number(8.05)}, Verdict.INCONCLUSIVE, "no other than before training"),
        (number(8), {"init": number(2), "shuffled": number(8.5, 1)}, Verdict.INCONCLUSIVE, "on shuffled labels"),
        (number(8), {}, Verdict.DESCRIPTIVE, "largest eigenvalue 8, smallest −1"),
        (number(8), {"init": number(-1)}, Verdict.DESCRIPTIVE, "largest eigenvalue 8, smallest −1"),
        (number(8, 1, LATE), {"init": number(2)}, Verdict.INCONCLUSIVE, "no answer yet: it did not converge"),
    ],
)
def test_the_judge_of_eigenvalues(value, others, verdict, said):
    got, reason = judge(value, number(-1.0), others)
    assert got is verdict
    assert said in reason.render()


@pytest.mark.parametrize(
    ("values", "low", "classes", "rule", "said"),
    [
        ([9, 8, 2, 1], number(-1), 3, StepRule(), "2 directions stand apart: eigenvalue 2 is 4 times the next"),
        ([9, 8, 7, 1], number(-1), 3, StepRule(), "No gap sets 2 directions apart"),
        ([9, 8, 7, 1], number(-1), None, StepRule(), "Between 1 and 9 lie the 4 largest"),
        ([9, 8], number(-1), 3, StepRule(), "Between 8 and 9 lie the 2 largest"),
        (
            [9.0],
            number(-1, 0.1),
            None,
            StepRule(),
            "By up to 9, and downwards too: an eigenvalue of −1 exists, so this is no minimum",
        ),
        ([9.0], number(-1, 2), None, StepRule(), "nowhere downwards beyond the error of 2"),
        ([9.0], number(-1e-4), None, StepRule(), "nowhere downwards"),
        ([9.0], number(-1, trouble=LATE), None, StepRule(), "is open, for the smallest eigenvalue did not converge"),
        ([9.0], number(0), None, StepRule(), "Nothing is known about the learning rate"),
        ([9.0], number(0), None, StepRule(lr=0.1, plain=False), "does not apply to an optimiser that rescales"),
        ([9.0], number(0), None, StepRule(lr=0.1), "0.45 of the stability limit 20"),
        ([20.5], number(0), None, StepRule(lr=0.1), "rate: at the edge of stability"),
        ([25.0], number(0), None, StepRule(lr=0.1), "1.2 times the stability limit 20"),
        ([25.0], number(0), None, StepRule(lr=0.1, momentum=0.9), "0.66 of the stability limit 38"),
    ],
)
def test_the_reading_of_eigenvalues(values, low, classes, rule, said):
    assert said in read(values, low, classes, rule).render()


@pytest.mark.parametrize(
    ("at", "verdict", "said"),
    [
        (point(0.5), Verdict.DESCRIPTIVE, "not at a critical point: moving 1 % of the weights' norm"),
        (point(low=-1), Verdict.DESCRIPTIVE, "at a strict saddle: the loss bends downwards with −1, upwards with up"),
        (point(top=-1, low=-3), Verdict.DESCRIPTIVE, "at a local maximum"),
        (point(low=1), Verdict.DESCRIPTIVE, "at an approximate minimum"),
        (point(low=0), Verdict.INCONCLUSIVE, "flat directions"),
        (point(low=-1, error=2), Verdict.INCONCLUSIVE, "flat directions"),
        (point(low=1, trouble=LATE), Verdict.INCONCLUSIVE, "of which kind is open: it did not converge"),
        (point(0.5, trouble=LATE), Verdict.DESCRIPTIVE, "not at a critical point"),
    ],
)
def test_the_judge_of_critical_points(at, verdict, said):
    got, reason = judge_point(at)
    assert got is verdict
    assert said in reason.render()


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (
            point(0.5, initial=2.0),
            "No, not even to first order: the gradient has norm 0.5, 0.25 of that before training",
        ),
        (point(0.001), "Yes, to first order: the gradient has norm 0.001, 0.001 in units"),
        (point(0.5), "for every tolerance from 0.5 up"),
        (point(0.5, low=-2), "is at least 8"),
        (point(low=-2), "only perturbation leaves it"),
    ],
)
def test_the_reading_of_critical_points(at, said):
    assert said in read_point(at).render()


# ---- on a network ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(digits):
    alone = replace(
        digits, shuffled=replace(digits.shuffled)
    )  # other files' probes remember on theirs; costs are tested
    return {probe.code: probe(alone) for probe in (probe_eigenvalues, probe_critical_point)}


def test_eigenvalues_of_a_trained_network(digits, results):
    result = results["TL301"]
    data = digits.split("train").take(range(300))
    direct = eigenvalues(digits.net, data, "cross_entropy", k=10, tolerance=1e-4)
    assert result.estimate.value == pytest.approx(direct.values[0], rel=1e-2)
    assert result.estimate.lower <= direct.values[0] <= result.estimate.upper
    assert result.kind is Kind.INDICATOR
    assert {c.role for c in result.controls} == {"init", "shuffled"}
    start = digits.initial().subject
    wanted = eigenvalues(start.net, data, "cross_entropy", k=1, tolerance=1e-4).values[0]
    assert result.control("init").estimate.value == pytest.approx(wanted, rel=1e-2)
    spectrum, table = result.payload
    assert isinstance(spectrum, Spectrum)
    assert len(spectrum.levels[0].values) == 10  # one per class
    assert spectrum.levels[0].values == pytest.approx(direct.values, rel=2e-2)
    assert [level.role for level in spectrum.levels] == ["network", "init", "shuffled"]
    assert isinstance(table, Table)
    assert result.assumptions[0].status is Status.MET
    assert result.settings["parameters"] == 64 * 12 + 12 + 120 + 10
    assert 0 < result.cost.hvps < 3 * probe_eigenvalues.cost(digits, None).hvps


def test_the_critical_point_of_a_trained_network(digits, results):
    result = results["TL303"]
    x, y = digits.split("train").take(range(300))
    loss = torch.nn.functional.cross_entropy(digits.net(x), y)
    slope = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, digits.net.parameters())])
    assert result.estimate.value == pytest.approx(slope.norm().item(), rel=1e-4)
    assert result.verdict is Verdict.DESCRIPTIVE
    assert "not at a critical point" in result.reason.render()  # the infimum of cross-entropy lies at infinity
    intervals, table = result.payload
    assert isinstance(intervals, Intervals)
    assert intervals.names[-1] == "λmin"
    assert intervals.values[0] == pytest.approx(1.0)
    assert (intervals.lower <= intervals.values).all()
    assert {str(k): v for k, v in table.rows}["training loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_probes_do_not_depend_on_company_batches_or_seed(digits, results):
    alone = Subject(
        model=digits.net, loss="cross_entropy", train=digits.train, init=digits.init, shuffled=digits.shuffled,
        batch_size=37,
    )  # fmt: skip
    again = probe_critical_point(alone, seed=5)
    assert again.estimate.value == pytest.approx(results["TL303"].estimate.value, rel=1e-5)
    assert again.payload[0].values == pytest.approx(results["TL303"].payload[0].values, rel=1e-3, abs=1e-4)


def test_a_choice_of_rows_is_said(digits):
    result = probe_eigenvalues(Subject(model=digits.net, loss="cross_entropy", train=digits.train), rows=100)
    assert result.settings["rows"] == 100
    assert result.assumptions[0].status is Status.UNCHECKED
    assert "100 of 300 rows were used" in result.assumptions[0].evidence.render()
    whole = probe_eigenvalues(digits)
    assert result.estimate.value != pytest.approx(whole.estimate.value, rel=1e-3)


def test_the_place_of_a_fitted_regression_through_the_probe():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, generator=rng), torch.randn(30, 1, generator=rng)
    net = torch.nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.linalg.lstsq(x.double(), y.double()).solution.T)
    result = probe_critical_point(Subject(model=net, loss="mse", train=(x, y)))
    assert result.verdict is Verdict.DESCRIPTIVE
    assert "approximate minimum" in result.reason.render()
    assert Place.MINIMUM.value == "strict local minimum"
    top = probe_eigenvalues(Subject(model=net, loss="mse", train=(x, y)))
    # A linear model has the same Hessian everywhere: the control cannot differ.
    assert top.verdict is Verdict.INCONCLUSIVE
    assert "no other than before training" in top.reason.render()
