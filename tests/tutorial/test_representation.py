"""The defects of the tutorial's chapter on representation, each shown to be absent."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import ortho_group
from sklearn.datasets import load_digits, make_swiss_roll
from torch import Tensor, nn

from theorylens.core import Subject
from theorylens.representation import (
    correlation_dimension,
    dci,
    fisher_ratio,
    gaussian_mutual_information,
    infonce,
    information_bottleneck,
    ksg,
    layer_profile,
    linear_pieces,
    lle,
    log2_dichotomies_bound,
    manifold_report,
    manifold_test,
    mle_dimension,
    pettis_dimension,
    region_bounds,
    representation_quality,
    ross,
    topographic_similarity,
    tree_reconstruction_error,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def gaussian(n: int, rho: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    z = normal(n, 2, seed=seed)
    return z[:, 0], rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]


# 2.1 ------------------------------------------------------------------------------------------------------------


def test_a_disconnected_neighbour_graph_is_said() -> None:
    clouds = torch.cat([normal(50, 3), normal(50, 3, seed=1) + 50])
    assert lle(clouds, 2, 6).trouble is not None


def test_the_correlation_dimension_counts_pairs_and_a_neighbour_regression_is_not_called_that() -> None:
    """The tutorial's slope read 1.80 and 4.13 on cubes of dimension 2 and 5, and returned 0.0 for unknown methods."""
    for d, low in ((2, 1.87), (5, 4.3)):
        cube = torch.rand(2000, d, generator=rng(d), dtype=torch.float64)
        assert low < correlation_dimension(cube).value < 1.1 * d
        assert low < pettis_dimension(cube).value < 1.1 * d
    with pytest.raises(ValueError, match="average must be"):
        mle_dimension(cube, average="none")


def test_doubled_points_do_not_give_a_dimension_of_a_third() -> None:
    points = normal(200, 3)
    with pytest.raises(ValueError, match="400 of 400 points have an exact copy"):
        mle_dimension(torch.cat([points, points]))
    assert 2.5 < mle_dimension(points).value < 3.3


def test_the_dimension_of_many_is_no_median_of_local_ones() -> None:
    """On a mixture of a line and a cube the pooled estimate follows both; a median jumps to one of them."""
    line = torch.zeros(300, 3, dtype=torch.float64)
    line[:, 0] = torch.linspace(0, 30, 300) + 0.01 * torch.rand(300, generator=rng())
    cube = torch.rand(299, 3, generator=rng(1), dtype=torch.float64) + 100
    assert 1.2 < mle_dimension(torch.cat([line, cube]), 10).value < 2.2


def test_the_manifold_hypothesis_is_tested_against_something() -> None:
    roll = torch.from_numpy(make_swiss_roll(400, noise=0.01, random_state=0)[0])
    assert manifold_test(roll, rng=rng(), draws=99).p_value <= 0.01
    assert manifold_test(normal(400, 3, seed=1), rng=rng(), draws=99).p_value > 0.05
    report = manifold_report(roll, rng=rng(), draws=19)
    assert {made.method for made in report.embeddings} == {"principal components", "LLE", "Isomap"}
    assert all(0 < made.kept.continuity <= 1 for made in report.embeddings)


# 2.2 ------------------------------------------------------------------------------------------------------------


def test_capacity_is_not_the_number_of_on_off_states() -> None:
    """S2.2-1 counts 64 states of two layers of three units; no network in the plane has more than 37 regions."""
    bounds = region_bounds(2, (3, 3))
    assert bounds.states == 64
    assert bounds.upper <= 49 < bounds.states
    deep = region_bounds(2, (20,) * 10)
    assert deep.log10_upper < 0.5 * math.log10(deep.states)


def test_counts_of_a_hundred_units_have_a_logarithm() -> None:
    """The tutorial's own example crashed taking the logarithm of 2^100."""
    bounds = region_bounds(10, (100, 100))
    assert math.isfinite(bounds.log10_lower)
    assert math.log10(bounds.states) == pytest.approx(200 * math.log10(2))
    assert 10 < bounds.log10_lower < bounds.log10_upper < 40


def test_what_limits_learning_is_the_number_of_labellings_and_it_is_not_exponential_in_units() -> None:
    """The tutorial's theorem says 2^n representations of n units; dichotomies grow as W L log(m W)."""
    width, examples = 100, 10**9
    found = log2_dichotomies_bound(10, (width,) * 3, examples)
    weights = 10 * width + 2 * width**2 + 4 * width + 1
    assert found < 6 * weights * 3 * math.log2(examples * weights)
    assert found < examples / 100
    doubled = log2_dichotomies_bound(10, (2 * width,) * 3, examples)
    assert doubled < 5 * found  # the square of the width, where 2^n would square the count


def test_a_real_network_has_fewer_pieces_than_units_suggest() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 1))
    pieces = linear_pieces(net, normal(5, 2), normal(5, 2, seed=1))
    assert all(p.pieces <= p.patterns <= 200 for p in pieces)


def test_independent_and_identical_features_are_both_not_compositional_by_default() -> None:
    """The tutorial's score is 1.006 for independent features and 2 for identical ones, whatever the inputs are."""
    attributes = torch.cartesian_prod(torch.arange(4), torch.arange(4), torch.arange(2))
    named = [[f"{i}{v}" for i, v in enumerate(row)] for row in attributes.tolist()]
    noise = normal(32, 6)
    assert tree_reconstruction_error(noise, named, rng=rng()).p_value > 0.05
    assert topographic_similarity(noise, attributes, rng=rng()).p_value > 0.05
    composed = torch.nn.functional.one_hot(attributes[:, 0]).double() @ normal(4, 6) + attributes[:, 1:].double() @ (
        normal(2, 6, seed=1)
    )
    assert tree_reconstruction_error(composed, named, rng=rng()).relative < 1e-20
    assert topographic_similarity(composed, attributes, rng=rng()).p_value == 1 / 200
    with pytest.raises(ValueError, match="derivations"):
        tree_reconstruction_error(noise, [], rng=rng())


def digits_subject() -> Subject:
    x, y = load_digits(return_X_y=True)
    data = torch.tensor(x[:600] / 16, dtype=torch.float32), torch.tensor(y[:600])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(150):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(data[0]), data[1]).backward()
            optimiser.step()
    return Subject(model=net, loss="cross_entropy", train=data)


def test_layers_are_those_of_a_network_and_not_principal_components_of_each_other() -> None:
    """PCA of PCA is one PCA: its layers are linear functions of the inputs. Layers of a network are not."""
    subject = digits_subject()
    profile = layer_profile(subject, ("(inputs)", "1", "3", "4"), rng=rng(), rows=400)
    assert profile.layers[-1].accuracy.value > 0.9
    x = subject.split("train").take(range(400))[0].double()
    h = subject.net[:4](x.float()).detach().double()
    design = torch.cat([x, torch.ones(400, 1)], 1)
    left = h - design @ torch.linalg.lstsq(design, h, driver="gelsd").solution
    assert float((left**2).sum() / ((h - h.mean(0)) ** 2).sum()) > 0.01
    assert float(profile.similarity[0, 2]) < 0.99


def test_a_code_that_holds_every_factor_twice_is_disentangled() -> None:
    """The tutorial's score, the largest importance per factor, gives it 0.583."""
    factors = torch.stack([torch.randint(0, k, (300,), generator=rng(k)) for k in (4, 5, 3)], 1)
    twice = torch.cat([factors, factors], 1).double() + 0.01 * normal(300, 6)
    found = dci(twice, factors, rng=rng())
    assert found.disentanglement.value > 0.95
    assert found.completeness.value < 0.9  # each factor is spread over two latents, which is another matter
    assert found.informativeness.value > 0.95


# 2.3 ------------------------------------------------------------------------------------------------------------


def test_information_of_correlated_gaussians_is_not_zero() -> None:
    """The tutorial's estimator returned 0.0 for every case tried, .144 and .830 among them."""
    for rho in (0.5, 0.9):
        truth = gaussian_mutual_information(torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64))
        for variant in (1, 2):
            found = ksg(*gaussian(1500, rho, seed=3), variant=variant)
            assert found.lower < truth < found.upper
            assert found.lower > 0


def test_information_with_itself_is_no_finite_number_without_trouble() -> None:
    x = normal(300)
    found = ksg(x, x)
    assert found.value > 3
    assert found.trouble is not None
    assert "larger or infinite" in found.trouble.render()


def test_a_representation_that_contains_its_input_shares_information_with_it() -> None:
    """The tutorial's example prints I(X;Z) = I(Z;Y) = 0.0000 for Z that contains the first coordinates of X."""
    x = normal(500, 5)
    y = (x[:, 0] + x[:, 1] > 0).long()
    z = torch.stack([x[:, 0] + 0.3 * normal(500, seed=1), x[:, 1] + 0.3 * normal(500, seed=2)], 1)
    assert ksg(x[:, :2], z).lower > 1
    assert ross(z, y).lower > 0.2
    assert ross(normal(500, 2, seed=3), y).lower < 0


def test_a_class_is_not_fed_to_an_estimator_for_real_numbers() -> None:
    labels = torch.arange(600) % 3
    assert ross(normal(600) + 5 * labels, labels).value == pytest.approx(math.log(3), abs=0.05)
    assert ksg(normal(600) + 5 * labels, labels.double()).trouble is not None


def test_the_bottleneck_is_optimised_and_not_zero() -> None:
    p = torch.tensor([[0.3, 0.05, 0.0], [0.05, 0.25, 0.05], [0.0, 0.05, 0.25]], dtype=torch.float64)
    low, high = information_bottleneck(p, [2.0, 10.0])
    assert high.compression > 0.3
    assert high.objective < low.objective <= 0
    assert high.objective < -1


def test_the_contrastive_bound_takes_scores_and_has_the_right_sign() -> None:
    """The tutorial's bound is -ln N of the number of negatives, with no data at all."""
    good = infonce(torch.eye(16) * 5)
    assert 0 < good.bound < good.ceiling == pytest.approx(math.log(16))
    assert infonce(torch.zeros(16, 16)).bound == pytest.approx(0, abs=1e-12)
    assert good.loss >= 0


def test_class_separation_does_not_disappear_for_many_or_small_features() -> None:
    """The tutorial drops the Fisher ratio when a determinant is below 1e-10."""
    y = torch.arange(400) % 2
    x = normal(400, 200) + y[:, None]
    rotation = torch.from_numpy(ortho_group.rvs(200, random_state=0))
    for same in (x, 1e-3 * x, x @ rotation):
        assert fisher_ratio(same, y) == pytest.approx(0.25, rel=0.2)
    assert representation_quality(1e-3 * x, y, rng=rng()).fisher == pytest.approx(fisher_ratio(x, y), rel=1e-9)


def test_regression_has_a_readout_too() -> None:
    x = normal(300, 5)
    found = representation_quality(x, x @ normal(5, seed=1), "regression", rng=rng())
    assert found.readout.value > 0.99
