"""Losses without bad minima: their critical values against points built by hand, and the shape of the loss there."""

import itertools

import pytest
import torch

from theorylens.core import objective
from theorylens.landscape._signs import dense_spectrum
from theorylens.reference import linear_network, matrix_factorisation, phase_retrieval


def at(known, *tensors):
    """Loss, gradient norm and spectrum of the known subject at given parameters."""
    net = known.subject.net
    with torch.no_grad():
        for p, value in zip(net.parameters(), tensors, strict=True):
            p.copy_(value)
    goal = objective(net, known.subject.split("train"), known.subject.task)
    return goal.value, float(goal.gradient().norm()), dense_spectrum(goal)


@pytest.mark.parametrize("widths", [[4, 2, 3], [2, 3, 3], [3, 2, 2, 3]])
def test_every_subset_of_modes_is_a_critical_point_of_a_linear_network(widths):
    """Baldi and Hornik (1989), equations (5) and (6): W = U_S U_S' Syx Sxx^-1 for eigenvectors of S."""
    known = linear_network(widths, 50, 3)
    x, y = known.subject.split("train").take(range(50))
    cross, own = y.T @ x / 50, x.T @ x / 50
    regression = torch.linalg.solve(own, cross.T).T
    vectors = torch.linalg.eigh(regression @ cross.T).eigenvectors
    values, best = set(), min(widths)
    modes = range(widths[-1] - min(widths[-1], widths[0]), widths[-1])
    for size in range(best + 1):
        for chosen in itertools.combinations(modes, size):
            corner = torch.zeros(widths[-1], widths[-2], dtype=torch.float64)
            corner[:, :size] = vectors[:, list(chosen)]
            layers = [corner.T @ regression if len(widths) == 3 else corner.T[: widths[1]] @ regression]
            layers += [] if len(widths) == 3 else [torch.eye(widths[2], widths[1], dtype=torch.float64)]
            loss, slope, spectrum = at(known, *layers, corner)
            assert slope < 1e-12
            assert known.distance(loss) < 1e-12
            values.add(round(loss, 9))
            if loss > known.minimum + 1e-9 and known.strict:
                assert spectrum[0] < -1e-3
            if loss < known.minimum + 1e-9:
                assert spectrum[0] > -1e-10
    assert len(values) == len({round(v, 9) for v in known.critical_values})


@pytest.mark.parametrize("symmetric", [False, True])
def test_every_subset_of_singular_values_is_a_critical_point_of_a_factorisation(symmetric):
    known = matrix_factorisation([3.0, 2.0, 0.5], 2, 1, symmetric=symmetric)
    matrix = known.subject.split("train").take(range(3))[1]
    left, sizes, right = torch.linalg.svd(matrix)
    found = set()
    for size in range(3):
        for chosen in itertools.combinations(range(3), size):
            u, v = torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
            u[:, :size] = left[:, list(chosen)] * sizes[list(chosen)].sqrt()
            v[:, :size] = right.T[:, list(chosen)] * sizes[list(chosen)].sqrt()
            loss, slope, spectrum = at(known, *((u,) if symmetric else (u, v)))
            assert slope < 1e-12
            assert known.distance(loss) < 1e-12
            assert (loss < known.minimum + 1e-9) != (spectrum[0] < -1e-3)
            found.add(round(loss, 9))
    assert found == {round(v, 9) for v in known.critical_values}


def test_phase_retrieval_is_zero_at_the_signal_and_a_maximum_at_the_origin():
    known = phase_retrieval(3, 4000, 2)
    a, squares = known.subject.split("train").take(range(4000))
    signal = torch.linalg.eigh((a * squares).T @ a / 4000).eigenvectors[:, -1:]  # its direction, nearly
    for _ in range(5):  # alternating projections from there
        signal = torch.linalg.lstsq(a, squares.sqrt() * (a @ signal).sign()).solution
    for sign in (1, -1):
        loss, slope, spectrum = at(known, sign * signal.T)
        assert loss < 1e-20
        assert slope < 1e-9
        assert spectrum[0] > 0
    _, slope, spectrum = at(known, torch.zeros(1, 3))
    assert slope == 0
    assert spectrum[-1] < 0
    across = torch.linalg.qr(torch.cat([signal, torch.eye(3, dtype=torch.float64)[:, :2]], 1)).Q[:, 1:2]
    _, slope, spectrum = at(known, (across * signal.norm() / 3**0.5).T)
    assert slope < 0.1 * float(signal.norm()) ** 3  # a critical point at infinitely many measurements
    assert spectrum[0] < -0.5 * float(signal.norm()) ** 2


def test_refusals():
    with pytest.raises(ValueError, match="widths need inputs, at least one hidden layer and outputs"):
        linear_network([3, 2])
    with pytest.raises(ValueError, match="more than as many examples, got n=3"):
        linear_network([3, 2, 1], 3)
    with pytest.raises(ValueError, match="positive singular values and rank >= 1"):
        matrix_factorisation([1.0, -1.0], 1)
    with pytest.raises(ValueError, match="subsets of 17 modes are too many"):
        matrix_factorisation([1.0] * 17, 1)
    with pytest.raises(ValueError, match="d must be at least 2, got 1"):
        phase_retrieval(1)
    with pytest.raises(ValueError, match="not known in closed form"):
        phase_retrieval(3).distance(0.0)
