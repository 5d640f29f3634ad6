"""Section 1.2: each test is named after a defect of the tutorial that this library does not have."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from theorylens.core import Subject, UnsuitableError
from theorylens.generalization import (
    FiniteClass,
    L2Ball,
    Searched,
    margin_bound,
    margin_gap,
    network_growth,
    norm_margin_bound,
    piecewise_linear_growth,
    probe_capacity,
    probe_gap,
    probe_test_error,
    probe_weight_bits,
    rademacher,
    rademacher_bound,
    shatters,
    vc_dimension,
    vc_linear,
    vc_stump,
    vc_threshold_network,
    vc_tree,
)
from theorylens.generalization._shattering import Halfspaces
from theorylens.generalization._vc_dimension import largest_shattered
from theorylens.results import Exact, Statistical


def test_every_number_says_whether_it_is_exact_a_bound_or_an_estimate():
    assert vc_linear(5).exact
    assert not vc_threshold_network(100, 10).exact
    assert isinstance(rademacher(L2Ball(points=np.eye(3))).uncertainty, Exact)
    drawn = rademacher(L2Ball(points=np.eye(20)), draws=10, generator=torch.Generator().manual_seed(0))
    assert isinstance(drawn.uncertainty, Statistical)
    searched = rademacher(Searched(fit=np.ones_like, m=3), draws=5, generator=torch.Generator().manual_seed(0))
    assert searched.upper == math.inf


def test_halfspaces_without_a_bias_have_one_dimension_less():
    points = np.eye(3)
    assert shatters(points, Halfspaces(bias=False)).shattered
    assert vc_linear(3, bias=False).upper == 3 < vc_linear(3).upper


def test_dropped_constants_make_no_upper_bound():
    """W log2 W = 9965 for W = 1000; what is proved for threshold units is larger and depends on their number."""
    assert vc_threshold_network(1000, 100).upper > 1000 * math.log2(1000)
    assert vc_threshold_network(1000, 100).upper > vc_threshold_network(1000, 10).upper
    assert vc_threshold_network(1, 1).lower == 1  # the tutorial has 0


def test_depth_is_no_tighter_bound_and_activations_matter():
    shallow, deep = (largest_shattered(piecewise_linear_growth(w)) for w in ((20, 40, 1), (20, 16, 16, 16, 1)))
    weights = [piecewise_linear_growth(w).weights for w in ((20, 40, 1), (20, 16, 16, 16, 1))]
    assert weights == [881, 897]  # alike, and the deeper one may shatter more
    assert deep > shallow
    x = torch.zeros(1, 20)
    relu, tanh = (nn.Sequential(nn.Linear(20, 40), a, nn.Linear(40, 1)) for a in (nn.ReLU(), nn.Tanh()))
    assert vc_dimension(relu, x).upper == shallow
    with pytest.raises(UnsuitableError, match="Tanh"):
        network_growth(tanh, x)


def test_a_complexity_of_functions_between_plus_and_minus_one_is_at_most_one():
    assert math.sqrt(2 * 100 * math.log(math.e * 101 / 100) / 101) == pytest.approx(1.4142, abs=1e-4)
    assert rademacher_bound(101, 100) == rademacher_bound(50, 100) == 1.0


def test_a_single_function_has_complexity_zero():
    one = FiniteClass(values=np.sign(np.random.default_rng(0).standard_normal((1, 12))))
    assert rademacher(one).value == pytest.approx(0, abs=1e-15)


def test_the_supremum_is_over_the_class_and_not_over_a_few_draws():
    points = np.random.default_rng(0).standard_normal((50, 20)) / math.sqrt(20)
    exact = rademacher(L2Ball(points=points), draws=5000, generator=torch.Generator().manual_seed(0))
    directions = np.random.default_rng(1).standard_normal((50, 20))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    few = FiniteClass(values=directions @ points.T)
    drawn = rademacher(few, draws=5000, generator=torch.Generator().manual_seed(0))
    assert drawn.upper < 0.6 * exact.lower
    assert exact.value == pytest.approx(0.140, abs=0.01)


def test_drawn_signs_are_seeded_by_the_caller():
    ball = L2Ball(points=np.eye(30))
    found = [rademacher(ball, draws=50, generator=torch.Generator().manual_seed(s)).value for s in (1, 1, 2)]
    assert found[0] == found[1] != 0
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    rademacher(ball, draws=50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_margin_bound_contains_the_margin_loss():
    margins = np.r_[np.full(900, 0.8), np.full(100, -0.2)]
    found = margin_bound(margins, 0.5, 0.02, 0.05)
    assert found.empirical == pytest.approx(0.1)
    assert found.bound == pytest.approx(found.empirical + margin_gap(0.02, 0.5, 1000, 0.05))
    assert found.bound < margin_bound(margins, 0.5, 0.02, 0.05, empirical=True).bound
    assert found.bound < margin_bound(margins, 0.5, 0.02, 0.05, largest=1.0).bound  # a margin chosen afterwards
    for margin in (0.0, -1.0):
        with pytest.raises(ValueError, match="margin must be a finite number above 0"):
            margin_bound(margins, margin, 0.02, 0.05)


def test_a_real_network_beside_all_its_bounds():
    """Digits, even or odd: what counts weights or norms is true and vacuous, what counts untouched examples is not."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = torch.as_tensor(x[order] / 16, dtype=torch.float32), torch.as_tensor(y[order] % 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))
    step = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(150):
        step.zero_grad()
        nn.functional.cross_entropy(net(x[:1000]), y[:1000]).backward()
        step.step()
    subject = Subject(model=net.eval(), loss="cross_entropy", train=(x[:1000], y[:1000]), test=(x[1000:], y[1000:]))
    probes = (probe_test_error, probe_weight_bits, probe_capacity)
    tested, counted, capacity = (p(subject).certificate.bound for p in probes)
    normed = norm_margin_bound(net, x[:1000], y[:1000], 0.05)
    error = float((net(x[1000:]).argmax(1) != y[1000:]).double().mean())
    assert error <= tested < 0.2
    assert min(counted, capacity, normed.bound) > 0.999
    assert normed.vacuous
    assert -0.02 < probe_gap(subject).estimate.value < 0.1


def test_a_tree_of_depth_k_is_not_limited_to_two_to_the_k():
    """2^k is the number of leaves, a lower bound; on many features already one split exceeds it."""
    assert [vc_stump(n).upper for n in (1, 2, 3, 10, 100)] == [2, 3, 4, 6, 9]
    for features in (1, 2, 3, 10, 100):
        assert vc_tree(features, depth=1).lower >= 2**1
        assert vc_tree(features, depth=4).lower >= 2**4
    assert vc_tree(10, depth=1).lower > 2**1
    assert vc_tree(100, depth=2).upper > 2**2
