"""CKA: definition, laws, bias, interval. Compositionality: sums, permutations, refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from theorylens.representation import cka, cka_matrix, linear_cka, topographic_similarity, tree_reconstruction_error
from theorylens.results import Statistical, Unknown


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def test_cka_is_the_published_number(golden) -> None:
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]])
    b = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert linear_cka(a, b) == pytest.approx(golden("G2.2-7"), rel=1e-9)


def test_cka_is_its_definition_in_feature_space() -> None:
    x, y = normal(50, 7), normal(50, 4, seed=1)
    x, y = x - x.mean(0), y - y.mean(0)
    expected = (x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    assert linear_cka(x + 5, y - 2) == pytest.approx(float(expected), rel=1e-10)


def naive_hsic(k: Tensor, m: Tensor) -> float:
    """The unbiased estimator of Song et al. (2012), equation 5, written out."""
    n = len(k)
    k, m = k - torch.diag(k.diagonal()), m - torch.diag(m.diagonal())
    one = torch.ones(n, dtype=torch.float64)
    total = (
        torch.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ m @ one
    )
    return float(total) / (n * (n - 3))


def test_debiased_cka_is_the_ratio_of_unbiased_hsic() -> None:
    x, y = normal(30, 6), torch.tanh(normal(30, 6) @ normal(6, 5, seed=1))
    k, m = x @ x.T, y @ y.T
    expected = naive_hsic(k, m) / (naive_hsic(k, k) * naive_hsic(m, m)) ** 0.5
    assert linear_cka(x, y, debiased=True) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("debiased", [False, True])
def test_rotation_scale_and_shift_leave_cka_at_one_and_linear_maps_do_not(debiased: bool) -> None:
    x = normal(100, 8)
    rotation = torch.linalg.qr(normal(8, 8, seed=1))[0]
    assert linear_cka(x, 3 * x @ rotation + 4, debiased=debiased) == pytest.approx(1, abs=1e-10)
    assert linear_cka(x, x @ normal(8, 8, seed=2), debiased=debiased) < 0.95


def test_few_rows_make_independent_features_look_alike_unless_debiased() -> None:
    pairs = [(normal(40, 100, seed=2 * s), normal(40, 100, seed=2 * s + 1)) for s in range(20)]
    assert np.mean([linear_cka(x, y) for x, y in pairs]) == pytest.approx(0.72, abs=0.03)
    debiased = [linear_cka(x, y, debiased=True) for x, y in pairs]
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / 20**0.5 + 0.005


def test_a_matrix_of_layers_holds_every_pair_and_says_nothing_of_a_dead_one() -> None:
    layers = [normal(40, 5), normal(40, 7, seed=1), torch.ones(40, 3)]
    found = cka_matrix(layers)
    assert float(found[0, 1]) == pytest.approx(linear_cka(layers[0], layers[1], debiased=True), rel=1e-10)
    assert torch.isnan(found[2]).all()
    assert torch.equal(found[:2, :2], found[:2, :2].T)
    assert cka_matrix(layers[:1], layers[:2]).shape == (1, 2)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.randn(9, 2), torch.randn(8, 2), "9 and 8 rows"),
        (torch.ones(9, 2), torch.randn(9, 2), "the same on all 9 rows"),
        (torch.randn(9, 2) / 0, torch.randn(9, 2), "not finite"),
        (torch.randn(3, 2), torch.randn(3, 2), "at least 4 rows, got 3"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_cka(x, y, debiased=True)


def test_few_rows_have_no_interval() -> None:
    assert isinstance(cka(normal(59, 3), normal(59, 3)).uncertainty, Unknown)
    assert isinstance(cka(normal(60, 3), normal(60, 3)).uncertainty, Statistical)
    assert cka(normal(20, 3), normal(20, 3)).trouble is not None


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_the_interval_covers_the_similarity_of_the_population(noise: float) -> None:
    mix = normal(6, 6, seed=99)

    def pair(n: int, seed: int) -> tuple[Tensor, Tensor]:
        x = normal(n, 6, seed=seed)
        return x, x @ mix + noise * normal(n, 6, seed=seed + 10**6)

    truth = linear_cka(*pair(4000, 10**7), debiased=True)
    covered = 0
    for seed in range(250):
        found = cka(*pair(200, seed))
        covered += found.lower <= truth <= found.upper
    assert 0.91 < covered / 250 < 0.99


SHAPES = list(itertools.product(range(3), range(4), range(2)))


def derivations() -> list[list[str]]:
    return [[f"a{a}", f"b{b}", f"c{c}"] for a, b, c in SHAPES]


def test_sums_of_parts_have_no_reconstruction_error() -> None:
    parts = {name: normal(5, seed=i) for i, name in enumerate(sorted({p for d in derivations() for p in d}))}
    rows = torch.stack([sum((parts[p] for p in d), torch.zeros(5, dtype=torch.float64)) for d in derivations()])
    found = tree_reconstruction_error(rows, derivations(), rng=rng())
    assert found.value == pytest.approx(0, abs=1e-20)
    assert found.p_value == 1 / 200
    noisy = tree_reconstruction_error(rows + 0.1 * normal(24, 5, seed=50), derivations(), rng=rng())
    assert 0 < noisy.relative < 0.02


def test_the_error_is_that_of_least_squares() -> None:
    rows = normal(24, 3)
    names = sorted({p for d in derivations() for p in d})
    uses = np.array([[d.count(n) for n in names] for d in derivations()], dtype=float)
    best = np.linalg.lstsq(uses, rows.numpy(), rcond=None)[0]
    expected = ((rows.numpy() - uses @ best) ** 2).sum() / 24
    assert tree_reconstruction_error(rows, derivations(), rng=rng()).value == pytest.approx(expected, rel=1e-10)


def test_random_codes_are_no_more_compositional_than_permuted_ones() -> None:
    values = [tree_reconstruction_error(normal(24, 3, seed=s), derivations(), rng=rng(s), permutations=39).p_value
              for s in range(100)]  # fmt: skip
    assert np.mean(np.array(values) <= 0.1) == pytest.approx(0.1, abs=0.09)


def test_topographic_similarity_is_a_rank_correlation_of_distances() -> None:
    attributes = torch.tensor(SHAPES)
    rows = normal(24, 3) + attributes
    found = topographic_similarity(rows, attributes, rng=rng())
    pairs = list(itertools.combinations(range(24), 2))
    near = [float((rows[i] - rows[j]).norm()) for i, j in pairs]
    differ = [int((attributes[i] != attributes[j]).sum()) for i, j in pairs]
    assert found.value == pytest.approx(spearmanr(near, differ).statistic, rel=1e-9)
    assert found.p_value < 0.05
    assert topographic_similarity(normal(24, 3, seed=7), attributes, rng=rng()).p_value > 0.05


def test_one_hot_attributes_are_ordered_as_their_descriptions() -> None:
    one_hot = torch.cat([torch.nn.functional.one_hot(torch.tensor(SHAPES)[:, i]) for i in range(3)], 1).double()
    assert topographic_similarity(one_hot, torch.tensor(SHAPES), rng=rng()).value == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tree_reconstruction_error(normal(4, 2), [], rng=rng()), "4 representations need as many derivations"),
        (lambda: tree_reconstruction_error(normal(2, 2), [["a"], []], rng=rng()), "at least one primitive"),
        (
            lambda: tree_reconstruction_error(torch.ones(2, 2), [["a"], ["b"]], rng=rng()),
            "all 2 representations are equal",
        ),
        (
            lambda: topographic_similarity(normal(5, 2), torch.randn(5, 2), rng=rng()),
            "attributes must be whole numbers",
        ),
        (lambda: topographic_similarity(normal(5, 2), torch.zeros(5, 2).long(), rng=rng()), "equally far apart"),
    ],
)
def test_what_cannot_be_composed_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
