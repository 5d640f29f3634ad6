"""Sizes of test sets against brute force over n."""

import math

import numpy as np
import pytest

from theorylens.generalization import clopper_pearson, hoeffding, holdout_size


def from_then_on(enough):
    return max((n for n, holds in enumerate(enough, start=1) if not holds), default=0) + 1


@pytest.mark.parametrize(("error", "width", "delta"), [(0.0, 0.05, 0.05), (0.1, 0.05, 0.05), (0.3, 0.1, 0.01)])
def test_at_an_expected_error_rate(error, width, delta):
    n = np.arange(1, 900)
    enough = clopper_pearson(np.minimum(np.ceil(n * error - 1e-9), n), n, delta) - error <= width
    assert holdout_size(width, delta, error=error) == from_then_on(enough)


def test_without_errors_it_is_the_closed_form():
    for width, delta in ((0.05, 0.05), (0.01, 0.001), (0.001, 0.05)):
        assert holdout_size(width, delta, error=0.0) == math.ceil(math.log(delta) / math.log1p(-width))


@pytest.mark.parametrize(("width", "delta"), [(0.1, 0.05), (0.09, 0.2), (0.2, 0.001)])
def test_whatever_is_measured(width, delta):
    n, k = (a.ravel() for a in np.meshgrid(np.arange(1, 120), np.arange(120), indexing="ij"))
    n, k = n[k <= n], k[k <= n]
    wide = clopper_pearson(k, n, delta) - k / n
    assert holdout_size(width, delta) == from_then_on([wide[n == each].max() <= width for each in range(1, 120)])


def test_hoeffding_asks_for_more():
    n = holdout_size(0.02, 0.05, theorem="hoeffding")
    assert hoeffding(n, 0.05) <= 0.02 < hoeffding(n - 1, 0.05)
    assert holdout_size(0.02, 0.05) < n
    assert holdout_size(0.02, 0.05, error=0.05) < holdout_size(0.02, 0.05)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: holdout_size(0.0, 0.05), "width must lie strictly between 0 and 1, got 0"),
        (lambda: holdout_size(0.1, 1.0), "delta must lie strictly between 0 and 1, got 1"),
        (lambda: holdout_size(0.1, 0.1, error=7), "error must lie between 0 and 1, got 7"),
        (lambda: holdout_size(1e-7, 0.1, error=0.5), "more than 2\\*\\*40 test examples"),
    ],
)
def test_what_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
