"""Kernel regression: norms, bounds, leave-one-out, KARE, learning curves, Gaussian processes; golden values, twins."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from theorylens.kernels import (
    cumulative_power,
    effective_dimension,
    eigenlearning,
    eigensystem,
    generalised_cross_validation,
    gp_posterior,
    interpolation_complexity,
    kare,
    kernel_ridge_risk,
    kernel_ridge_risk_bound,
    learning_curve,
    learning_curve_payload,
    leave_one_out_residuals,
    log_evidence,
    prior_samples,
    rademacher_ball,
    rkhs_ball_bound,
    rkhs_norm,
    spectral_decay,
    wide_kernels,
    wide_network,
)
from theorylens.report._plots import figure

THETA = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
TRIDIAGONAL = torch.tensor([[2.0, 1, 0], [1, 2, 1], [0, 1, 2]], dtype=torch.float64)
STEP = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gram(n, d=None, seed=0):
    x = rows(n, d or 2 * n, seed)
    return x @ x.T


def test_golden_norm_and_bounds(golden):
    y = torch.tensor([1.0, -1.0])
    assert rkhs_norm(THETA, y).value == pytest.approx(golden("G4.3-1"), rel=1e-9)
    assert interpolation_complexity(THETA / 4, y) == pytest.approx(golden("G4.3-2"), rel=1e-9)
    assert rademacher_ball(THETA, 1.0) == pytest.approx(golden("G4.3-3"), rel=1e-9)


def test_golden_leave_one_out_and_kare(golden):
    found = leave_one_out_residuals(TRIDIAGONAL, STEP, 0.5)
    assert found.tolist() == pytest.approx(golden("G4.3-6"), rel=1e-9, abs=1e-15)
    both = [kare(TRIDIAGONAL, STEP, 0.5), generalised_cross_validation(TRIDIAGONAL, STEP, 0.5)]
    assert both == pytest.approx(golden("G4.3-7"), rel=1e-9)


def test_golden_eigenlearning(golden):
    target = np.zeros(12)
    target[0] = 1
    found = eigenlearning(2.0 ** -np.arange(12), target, 3, 0.1)
    assert [found.kappa, found.overfitting, found.test_mse] == pytest.approx(golden("G4.3-8"), rel=1e-9)


def test_norm_is_that_of_the_function_and_adds_squares_over_outputs():
    K, y = gram(6), rows(6, 2, 1)
    alone = [rkhs_norm(K, y[:, i]).value for i in (0, 1)]
    assert alone[0] ** 2 == pytest.approx(float(y[:, 0] @ torch.linalg.solve(K, y[:, 0])), rel=1e-9)
    assert rkhs_norm(K, y).value == pytest.approx(math.hypot(*alone), rel=1e-9)
    fitted = torch.linalg.solve(K + 0.7 * torch.eye(6, dtype=torch.float64), y[:, 0])
    assert rkhs_norm(K, y[:, 0], ridge=0.7).value == pytest.approx(float(fitted @ K @ fitted) ** 0.5, rel=1e-9)
    assert rkhs_norm(K, 0 * y).value == 0
    assert rkhs_norm(K, y).condition_number == pytest.approx(float(torch.linalg.cond(K)), rel=1e-6)


def test_norm_refusals():
    with pytest.raises(ValueError, match="positive semi-definite"):
        rkhs_norm(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), torch.ones(2))
    with pytest.raises(ValueError, match=r"needs targets \(n,\) or \(n, C\), got shape \(3,\)"):
        rkhs_norm(THETA, torch.ones(3))
    with pytest.raises(ValueError, match="targets have entries that are not finite"):
        rkhs_norm(THETA, torch.tensor([math.nan, 1.0]))
    with pytest.raises(ValueError, match="ridge must be zero or more"):
        rkhs_norm(THETA, torch.ones(2), ridge=-1.0)


def test_rademacher_bound_lies_between_the_complexity_and_root_two_times_it():
    """The supremum over the ball is B |sum s_i k(x_i)| / n: all 2^8 signs."""
    K = gram(8, 3)
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=8)), dtype=torch.float64)
    exact = 1.5 * float(((signs @ K) * signs).sum(1).clamp(min=0).sqrt().mean()) / 8
    assert exact <= rademacher_ball(K, 1.5) <= math.sqrt(2) * exact


def test_ridge_risk_is_what_simulation_gives_and_its_bound_holds():
    K, g = gram(10, 4), torch.Generator().manual_seed(0)
    f = K @ rows(10, 1, 3)[:, 0] / 10
    smoother = K @ torch.linalg.inv(K + 2.0 * torch.eye(10, dtype=torch.float64))
    noise = 0.3**0.5 * torch.randn(40000, 10, generator=g, dtype=torch.float64)
    losses = ((f + noise) @ smoother.T - f).square().mean(1)
    exact = kernel_ridge_risk(K, f, 2.0, 0.3)
    assert exact == pytest.approx(float(losses.mean()), abs=4 * float(losses.std()) / 200)
    norm = rkhs_norm(K, f).value
    for ridge in (1e-3, 0.1, 2.0, 50.0):
        bound = kernel_ridge_risk_bound(K, norm, ridge, 0.3)
        assert kernel_ridge_risk(K, f, ridge, 0.3) <= bound
        assert bound == pytest.approx((ridge * norm**2 / 4 + 0.3 * effective_dimension(K, ridge)) / 10, rel=1e-9)
    worst = torch.linalg.eigh(K).eigenvectors[:, -1]  # an eigenvector whose eigenvalue is the ridge attains the quarter
    top = float(torch.linalg.eigvalsh(K)[-1])
    assert kernel_ridge_risk(K, worst, top, 0.0) == pytest.approx(
        kernel_ridge_risk_bound(K, 1 / top**0.5, top, 0.0), rel=1e-9
    )


def test_ball_bound_in_closed_form_and_its_refusals():
    found = rkhs_ball_bound(THETA, 0.5, 0.1, delta=0.05, lipschitz=2.0, loss_range=4.0)
    assert found == pytest.approx(0.1 + 2 * 2 * 0.5 * 1.0 + 12 * math.sqrt(math.log(40) / 4), rel=1e-12)
    with pytest.raises(ValueError, match="delta must lie strictly"):
        rkhs_ball_bound(THETA, 1.0, 0.1, delta=0.0)
    with pytest.raises(ValueError, match="training loss must lie in"):
        rkhs_ball_bound(THETA, 1.0, 1.1, delta=0.1)
    with pytest.raises(ValueError, match="must be positive"):
        rkhs_ball_bound(THETA, 1.0, 0.1, delta=0.1, lipschitz=0.0)
    with pytest.raises(ValueError, match="radius must be zero or more"):
        rademacher_ball(THETA, -1.0)
    with pytest.raises(ValueError, match="ridge must be positive"):
        kernel_ridge_risk(THETA, torch.ones(2), 0.0, 1.0)
    with pytest.raises(ValueError, match="norm must be zero or more"):
        kernel_ridge_risk_bound(THETA, math.inf, 1.0, 1.0)


@pytest.mark.slow
def test_ball_bound_is_missed_no_more_often_than_it_says():
    """Classifiers chosen to violate it: the function of the ball that fits random labels best, ramp loss."""
    g, delta, misses, runs = torch.Generator().manual_seed(1), 0.2, 0, 4000
    for _ in range(runs):
        x = torch.randn(30, 5, generator=g, dtype=torch.float64)
        x /= x.norm(dim=1, keepdim=True)
        y = torch.where(torch.rand(30, generator=g) < 0.5, -1.0, 1.0).double()
        w = y @ x
        w /= w.norm()
        training = float((0.5 - 0.5 * y * (x @ w)).clamp(0, 1).mean())
        misses += rkhs_ball_bound(x @ x.T, 1.0, training, delta=delta, lipschitz=0.5) < 0.5  # the true loss is 1/2
    assert stats.binom.sf(misses - 1, runs, delta) > 1e-4


def test_leave_one_out_is_refitting_without_each():
    K, y = gram(9, 4), rows(9, 2, 5)
    found = leave_one_out_residuals(K, y, 0.3)
    for i in range(9):
        kept = [j for j in range(9) if j != i]
        weights = torch.linalg.solve(K[kept][:, kept] + 0.3 * torch.eye(8, dtype=torch.float64), y[kept])
        assert torch.allclose(found[i], y[i] - K[i, kept] @ weights, atol=1e-9)
    for ridge in (0.01, 1.0, 100.0):
        assert kare(K, y, ridge) == pytest.approx(generalised_cross_validation(K, y, ridge), rel=1e-8)
    full = gram(9)
    assert kare(full, y, 0.0) == pytest.approx(kare(full, y, 1e-9), rel=1e-6)


def test_cross_validation_refusals():
    with pytest.raises(ValueError, match="singular to rounding"):
        leave_one_out_residuals(torch.ones(3, 3), STEP, 0.0)
    with pytest.raises(ValueError, match="use kare"):
        generalised_cross_validation(TRIDIAGONAL, STEP, 0.0)
    with pytest.raises(ValueError, match="singular; give a positive ridge"):
        kare(torch.zeros(3, 3), STEP, 0.0)
    with pytest.raises(ValueError, match="ridge must be zero or more"):
        kare(TRIDIAGONAL, STEP, -1.0)


@pytest.mark.parametrize(("ridge", "noise"), [(0.0, 0.0), (0.5, 0.0), (0.5, 0.2)])
def test_eigenlearning_predicts_regression_on_gaussian_features(ridge, noise):
    levels, n, g = np.arange(1, 301.0) ** -1.5, 40, torch.Generator().manual_seed(0)
    target = np.zeros(300)
    target[:6] = [1, 0.5, 0.5, -0.3, 0.3, 0.2]
    scale, v = torch.tensor(levels).sqrt(), torch.tensor(target)
    tests, trains = [], []
    for _ in range(60):
        x, z = (torch.randn(m, 300, generator=g, dtype=torch.float64) for m in (n, 400))
        y = x @ v + noise**0.5 * torch.randn(n, generator=g, dtype=torch.float64)
        K = (x * scale) @ (x * scale).T
        weights = torch.linalg.solve(K + ridge * torch.eye(n, dtype=torch.float64), y)
        guess = (z * scale) @ (x * scale).T @ weights
        tests.append(float((guess - z @ v).square().mean()) + noise)
        trains.append(float((K @ weights - y).square().mean()))
    found = eigenlearning(levels, target, n, ridge, noise=noise)
    assert found.test_mse == pytest.approx(np.mean(tests), rel=0.08)
    assert found.train_mse == pytest.approx(np.mean(trains), rel=0.08, abs=1e-12)
    assert found.learnability.sum() + ridge / found.kappa == pytest.approx(n, rel=1e-9)


def test_eigenlearning_does_not_mind_the_order_and_refuses_what_is_degenerate():
    levels, v = np.array([0.1, 1.0, 0.5]), np.array([3.0, 1.0, 2.0])
    one, two = eigenlearning(levels, v, 2, 0.1), eigenlearning(levels[[1, 2, 0]], v[[1, 2, 0]], 2, 0.1)
    assert one.test_mse == pytest.approx(two.test_mse, rel=1e-12)
    with pytest.raises(ValueError, match="determine all 3 modes"):
        eigenlearning(levels, v, 3)
    with pytest.raises(ValueError, match="n must be at least 1"):
        eigenlearning(levels, v, 0)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x[:1200] / 16), torch.eye(10, dtype=torch.float64)[torch.tensor(y[:1200])] - 0.1
    return wide_kernels(wide_network(3, input_scale=2 / 64), x).ntk, y


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_learning_curves_of_the_tangent_kernel_on_digits(digits, ridge):
    K, y = digits
    sizes, g = (30, 60, 120), torch.Generator().manual_seed(0)
    predicted = learning_curve(K, y, sizes, ridge)
    measured = []
    for n in sizes:
        errors = []
        for _ in range(8):
            kept = torch.randperm(len(K), generator=g)[:n]
            weights = torch.linalg.solve(K[kept][:, kept] + ridge * torch.eye(n, dtype=torch.float64), y[kept])
            errors.append(float((K[:, kept] @ weights - y).square().sum(1).mean()))
        measured.append(np.mean(errors))
    assert predicted == pytest.approx(measured, rel=0.08)
    assert figure(learning_curve_payload(sizes, np.array(measured), predicted)) is not None


def test_leave_one_out_and_kare_estimate_the_error_on_other_digits(digits):
    K, y = digits
    order = torch.randperm(1200, generator=torch.Generator().manual_seed(0))  # digits come writer by writer
    kept, other = order[:300], order[300:]
    weights = torch.linalg.solve(K[kept][:, kept] + 0.5 * torch.eye(300, dtype=torch.float64), y[kept])
    error = float((K[other][:, kept] @ weights - y[other]).square().sum(1).mean())
    part = K[kept][:, kept]
    assert float(leave_one_out_residuals(part, y[kept], 0.5).square().sum(1).mean()) == pytest.approx(error, rel=0.25)
    assert kare(part, y[kept], 0.5) == pytest.approx(error, rel=0.25)


def test_eigensystem_and_cumulative_power():
    K, y = gram(7, 3), rows(7, 2, 4)
    levels, v = eigensystem(K, y)
    assert levels.sum() == pytest.approx(float(K.trace()) / 7)
    assert (v**2).sum() == pytest.approx(float(y.square().sum()) / 7)
    power = cumulative_power(K, y)
    assert power[-1] == pytest.approx(1)
    assert (np.diff(power) >= -1e-12).all()
    top = torch.linalg.eigh(K).eigenvectors[:, -1]
    assert cumulative_power(K, top)[0] == pytest.approx(1)
    with pytest.raises(ValueError, match="no power to share"):
        cumulative_power(K, 0 * y)


def power_law(n, a, b, seed=0):
    """A kernel with eigenvalues i^-a and a target whose power beyond rank i is i^-b."""
    q, _ = torch.linalg.qr(rows(n, n, seed))
    i = torch.arange(1, n + 1, dtype=torch.float64)
    tail = i**-b
    power = torch.cat([torch.ones(1, dtype=torch.float64) * 1.5, tail[:-1]]) - torch.cat(
        [tail[:-1], torch.zeros(1, dtype=torch.float64)]
    )
    return (q * (n * i**-a)) @ q.T, q @ (n * power.clamp(min=0)).sqrt()


@pytest.mark.parametrize(("a", "b"), [(1.5, 1.0), (1.2, 4.0)])
def test_exponents_of_power_laws_and_the_rates_of_the_deterministic_equivalent(a, b):
    K, y = power_law(400, a, b)
    found = spectral_decay(K, y, (2, 60))
    assert (found.capacity, found.source) == (pytest.approx(a, abs=1e-6), pytest.approx(b, abs=0.05))
    assert found.fit > 0.999
    assert found.noiseless_rate == pytest.approx(min(b, 2 * a), abs=0.05)
    levels = np.arange(1, 40001.0) ** -a
    v = np.sqrt(-np.diff(np.append(np.arange(1, 40001.0) ** -b, 0)))
    sizes = [200, 800]
    tail = 40000 ** (1 - a) / (a - 1)  # what lies beyond the last level acts as a ridge of its sum
    clean = [eigenlearning(levels, v, n, tail).test_mse for n in sizes]
    assert -np.diff(np.log(clean))[0] / np.log(4) == pytest.approx(min(b, 2 * a), abs=0.1)
    ridges = np.logspace(-6, 4, 61)
    noisy = [min(eigenlearning(levels, v, n, r, noise=0.5).test_mse for r in ridges) - 0.5 for n in (800, 3200)]
    rate = min(b, 2 * a) / (min(b, 2 * a) + 1)
    assert -np.diff(np.log(noisy))[0] / np.log(4) == pytest.approx(rate, abs=0.1)


def test_spectral_refusals():
    K, y = power_law(40, 1.0, 1.0)
    with pytest.raises(ValueError, match="at least 5 of 40 ranks"):
        spectral_decay(K, y, (3, 5))
    with pytest.raises(ValueError, match="vanish before rank 20"):
        spectral_decay(gram(40, 3), y, (1, 20))


def test_posterior_is_that_of_scikit_learn():
    x, z, y = rows(8, 2), rows(5, 2, 1), rows(8, 1, 2)[:, 0]
    model = GaussianProcessRegressor(RBF(1.3), alpha=0.2, optimizer=None).fit(x.numpy(), y.numpy())
    K, cross, test = (torch.tensor(model.kernel_(a.numpy(), b.numpy())) for a, b in ((x, x), (z, x), (z, z)))
    found = gp_posterior(K, cross, test, y, 0.2)
    mean, covariance = model.predict(z.numpy(), return_cov=True)
    assert found.mean.numpy() == pytest.approx(mean, abs=1e-10)
    assert found.covariance.numpy() == pytest.approx(covariance, abs=1e-10)
    assert found.log_evidence == pytest.approx(model.log_marginal_likelihood(), rel=1e-10)
    assert log_evidence(K, y, 0.2) == found.log_evidence
    two = gp_posterior(K, cross, test, torch.stack([y, 2 * y], 1), 0.2)
    assert torch.allclose(two.mean, torch.stack([found.mean, 2 * found.mean], 1))
    assert log_evidence(K, y[:, None], 0.2) == pytest.approx(
        float(stats.multivariate_normal.logpdf(y.numpy(), cov=(K + 0.2 * torch.eye(8, dtype=torch.float64)).numpy())),
        rel=1e-10,
    )


def test_prior_samples_have_the_covariance_of_the_kernel():
    K = wide_kernels(wide_network(2), torch.cat([rows(4, 3), rows(4, 3)])).nngp  # every point twice: singular
    drawn = prior_samples(K, 40000, rng=torch.Generator().manual_seed(0))
    assert drawn.shape == (40000, 8)
    assert float((drawn.T @ drawn / 40000 - K).norm() / K.norm()) < 0.02
    assert torch.allclose(drawn[:, :4], drawn[:, 4:], atol=1e-5)


def test_gaussian_process_refusals():
    with pytest.raises(ValueError, match="cross kernel must be finite and"):
        gp_posterior(THETA, torch.zeros(1, 3), torch.ones(1, 1), torch.ones(2), 0.1)
    with pytest.raises(ValueError, match="noise variance must be zero or more"):
        log_evidence(THETA, torch.ones(2), -0.1)
    with pytest.raises(ValueError, match="singular; give a larger noise"):
        log_evidence(torch.ones(2, 2), torch.ones(2), 0.0)
    with pytest.raises(ValueError, match="positive semi-definite"):
        log_evidence(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), torch.ones(2), 0.1)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        prior_samples(THETA, 0, rng=torch.Generator())
