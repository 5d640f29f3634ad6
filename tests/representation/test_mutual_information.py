"""Mutual information: closed forms, the published estimator with loops, scikit-learn, coverage, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from sklearn.feature_selection._mutual_info import _compute_mi_cc, _compute_mi_cd
from torch import Tensor

from theorylens.representation import discrete_mutual_information, gaussian_mutual_information, ksg, ross
from theorylens.results import Statistical, Unknown

X = torch.tensor([0, 0.7, 1.9, 2.2, 3.8, 4.1, 5.5, 7.3], dtype=torch.float64)
Z = torch.tensor([0.3, 0.1, 2.5, 1.1, 3, 5.2, 4.4, 6.1], dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def pair(n: int, rho: float, seed: int) -> tuple[Tensor, Tensor]:
    z = normal(n, 2, seed=seed)
    return z[:, 0], rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]


def correlated(rho: float) -> Tensor:
    return torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64)


def test_gaussians_have_the_closed_form(golden) -> None:
    assert [gaussian_mutual_information(correlated(r)) for r in (0.9, 0.5)] == pytest.approx(golden("G2.3-1"), rel=1e-9)
    blocks = torch.block_diag(correlated(0.9), correlated(0.5))[[0, 2, 1, 3]][:, [0, 2, 1, 3]]
    assert gaussian_mutual_information(blocks, 2) == pytest.approx(sum(golden("G2.3-1")), rel=1e-9)


def test_a_gaussian_does_not_mind_units_and_a_copy_shares_everything() -> None:
    scale = torch.tensor([1e-6, 1e5], dtype=torch.float64)
    scaled = scale[:, None] * correlated(0.9) * scale
    assert gaussian_mutual_information(scaled) == pytest.approx(gaussian_mutual_information(correlated(0.9)), rel=1e-9)
    assert gaussian_mutual_information(correlated(1.0)) == math.inf


def test_ksg_is_the_published_number(golden) -> None:
    assert [ksg(X, Z, k).value for k in (1, 2, 3)] == pytest.approx(golden("G2.3-2"), rel=1e-9)
    assert [ksg(X, Z, k, variant=2).value for k in (1, 2, 3)] == pytest.approx(golden("G2.3-3"), rel=1e-9)


def naive(x: Tensor, z: Tensor, k: int, variant: int) -> float:
    n, total = len(x), 0.0
    for i in range(n):
        dx, dz = ((p - p[i]).abs().amax(1) for p in (x, z))
        order = [j for j in torch.argsort(torch.maximum(dx, dz), stable=True).tolist() if j != i][:k]
        others = [j for j in range(n) if j != i]
        if variant == 1:
            edge = max(float(dx[order[-1]]), float(dz[order[-1]]))
            total += sum(digamma(sum(float(d[j]) < edge for j in others) + 1) for d in (dx, dz))
        else:
            total += sum(digamma(sum(float(d[j]) <= max(float(d[o]) for o in order) for j in others)) for d in (dx, dz))
    return float(digamma(k) + digamma(n) - (1 / k if variant == 2 else 0) - total / n)


@pytest.mark.parametrize("variant", [1, 2])
def test_ksg_agrees_with_loops(variant: int) -> None:
    x, z = normal(60, 2), normal(60, 3, seed=1)
    z[:, 0] += x[:, 0]
    assert ksg(x, z, 4, variant=variant).value == pytest.approx(naive(x, z, 4, variant), rel=1e-10)


def test_scikit_learn_has_the_same_numbers() -> None:
    x, z = pair(500, 0.6, 3)
    assert ksg(x, z, 3).value == pytest.approx(_compute_mi_cc(x.numpy(), z.numpy(), 3), rel=1e-9)
    labels = (z > 0).long() + (z > 1).long()
    assert ross(x, labels, 3).value == pytest.approx(_compute_mi_cd(x.numpy(), labels.numpy(), 3), rel=1e-9)


def test_block_size_and_order_of_rows_change_nothing(monkeypatch) -> None:
    x, z = pair(100, 0.6, 3)
    before = ksg(x, z).value
    monkeypatch.setattr("theorylens.representation._mutual_information.BLOCK", 700)
    assert ksg(x, z).value == pytest.approx(before, rel=1e-12)
    order = torch.randperm(100, generator=rng())
    assert ksg(x[order], z[order]).value == pytest.approx(before, rel=1e-12)
    assert ksg(z, x).value == pytest.approx(before, rel=1e-12)
    assert ksg(3 * x + 1, 3 * z - 2).value == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_a_gaussian_sample_has_about_the_information_of_the_gaussian(rho: float) -> None:
    found = ksg(*pair(2000, rho, 1))
    assert found.lower < gaussian_mutual_information(correlated(rho)) < found.upper
    assert found.upper - found.lower < 0.2
    assert found.trouble is None


def test_classes_apart_share_their_entropy_and_classes_together_nothing() -> None:
    labels = torch.arange(600) % 3
    assert ross(normal(600) + 100 * labels, labels).value == pytest.approx(math.log(3), abs=0.02)
    nothing = ross(normal(600), labels)
    assert nothing.lower < 0 < nothing.upper


def test_two_gaussian_classes_have_the_information_of_quadrature() -> None:
    grid = torch.linspace(-8, 9, 20_001, dtype=torch.float64)
    p = torch.stack([(-((grid - m) ** 2) / 2).exp() for m in (0.0, 1.5)]) / math.sqrt(2 * math.pi)
    mixture = p.mean(0)
    truth = float(torch.trapezoid((p * (p / mixture).clamp(min=1e-300).log()).mean(0), grid))
    labels = torch.arange(3000) % 2
    found = ross(normal(3000, seed=6) + 1.5 * labels, labels)
    assert found.lower < truth < found.upper
    assert found.upper - found.lower < 0.12


def test_a_table_has_its_closed_form(golden) -> None:
    table = torch.tensor([[0.4, 0.1], [0.1, 0.4]], dtype=torch.float64)
    assert discrete_mutual_information(table) == pytest.approx(golden("G2.3-4"), rel=1e-9)
    assert discrete_mutual_information(torch.outer(torch.tensor([0.3, 0.7]), torch.tensor([0.2, 0.8]))) < 1e-7
    assert discrete_mutual_information(torch.eye(4) / 4) == pytest.approx(math.log(4), rel=1e-12)


def test_ties_high_dimension_and_the_ceiling_are_trouble() -> None:
    def said(x: Tensor, z: Tensor) -> str:
        trouble = ksg(x, z).trouble
        return "" if trouble is None else trouble.id

    x, z = pair(200, 0.5, 0)
    assert said(x, z) == ""
    assert said(torch.zeros(200), torch.zeros(200)) == "mutual_information.ties"
    assert said(normal(200, 4), normal(200, 4, seed=1)) == "mutual_information.many"
    assert said(x, x) == "mutual_information.ceiling"


def test_few_rows_have_no_interval() -> None:
    assert isinstance(ksg(*pair(59, 0.5, 0)).uncertainty, Unknown)
    assert isinstance(ksg(*pair(60, 0.5, 0)).uncertainty, Statistical)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ksg(X, Z[:-1]), "x has 8 rows and z has 7"),
        (lambda: ksg(X, Z, 8), "below the 8 rows, got 8"),
        (lambda: ksg(X, Z, 0), "at least 1 and below"),
        (lambda: ksg(X / 0, Z), "rows of x are not finite"),
        (lambda: ksg(X, Z, variant=3), "variant must be 1 or 2, got 3"),
        (lambda: ross(X, torch.zeros(8).long()), "have 1 class; at least 2"),
        (lambda: ross(X, torch.arange(8) // 7), "1 classes have a single row"),
        (lambda: ross(X, torch.arange(7)), "8 rows and 7 labels"),
        (lambda: ross(X, Z), "labels must be whole numbers"),
        (lambda: ross(X, torch.arange(8) % 2, 9), "below the 8 rows, got 9"),
        (lambda: discrete_mutual_information(torch.ones(2, 2)), "sum to 1, got shape .* with sum 4"),
        (lambda: discrete_mutual_information(torch.tensor([[1.5, -0.5]])), "numbers >= 0"),
        (lambda: gaussian_mutual_information(torch.tensor([[1.0, 2.0], [2.0, 1.0]])), "singular or negative"),
        (lambda: gaussian_mutual_information(torch.tensor([[1.0, 0.5], [0.2, 1.0]])), "symmetric and finite"),
        (lambda: gaussian_mutual_information(torch.eye(2), 2), "must leave something of 2 coordinates, got 2"),
    ],
)
def test_what_shares_nothing_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_interval_of_ksg_covers_the_information_of_gaussians(rho: float) -> None:
    truth = gaussian_mutual_information(correlated(rho))
    found = [ksg(*pair(300, rho, 50_000 + s)) for s in range(300)]
    covered = np.mean([e.lower <= truth <= e.upper for e in found])
    assert 0.88 < covered < 0.99  # the small bias at rho = .9 costs two or three per cent


@pytest.mark.slow
def test_the_interval_of_ross_covers_the_information_of_two_classes() -> None:
    labels = torch.arange(400) % 2
    grid = torch.linspace(-8, 9, 20_001, dtype=torch.float64)
    p = torch.stack([(-((grid - m) ** 2) / 2).exp() for m in (0.0, 1.5)]) / math.sqrt(2 * math.pi)
    truth = float(torch.trapezoid((p * (p / p.mean(0)).clamp(min=1e-300).log()).mean(0), grid))
    found = [ross(normal(400, seed=s) + 1.5 * labels, labels) for s in range(300)]
    assert 0.9 < np.mean([e.lower <= truth <= e.upper for e in found]) < 0.99
