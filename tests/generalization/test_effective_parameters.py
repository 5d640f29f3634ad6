"""Effective parameters and degrees of freedom: golden value, a naive twin, laws, the judge, and real networks."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens.core import RefusedError, Subject, Task, UnsuitableError
from theorylens.generalization import (
    degrees_of_freedom,
    effective_parameters,
    evidence_precision,
    ggn_eigenvalues,
    output_curvature,
    probe_effective_parameters,
)
from theorylens.generalization._parameters_probe import judge, read
from theorylens.kernels import effective_dimension
from theorylens.results import Exact, Verdict

EIGENVALUES = torch.tensor([10.0, 8.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64)


def half_squares(outputs, targets):
    return (outputs - targets).square().sum(1) / 2


def linear(x):
    net = nn.Linear(x.shape[1], 1, bias=False).double()
    return net, (x, torch.zeros(len(x), 1, dtype=torch.float64))


def test_golden_value(golden):
    assert effective_dimension(EIGENVALUES, 1.0) == pytest.approx(golden("G1.4-7"), rel=1e-12)
    net, data = linear(torch.diag(EIGENVALUES.sqrt()))
    assert effective_parameters(net, data, half_squares, precision=1.0).value == pytest.approx(
        golden("G1.4-7"), rel=1e-12
    )


def test_it_is_the_trace_of_the_hat_matrix_of_ridge_regression():
    x = torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net, data = linear(x)
    hat = x @ torch.linalg.solve(x.T @ x + 0.7 * torch.eye(6, dtype=torch.float64), x.T)
    found = effective_parameters(net, data, half_squares, precision=0.7)
    assert found.value == pytest.approx(float(hat.trace()), rel=1e-10)
    assert (found.parameters, len(found.eigenvalues)) == (6, 6)


def gauss_newton_by_hand(net, x):
    """Sum of J^T (diag p - p p^T) J, one output of one example at a time, in double precision."""
    net = copy.deepcopy(net).double()
    parameters = list(net.parameters())
    total = 0.0
    for row in x.double():
        outputs = net(row[None])[0]
        jacobian = torch.stack(
            [torch.cat([g.reshape(-1) for g in torch.autograd.grad(o, parameters, retain_graph=True)]) for o in outputs]
        )
        p = outputs.softmax(0)
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return torch.linalg.eigvalsh(total.detach()).flip(0)


def test_eigenvalues_of_a_network_agree_with_a_naive_twin():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    x, y = torch.randn(9, 5), torch.randint(0, 3, (9,))
    found, known = ggn_eigenvalues(net, (x, y), "cross_entropy"), gauss_newton_by_hand(net, x)
    assert found[:18] == pytest.approx(known[:18], rel=1e-4)  # 9 rows of rank 2 each
    assert (found[18:] == 0).all()
    assert len(found) == 27
    wide = nn.Sequential(nn.Linear(5, 1), nn.Linear(1, 2))  # fewer parameters than rows x outputs
    assert len(ggn_eigenvalues(wide, (x, y % 2), "cross_entropy")) == 10


def test_curvature_in_the_outputs_is_that_of_the_softmax_and_of_squares():
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    found = output_curvature(Task(loss="cross_entropy"), outputs, torch.tensor([0, 1, 2, 0]))
    p = outputs.double().softmax(1)
    assert found == pytest.approx(torch.diag_embed(p) - p[:, :, None] * p[:, None, :], rel=1e-10, abs=1e-12)
    squares = output_curvature(Task(loss="mse"), outputs, torch.zeros(4, 3))
    assert squares == pytest.approx(2 / 3 * torch.eye(3).double().expand(4, 3, 3), rel=1e-12)


def test_class_weights_and_soft_targets_count_as_they_do_in_training():
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels, weight = torch.tensor([0, 1, 2, 0]), torch.tensor([1.0, 2.0, 0.5])
    data = torch.randn(4, 5), labels
    net = nn.Linear(5, 3)
    plain, weighted, soft = (
        ggn_eigenvalues(net, given, loss)
        for given, loss in (
            (data, "cross_entropy"),
            (data, nn.CrossEntropyLoss(weight=weight)),
            ((data[0], F.one_hot(labels, 3).float()), "cross_entropy"),
        )
    )
    assert soft == pytest.approx(plain, rel=1e-5, abs=1e-6)
    task = Task(loss=nn.CrossEntropyLoss(weight=weight)).settled(nn.Identity(), (outputs, labels))
    p = outputs.double().softmax(1)
    single = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    assert output_curvature(task, outputs, labels) == pytest.approx(
        weight[labels].double()[:, None, None] * single, rel=1e-6, abs=1e-9
    )
    assert not torch.allclose(weighted, plain)


def test_more_rows_determine_more_and_a_wider_prior_too(digits):
    x, y = digits
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    few, many = (effective_parameters(net, (x[:n], y[:n]), "cross_entropy", precision=1.0) for n in (20, 60))
    assert few.value < many.value < min(600, few.parameters)
    assert effective_parameters(net, (x[:20], y[:20]), "cross_entropy", precision=0.1).value > few.value


def test_the_precision_solves_its_equation():
    a = evidence_precision(EIGENVALUES, 2.0)
    assert a * 2.0 == pytest.approx(effective_dimension(EIGENVALUES, a), rel=1e-12)
    assert evidence_precision(EIGENVALUES * 9, 2.0 / 9) == pytest.approx(9 * a, rel=1e-12)  # weights in other units
    assert evidence_precision(torch.tensor([1.0]), 1e-12) == pytest.approx(1e6, rel=1e-3)


def test_degrees_of_freedom_of_ridge_is_the_trace_of_its_hat_matrix():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(40, 8, dtype=torch.float64, generator=rng)
    hat = x @ torch.linalg.solve(x.T @ x + 3.0 * torch.eye(8, dtype=torch.float64), x.T)
    found = degrees_of_freedom(lambda y: hat @ y, x[:, 0], scale=0.3, draws=400, generator=rng)
    assert found.lower < float(hat.trace()) < found.upper
    assert found.upper - found.lower < 1.0


def test_memorising_uses_one_degree_per_target_and_a_constant_none():
    y, rng = torch.randn(15, generator=torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    assert degrees_of_freedom(lambda t: t, y, scale=0.1, draws=2, generator=rng).value == pytest.approx(15)
    assert degrees_of_freedom(torch.zeros_like, y, scale=0.1, draws=2, generator=rng).value == 0.0
    nearest = degrees_of_freedom(
        lambda t: t.reshape(5, 3).mean(1).repeat_interleave(3), y, scale=0.1, draws=300, generator=rng
    )
    assert nearest.lower < 5 < nearest.upper  # averages of three: a third of a degree per target


def test_choosing_the_best_of_many_features_costs_more_than_one_degree():
    """Ye's point: the search is part of the fit. One of 30 features is used, about one degree by counting."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(50, 30, dtype=torch.float64, generator=rng)
    x = x / x.norm(dim=0)

    def refit(y):
        slopes = x.T @ y
        best = int(slopes.abs().argmax())
        return x[:, best] * slopes[best]

    noise = torch.randn(50, dtype=torch.float64, generator=rng)
    found = degrees_of_freedom(refit, noise, scale=1.0, draws=400, generator=rng)
    assert found.lower > 2.0


@pytest.mark.slow
def test_the_interval_of_the_degrees_covers_as_often_as_it_says():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(25, 6, dtype=torch.float64, generator=rng)
    hat = x @ torch.linalg.pinv(x)
    covered = 0
    for _ in range(2000):
        found = degrees_of_freedom(lambda y: hat @ y, x[:, 0], scale=1.0, draws=16, generator=rng)
        covered += found.lower <= 6 <= found.upper
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.parametrize(
    ("others", "verdict", "said"),
    [
        ({}, Verdict.DESCRIPTIVE, "50.0 of 1,000 parameters are determined by 100 training examples"),
        ({"init": 80.0, "shuffled": 90.0}, Verdict.DESCRIPTIVE, "50.0 of 1,000"),
        ({"init": 50.01}, Verdict.INCONCLUSIVE, "not told apart from initialisation"),
        ({"init": 80.0, "shuffled": 50.01}, Verdict.INCONCLUSIVE, "no other than after training on shuffled labels"),
    ],
)
def test_judgement(others, verdict, said):
    found, reason = judge(50.0, 100, 1000, others)
    assert found is verdict
    assert said in reason.render()


@pytest.mark.parametrize(
    ("init", "said"),
    [(None, "Nothing to compare"), (50.0, "is the same"), (80.0, "left fewer directions"), (20.0, "more directions")],
)
def test_reading(init, said):
    text = read(50.0, 100, 1000, init).render()
    assert text.startswith("About 50.0 of 1,000")
    assert said in text


def test_another_random_start_is_no_before_training():
    assert judge(50.0, 100, 1000, {"init": 80.0}, own=False)[0] is Verdict.INCONCLUSIVE
    assert judge(50.0, 100, 1000, {"init": 101.0}, own=False)[0] is Verdict.DESCRIPTIVE
    assert "not its own, gives 80.0" in read(50.0, 100, 1000, 80.0, own=False).render()


def test_a_loss_for_a_whole_batch_is_refused():
    subject = Subject(
        model=nn.Linear(4, 3), loss=lambda o, t: F.cross_entropy(o, t),
        train=(torch.randn(20, 4), torch.arange(20) % 3),
    )  # fmt: skip
    with pytest.raises(UnsuitableError, match="one value per example"):
        probe_effective_parameters(subject)


def test_probe_on_digits(subject):
    found = probe_effective_parameters(subject)
    assert isinstance(found.estimate.uncertainty, Exact)
    assert 1 < found.estimate.value < 1000
    assert {c.role for c in found.controls} == {"init", "shuffled"}
    again = effective_parameters(
        subject.net.eval(), subject.split("train").take(subject.split("train").subset(100)), "cross_entropy"
    )
    assert found.estimate.value == pytest.approx(again.value, rel=1e-5)
    assert found.settings["precision"] == pytest.approx(again.precision, rel=1e-5)
    curve = found.payload[0]
    assert all((line.y[1:] <= line.y[:-1]).all() for line in curve.lines)


def test_probe_on_a_regression_and_where_it_makes_no_sense():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=rng)
    y = x[:, :1] + 0.5 * torch.randn(60, 1, generator=rng)
    net = nn.Linear(4, 1)
    found = probe_effective_parameters(Subject(model=net, loss="mse", train=(x, y)))
    assert 0 < found.estimate.value < 5
    exact = nn.Linear(4, 1)
    with torch.no_grad():
        exact.weight.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        exact.bias.zero_()
    with pytest.raises(UnsuitableError, match="met exactly"):
        probe_effective_parameters(Subject(model=exact, loss="mse", train=(x, x[:, :1])))
    with pytest.raises(UnsuitableError, match="at least 10 rows"):
        probe_effective_parameters(Subject(model=net, loss="mse", train=(x[:5], y[:5])))


def refused(loss=None, net=None, data=None, precision=None):
    net = net or nn.Linear(2, 3)
    data = data or (torch.randn(5, 2), torch.zeros(5, dtype=torch.int64))
    return lambda: effective_parameters(net, data, loss or "cross_entropy", precision=precision)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (refused(net=nn.Sequential(nn.Linear(2, 3), nn.Dropout()).train()), RefusedError, "training mode"),
        (refused(loss=lambda o, t: o.sum(1) * 0 - o.square().sum(1)), RefusedError, "not convex in the outputs"),
        (refused(data=(torch.randn(2000, 2), torch.zeros(2000, dtype=torch.int64))), RefusedError, "at most 1333 rows"),
        (refused(precision=-1.0), ValueError, "ridge must be positive"),
        (lambda: evidence_precision(torch.zeros(3), 1.0), ValueError, "determine no direction"),
        (lambda: evidence_precision(torch.ones(3), 0.0), ValueError, "must be positive, got 0.0"),
        (
            lambda: degrees_of_freedom(
                lambda y: y, torch.zeros(3), scale=0.0, draws=2, generator=torch.Generator()
            ),
            ValueError, "scale must be positive",
        ),
        (
            lambda: degrees_of_freedom(
                lambda y: y, torch.zeros(3), scale=1.0, draws=1, generator=torch.Generator()
            ),
            ValueError, "at least 2 to give an interval, got 1",
        ),
        (
            lambda: degrees_of_freedom(
                lambda y: y[:2], torch.zeros(3), scale=1.0, draws=2, generator=torch.Generator()
            ),
            ValueError, r"returned shape \(2,\)",
        ),
        (
            lambda: degrees_of_freedom(
                lambda y: y * math.nan, torch.zeros(3), scale=1.0, draws=2, generator=torch.Generator()
            ),
            ValueError, "not finite",
        ),
    ],
)  # fmt: skip
def test_refusals(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_degrees_of_freedom_refuse_what_rounding_swallows():
    rng = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="no targets were given"):
        degrees_of_freedom(lambda y: y, torch.zeros(0), scale=0.1, draws=2, generator=rng)
    with pytest.raises(ValueError, match=r"a scale of 1e-09 is lost in the rounding of the fitted values"):
        degrees_of_freedom(lambda y: y.float(), torch.ones(3), scale=1e-9, draws=2, generator=rng)
