"""Functions of numbers take arrays: each entry is what the number alone gives, and numbers stay numbers."""

import inspect
from functools import partial

import numpy as np
import pytest

import theorylens.generalization as g

CASES = {
    "kl": (g.kl, ([0.0, 0.2, 1.0], [[0.1], [0.5]])),
    "kl_inverse": (g.kl_inverse, ([0.0, 0.2, 1.0], [[0.0], [0.05]])),
    "kl_inverse lower": (partial(g.kl_inverse, side="lower"), ([0.0, 0.2, 1.0], [[0.0], [0.05]])),
    "clopper_pearson": (g.clopper_pearson, ([0, 3, 20], [[20], [50]], 0.05)),
    "hoeffding": (g.hoeffding, ([10, 100], [[0.1], [0.01]])),
    "bernstein": (g.bernstein, ([10, 100], [[0.1], [0.2]], 0.05)),
    "empirical_bernstein": (g.empirical_bernstein, ([10, 100], [[0.1], [0.2]], 0.05)),
    "bennett": (g.bennett, ([10, 100], [[0.1], [0.0]], 0.05)),
    "chernoff_kl": (g.chernoff_kl, ([0.1, 0.2], [[50], [500]], 0.05)),
    "dkw": (g.dkw, ([10, 100], [[0.1], [0.01]])),
    "sauer_shelah": (g.sauer_shelah, ([0, 10, 300], [[3], [150]])),
    "log_sauer_shelah": (g.log_sauer_shelah, ([0, 10, 300], [[3], [150]])),
    "cover_count": (g.cover_count, ([1, 8, 200], [[3], [4]])),
    "vc_gap": (g.vc_gap, ([5, 1000], [[3], [10]], 0.05)),
    "vc_gap exact": (partial(g.vc_gap, variant="vapnik", growth="exact"), ([5, 1000], 10, [[0.05], [0.01]])),
    "massart": (g.massart, ([1, 64], [[50], [9]], 2.0)),
    "pac_bayes_kl": (g.pac_bayes_kl, ([0.0, 0.1], [[5.0], [20.0]], 5000, 0.05)),
    "pac_bayes_mcallester": (g.pac_bayes_mcallester, ([0.0, 0.1], [[5.0], [20.0]], 5000, 0.05)),
    "pac_bayes_quadratic": (g.pac_bayes_quadratic, ([0.0, 0.1], 5.0, [[50], [5000]], 0.05)),
    "pac_bayes_lambda": (g.pac_bayes_lambda, ([0.0, 0.1], [[5.0], [20.0]], 5000, 0.05)),
    "pac_bayes_catoni": (partial(g.pac_bayes_catoni, beta=2.0), ([0.0, 0.1], [[5.0], [20.0]], 5000, 0.05)),
    "pac_bayes_disintegrated": (g.pac_bayes_disintegrated, ([0.0, 0.1], [[-5.0], [20.0]], 5000, 0.05)),
    "ridgeless_risk": (partial(g.ridgeless_risk, noise=0.1), ([0.5, 2.0],)),
}


@pytest.mark.parametrize("name", CASES)
def test_an_array_is_its_entries_one_by_one(name):
    function, given = CASES[name]
    together = function(*given)
    single = np.broadcast_arrays(*given)
    assert together.shape == single[0].shape
    for place in np.ndindex(single[0].shape):
        alone = function(*(each[place].item() for each in single))
        assert np.ndim(alone) == 0
        assert not isinstance(alone, np.ndarray)
        assert together[place] == pytest.approx(alone, rel=1e-14)


@pytest.mark.parametrize("function", [g.sauer_shelah, g.cover_count])
def test_counts_stay_exact_in_arrays(function):
    exact = function(300, 150)
    assert isinstance(exact, int)
    assert exact > 2**64
    assert function(np.array([300, 300]), 150).tolist() == [exact, exact]
    assert function(np.int64(300), np.int64(150)) == exact


@pytest.mark.parametrize("function", [g.sauer_shelah, g.log_sauer_shelah, g.cover_count])
def test_shapes_that_do_not_broadcast(function):
    with pytest.raises(ValueError, match="do not broadcast"):
        function([1, 2, 3], [1, 2])


SIGNATURES = {
    "clopper_pearson": ["errors", "n", "delta", "side"],
    "kl": ["q", "p"],
    "kl_inverse": ["q", "c", "side"],
    "hoeffding": ["n", "delta"],
    "sauer_shelah": ["m", "d"],
    "massart": ["count", "n", "max_norm"],
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_arguments_are_the_agreed_ones(name):
    assert list(inspect.signature(getattr(g, name)).parameters) == SIGNATURES[name]


NAMES = [
    "clopper_pearson", "kl", "kl_inverse", "hoeffding", "bernstein", "empirical_bernstein", "mcdiarmid",
    "sauer_shelah", "cover_count", "sample_complexity", "vc_gap", "vc_dimension", "rademacher", "massart", "dudley",
    "fat_shattering", "pac_bayes_kl", "pac_bayes_mcallester", "pac_bayes_quadratic", "pac_bayes_lambda",
    "pac_bayes_catoni", "certify", "ridgeless_risk", "double_descent", "rank_study",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_agreed_name_is_there(name):
    assert callable(getattr(g, name))
