"""Kernel-target alignment: golden values, laws, unbiasedness, and what is refused."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theorylens.kernels import alignment, balanced_alignment
from theorylens.kernels._alignment import cosine, target_gram
from theorylens.kernels._balanced_alignment import cosine_by_class
from theorylens.kernels._jackknife import jackknife_half_width, leave_one_out, with_interval

TRIDIAGONAL = torch.tensor([[2.0, 1, 0], [1, 2, 1], [0, 1, 2]])


def points(n=12, d=4, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_golden_values(golden):
    y = torch.tensor([1.0, 0, -1])
    found = [alignment(TRIDIAGONAL, y), alignment(TRIDIAGONAL, y, centred=False)]
    assert found == pytest.approx(golden("G4.3-4"), rel=1e-9)


def test_it_is_linear_cka_of_features_and_targets():
    x, y = points(), points(12, 2, 1)
    xc, yc = x - x.mean(0), y - y.mean(0)
    cka = (xc.T @ yc).norm() ** 2 / ((xc.T @ xc).norm() * (yc.T @ yc).norm())
    assert alignment(x @ x.T, y) == pytest.approx(float(cka), rel=1e-12)


def test_labels_are_one_hot_targets():
    y = torch.tensor([0, 1, 2, 0, 1, 2, 2, 1, 0, 0, 1, 2])
    K = points() @ points().T
    hot = torch.nn.functional.one_hot(y).double()
    assert alignment(K, y) == pytest.approx(alignment(K, hot), rel=1e-12)
    assert alignment(K.numpy(), y.numpy() + 7) == pytest.approx(alignment(K, y), rel=1e-12)


@pytest.mark.parametrize("debiased", [False, True])
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_scale_shift_rotation_and_order_do_not_matter(debiased, scale, seed):
    x, y = points(10, 3, seed), points(10, 2, seed + 1)
    value = alignment(x @ x.T, y, debiased=debiased)
    assert -1 <= value <= 1
    turned = x @ torch.linalg.qr(points(3, 3, seed + 2))[0] * scale + 3.0  # centring removes the shift
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
    assert alignment(turned @ turned.T, y, debiased=debiased) == pytest.approx(value, abs=1e-8)
    assert alignment((x @ x.T)[order][:, order], y[order], debiased=debiased) == pytest.approx(value, abs=1e-12)


def test_a_kernel_equal_to_the_target_gram_has_alignment_one():
    y = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])
    for options in ({}, {"centred": False}, {"debiased": True}):
        assert alignment(target_gram(y), y, **options) == pytest.approx(1.0, rel=1e-12)
    assert balanced_alignment(target_gram(y.repeat(2)), y.repeat(2)) == pytest.approx(1.0, rel=1e-12)


def test_the_debiased_form_is_the_textbook_unbiased_hsic():
    x, y = points(9), points(9, 2, 1)
    n = 9

    def hsic(K, L):
        K, L = K - torch.diag(K.diagonal()), L - torch.diag(L.diagonal())
        one = torch.ones(n, dtype=torch.float64)
        parts = (
            (K @ L).trace() + one @ K @ one * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)
        )
        return parts / (n * (n - 3))

    K, L = x @ x.T, y @ y.T
    expected = hsic(K, L) / (hsic(K, K) * hsic(L, L)) ** 0.5
    assert alignment(K, y, debiased=True) == pytest.approx(float(expected), rel=1e-10)


def test_the_balanced_form_is_the_enumerated_mean_over_distinct_rows():
    y = [0, 0, 0, 0, 1, 1, 1, 1, 1]
    k = (points(9, 3) @ points(9, 3).T).numpy()
    same = np.equal.outer(y, y) * 1.0

    def mean(f, r):
        total = 0.0
        for classes in itertools.product(range(2), repeat=r):
            rows = itertools.permutations(range(9), r)
            values = [f(*t) for t in rows if all(y[a] == c for a, c in zip(t, classes, strict=True))]
            total += np.mean(values) / 2**r
        return total

    def hsic(k, m):
        pair = mean(lambda a, b: k[a, b] * m[a, b], 2)
        chain = mean(lambda a, b, c: k[a, b] * m[a, c], 3)
        return pair - 2 * chain + mean(lambda a, b, c, d: k[a, b] * m[c, d], 4)

    labels = 1 / 4  # HSIC(L, L) of two equally frequent classes: every entry of the centred L is 1/2 or -1/2
    expected = hsic(k, same) / (hsic(k, k) * labels) ** 0.5
    assert balanced_alignment(k, np.array(y)) == pytest.approx(expected, rel=1e-10)


def mixture(n, classes, d, signal, seed):
    """Gaussian classes around fixed centres, rows drawn evenly; linear kernel, true alignment in closed form."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(9), dtype=torch.float64) * signal
    M, P = centres - centres.mean(0), torch.eye(classes, dtype=torch.float64) - 1 / classes
    within = M.T @ M / classes + torch.eye(d, dtype=torch.float64)
    truth = float((M.T @ P / classes).norm() ** 2 / (within.norm() * (P / classes).norm()))
    y = torch.arange(n) % classes
    x = centres[y] + torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x @ x.T, y, truth


def interval_hits(n, classes, d, signal, runs):
    hits = 0
    for seed in range(runs):
        K, y, truth = mixture(n, classes, d, signal, seed)
        K, y = K.numpy(), y.numpy()
        without = leave_one_out(lambda i, K=K, y=y: cosine_by_class(K[np.ix_(i, i)], y[i]), n)
        estimate = with_interval(cosine_by_class(K, y), without, y)
        hits += estimate.lower <= truth <= estimate.upper
    return hits / runs


def test_the_interval_covers_on_a_few_runs():
    assert interval_hits(24, 3, 5, 1.0, 60) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize(("n", "classes", "d", "signal"), [(24, 3, 5, 1.0), (40, 4, 3, 2.0), (50, 10, 20, 0.5)])
def test_the_interval_covers_the_population_alignment_as_often_as_it_says(n, classes, d, signal):
    """Range: 2 to 10 classes of at least 5 rows, alignment from 0 to 0.6; measured 95 to 99.7 %."""
    assert interval_hits(n, classes, d, signal, 2000) > 0.935


def test_the_jackknife_of_a_mean_is_the_textbook_standard_error():
    x = np.random.default_rng(0).normal(size=30)
    without = leave_one_out(lambda i: float(x[i.numpy()].mean()), 30)
    half = jackknife_half_width(without, np.zeros(30, dtype=int))
    assert half == pytest.approx(2.0452296421 * x.std(ddof=1) / 30**0.5, rel=1e-9)


def test_classes_of_one_row_share_a_stratum_and_hopeless_cases_have_no_error_bar():
    without = np.arange(6.0)
    one = jackknife_half_width(without, np.array([0, 0, 0, 0, 1, 2]))
    assert one == pytest.approx(jackknife_half_width(without, np.array([0, 0, 0, 0, 5, 5])))
    assert np.isnan(jackknife_half_width(np.array([1.0]), np.array([0])))
    few = with_interval(0.3, np.ones(5), np.zeros(5, dtype=int))
    assert "5 rows are too few" in few.uncertainty.why.render()
    undefined = with_interval(0.3, np.append(np.ones(29), np.nan), np.zeros(30, dtype=int))
    assert "undefined when some row is left out" in undefined.uncertainty.why.render()


@pytest.mark.parametrize(
    ("kernel", "targets", "options", "match"),
    [
        (TRIDIAGONAL, torch.ones(3), {}, "targets are constant"),
        (TRIDIAGONAL, torch.tensor([4, 4, 4]), {}, "targets are constant"),
        (torch.ones(3, 3), torch.tensor([1.0, 0, 2]), {}, "the kernel is constant"),
        (torch.zeros(3, 3), torch.tensor([1.0, 0, 2]), {"centred": False}, "the kernel is constant"),
        (TRIDIAGONAL, torch.ones(4), {}, "3 rows for 4 targets"),
        (TRIDIAGONAL[:2], torch.ones(3), {}, "square matrix"),
        (TRIDIAGONAL * torch.nan, torch.ones(3), {}, "not finite"),
        (TRIDIAGONAL.triu(), torch.ones(3), {}, "must be symmetric"),
        (TRIDIAGONAL, torch.tensor([1.0, torch.nan, 0]), {}, "targets have entries that are not finite"),
        (TRIDIAGONAL, torch.ones(3, 1, 1), {}, "shape .n,. or .n, d."),
        (TRIDIAGONAL, torch.tensor([1.0, 0, 2]), {"debiased": True}, "at least 4 examples, got 3"),
        (TRIDIAGONAL, torch.tensor([1.0, 0, 2]), {"debiased": True, "centred": False}, "always centred"),
    ],
)  # fmt: skip
def test_what_is_refused(kernel, targets, options, match):
    with pytest.raises(ValueError, match=match):
        alignment(kernel, targets, **options)


def test_what_the_balanced_form_refuses():
    K = points(8) @ points(8).T
    with pytest.raises(ValueError, match=r"class sizes \[5, 3\]"):
        balanced_alignment(K, torch.tensor([0, 0, 0, 0, 0, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"class sizes \[8\]"):
        balanced_alignment(K, torch.zeros(8, dtype=torch.long))
    with pytest.raises(ValueError, match="one label per row"):
        balanced_alignment(K, torch.zeros(7, dtype=torch.long))


def test_a_constant_kernel_is_nan_inside_and_never_a_number():
    assert np.isnan(cosine(torch.ones(4, 4, dtype=torch.float64), points(4) @ points(4).T))
    assert np.isnan(cosine_by_class(np.ones((8, 8)), np.array([0, 0, 0, 0, 1, 1, 1, 1])))
