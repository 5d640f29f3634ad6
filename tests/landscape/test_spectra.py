"""Spectra of the Hessian and of its halves, a known trace, a fitted bulk, the outliers of trained classifiers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core
from theorylens.landscape import (
    bulk_fit,
    eigenvalues,
    gauss_newton_trace,
    ggn,
    layer_curvature,
    operator_density,
    spectral_density,
    spectrum_split,
    trace_split,
)
from theorylens.results import Estimate, Exact, Unknown


def dense(operator):
    rows = [operator @ unit for unit in torch.eye(operator.size, dtype=operator.dtype)]
    return torch.stack(rows).double().numpy()


class Tied(nn.Module):
    """One matrix read in two layers."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.outer = nn.Linear(6, 3)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


@pytest.fixture(scope="module")
def tied():
    with core.global_randomness_kept(1):
        return Tied().double().eval(), (torch.randn(30, 6).double(), torch.randint(3, (30,)))


@pytest.fixture(scope="module")
def relu():
    """A ReLU network of 843 parameters, trained a little: the trace of its Hessian is that of Gauss-Newton."""
    with core.global_randomness_kept(2):
        net = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 15), nn.ReLU(), nn.Linear(15, 6))
        x, y = clouds(400, 20, 6)
        rule = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(100):
            rule.zero_grad()
            F.cross_entropy(net(x), y).backward()
            rule.step()
    return net.eval(), (x, y)


def clouds(n, d, classes, noise=0.1):
    centres = 1.2 * torch.randn(classes, d)
    labels = torch.randint(classes, (n,))
    x = centres[labels] + torch.randn(n, d)
    return x, torch.where(torch.rand(n) < noise, torch.randint(classes, (n,)), labels)


def test_a_known_trace_is_the_trace_and_narrows_the_rest(relu):
    net, data = relu
    exact = gauss_newton_trace(net, data, "cross_entropy")
    truth = np.linalg.eigvalsh(dense(core.objective(net, data, "cross_entropy").hessian()))
    assert exact.value == pytest.approx(truth.sum(), rel=1e-5)
    widths = {}
    for name, given in (("plain", None), ("estimate", exact), ("number", float(truth.sum()))):
        found = spectral_density(net, data, "cross_entropy", k=6, draws=4, steps=15, trace=given)
        squares = found.frobenius_squared
        widths[name] = squares.upper - squares.lower
        half = widths[name] / 2
        assert abs(squares.value - np.square(truth).sum()) <= 2 * half + 0.02 * np.square(truth).sum()
        assert found.trace.lower - 1e-9 <= truth.sum() * (1 + 1e-5 * (given is not None)) + 1e-9
        assert isinstance(found.trace.uncertainty, Exact) == (given is not None)
    assert widths["estimate"] == pytest.approx(widths["number"], rel=0.05)
    assert widths["estimate"] < widths["plain"]
    by_itself = spectral_density(net, data, "cross_entropy", k=6, draws=4, steps=15)
    assert by_itself.trace == exact
    guess = Estimate(value=1.0, uncertainty=Unknown(why=found.ends.top.estimate().uncertainty.why))
    with pytest.raises(ValueError, match="trace must be exact, got an estimate with an interval"):
        spectral_density(net, data, "cross_entropy", trace=guess)
    with pytest.raises(ValueError, match="is it the trace of this operator"):
        spectral_density(net, data, "cross_entropy", draws=4, steps=15, trace=-1e4)


@pytest.mark.slow
def test_the_first_moment_lies_within_its_stated_error(relu):
    net, data = relu
    exact = gauss_newton_trace(net, data, "cross_entropy").value
    hits = 0
    for seed in range(20):
        found = spectral_density(net, data, "cross_entropy", k=6, draws=2, steps=30, trace=None, seed=seed)
        hits += found.trace.lower <= exact <= found.trace.upper
    assert hits >= 17  # 95 %, less three standard deviations


def test_the_halves_have_the_spectra_of_their_dense_matrices(tied):
    net, data = tied
    whole = dense(core.objective(net, data, "cross_entropy").hessian())
    half = dense(ggn(net, data, "cross_entropy"))
    found = spectrum_split(net, data, "cross_entropy", k=3, tolerance=1e-4)
    for ends, matrix in ((found.hessian, whole), (found.gauss_newton, half), (found.residual, whole - half)):
        truth = np.linalg.eigvalsh(matrix)
        assert ends.top.values == pytest.approx(truth[::-1][:3], abs=1e-4 * truth[-1])
        assert ends.bottom.values == pytest.approx(truth[:1], abs=1e-4 * (truth[-1] - truth[0]))
    assert found.reach == pytest.approx(np.linalg.norm(whole - half, 2), rel=1e-3)
    assert (np.abs(found.hessian.top.values - found.gauss_newton.top.values) <= found.reach).all()


def test_a_linear_model_has_no_second_half_but_rounding():
    with core.global_randomness_kept(3):
        net, data = nn.Linear(6, 3).eval(), (torch.randn(30, 6), torch.randint(3, (30,)))
    found = spectrum_split(net, data, "cross_entropy", k=2)
    assert found.reach < 1e-5 * found.hessian.top.values[0]
    assert found.gauss_newton.top.values == pytest.approx(found.hessian.top.values, rel=1e-4)


def test_the_density_of_the_gauss_newton_half_is_semidefinite_and_has_its_trace(relu):
    net, data = relu
    half = operator_density(ggn(net, data, "cross_entropy"), k=6, draws=8, steps=20)
    assert half.trace.lower <= gauss_newton_trace(net, data, "cross_entropy").value <= half.trace.upper
    assert min(float(x.min()) for x in half.quadrature.nodes) > -1e-4 * half.ends.top.values[0]  # positive semidefinite
    assert half.quadrature.size == sum(p.numel() for p in net.parameters())


def test_tied_weights_have_the_traces_and_blocks_of_the_dense_hessian(tied):
    net, data = tied
    whole = dense(core.objective(net, data, "cross_entropy").hessian())
    parts = layer_curvature(net, data, "cross_entropy", draws=200, tolerance=1e-5)
    assert set(parts) == {"inner", "outer"}
    assert parts["inner"].largest.value == pytest.approx(np.linalg.eigvalsh(whole[:42, :42])[-1], rel=1e-4)
    assert parts["outer"].largest.value == pytest.approx(np.linalg.eigvalsh(whole[42:, 42:])[-1], rel=1e-4)
    for part, block in ((parts["inner"], whole[:42, :42]), (parts["outer"], whole[42:, 42:])):
        assert part.trace.value == pytest.approx(np.trace(block), rel=1e-6)  # 200 parameters and fewer: exact
    split = trace_split(net, data, "cross_entropy", draws=64)
    assert split.gauss_newton.value == pytest.approx(np.trace(dense(ggn(net, data, "cross_entropy"))), rel=1e-9)
    assert split.total.lower <= np.trace(whole) <= split.total.upper
    assert not split.linear.holds


# ---- the outliers of classifiers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier():
    """784-64-64-10, 1,024 clouds with a tenth of the labels random, 60 steps of SGD."""
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        centres = 0.2 * torch.randn(10, 784)
        labels = torch.randint(10, (1024,))
        x = (centres[labels] + torch.randn(1024, 784)) / 2
        y = torch.where(torch.rand(1024) < 0.1, torch.randint(10, (1024,)), labels)
        rule = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        for _ in range(60):
            rows = torch.randint(1024, (128,))
            rule.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            rule.step()
    return net.eval(), (x, y)


def test_headline_one_outlier_fewer_than_classes_and_they_come_from_gauss_newton(classifier):
    net, data = classifier
    split = spectrum_split(net, data, "cross_entropy", k=10)
    for values in (split.hessian.top.values, split.gauss_newton.top.values):
        assert values[8] > 1.5 * values[9]  # eigenvalues 1 to 9 stand apart from the 10th
        assert values[0] / values[8] < values[0] / values[9] / 1.5
    found = spectral_density(net, data, "cross_entropy", k=12, draws=2, steps=25)
    assert found.outliers == 9
    assert found.quadrature.known == pytest.approx(split.hessian.top.values[:9], rel=2e-2)
    fit = bulk_fit(found)
    assert fit.outliers >= 9
    assert fit.distance > 0.1  # not noise of this kind, and the fit says so: most of it sits at zero


def test_the_bulk_of_an_exact_spectrum_is_fitted(quadratic):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 75))
    values = np.concatenate([np.linalg.eigvalsh(x.T @ x / 150), [8.0, 9.0, 10.0]])
    q = np.linalg.qr(rng.normal(size=(78, 78)))[0]
    found = spectral_density(*quadratic(q @ np.diag(values) @ q.T), k=5)
    fit = bulk_fit(found)
    assert (fit.outliers, fit.consistent) == (3, True)
    assert fit.ratio == pytest.approx(0.5, rel=0.06)
    assert fit.distance < 0.04


def test_the_bulk_of_drawn_noise_is_fitted_with_its_outliers(quadratic):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 300))
    values = np.concatenate([np.linalg.eigvalsh(x.T @ x / 600), [8.0, 9.0, 10.0]])
    q = np.linalg.qr(rng.normal(size=(303, 303)))[0]
    model = quadratic(q @ np.diag(values) @ q.T)
    fit = bulk_fit(spectral_density(*model, k=6, draws=4, steps=20))
    assert fit.outliers == 3
    assert fit.ratio == pytest.approx(0.5, rel=0.2)
    assert fit.distance < 0.1
    assert eigenvalues(*model, k=3).values == pytest.approx([10, 9, 8], rel=1e-3)
