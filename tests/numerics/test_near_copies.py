"""Near copies: found where rows were made from others, and not where independent rows happen to lie close."""

import numpy as np
import pytest

from theorylens.numerics.near_copies import directions, near_copies

RNG = np.random.default_rng(0)
PLAIN = RNG.standard_normal((400, 60))


def found(first, second=None):
    r = directions(first.shape[1])
    return [pairs.tolist() for pairs in near_copies(first @ r, None if second is None else second @ r)]


@pytest.mark.parametrize("noise", [0.0, 1e-8, 1e-5, 2e-3])
def test_copies_are_found_at_every_noise(noise):
    copies = PLAIN[[3, 70, 200]] + noise * RNG.standard_normal((3, 60))
    assert found(copies, PLAIN) == [[0, 1, 2], [3, 70, 200]]
    assert found(np.vstack([PLAIN, copies])) == [[3, 70, 200], [400, 401, 402]]


def test_formats_that_round_leave_near_copies():
    assert found(PLAIN[:50].astype(np.float16).astype(float), PLAIN)[0] == list(range(50))
    assert found(np.round(PLAIN[:50] * 255) / 255, PLAIN)[0] == list(range(50))


def _curve(n, seed):
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    return np.sin(np.outer(angle, np.arange(1, 8))) @ np.random.default_rng(5).standard_normal((7, 60))


def _plane(n, seed):
    return np.random.default_rng(seed).uniform(size=(n, 2)) @ np.random.default_rng(6).standard_normal((2, 60))


@pytest.mark.parametrize("draw", [_curve, _plane], ids=["curve", "plane"])
@pytest.mark.parametrize("n", [100, 1000, 4000])
def test_independent_rows_are_no_copies_however_densely_they_lie(draw, n):
    assert found(draw(n, 0), draw(n, 1)) == [[], []]
    assert found(draw(n, 2)) == [[], []]


def test_what_cannot_be_compared_has_no_copies():
    assert found(np.zeros((5, 9))) == [[], []]
    assert found(np.full((5, 9), np.nan), np.ones((4, 9))) == [[], []]
