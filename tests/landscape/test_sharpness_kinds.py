"""Sharpness by name: closed forms and twins of the newer kinds, what rescaling moves, options, refusals."""

import math

import pytest
import torch
from torch import nn

from theorylens import core
from theorylens.core import RefusedError
from theorylens.landscape import (
    SHARPNESS_KINDS,
    curvature_summary,
    expected_sharpness,
    invariance,
    pac_bayes_sharpness,
    relative_flatness,
    rescaling_table,
    sharpness,
    tolerated_radius,
)
from theorylens.results import Exact, Statistical

BOWL = [[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 4.0]]  # trace 7


def relu_net(seed=0):
    with core.global_randomness_kept(seed):
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
        data = torch.randn(50, 4).double(), torch.randint(3, (50,))
    return net, data


# ---- PAC-Bayes sharpness -----------------------------------------------------------------------------------------


def test_the_tolerated_radius_of_a_bowl_is_known(quadratic):
    for rise in (0.01, 1e4):
        found = tolerated_radius(*quadratic(BOWL), rise=rise, draws=40)
        truth = math.sqrt(2 * rise / 7)
        assert found.lower <= truth <= found.upper
        assert found.upper - found.lower < 0.6 * truth
        sharp = pac_bayes_sharpness(*quadratic(BOWL), rise=rise, draws=40)
        assert sharp.value == pytest.approx(1 / found.value**2, rel=1e-12)
        assert (sharp.lower, sharp.upper) == pytest.approx((1 / found.upper**2, 1 / found.lower**2), rel=1e-12)


def test_the_expected_sharpness_at_the_tolerated_radius_is_the_rise():
    net, data = relu_net()
    for scale in ("absolute", "weight"):
        found = tolerated_radius(net, data, "cross_entropy", rise=0.2, scale=scale, draws=32)
        check = expected_sharpness(
            net, data, "cross_entropy", radius=found.value, scale=scale, draws=200, seed=3
        )  # fmt: skip
        # The draws differ, so each is an estimate: the interval of the radius is carried over to the rise.
        slack = 0.2 * ((found.upper / found.lower) ** 2 - 1)
        assert abs(check.value - 0.2) < slack


def test_a_rise_that_is_never_or_always_there_is_refused(quadratic):
    bounded = lambda o, t: torch.sin(o)  # noqa: E731
    model, data, _ = quadratic([[1.0]])
    with pytest.raises(RefusedError, match="does not rise by 5 by noise of any size"):
        tolerated_radius(model, data, bounded, rise=5)
    model, data, _ = quadratic([[0.0]], linear=[1.0])
    spike = lambda o, t: (o != 1).double() + 0 * o  # noqa: E731
    with pytest.raises(RefusedError, match=r"rises by 0.5 by noise too small to measure"):
        tolerated_radius(model, data, spike, rise=0.5)


@pytest.mark.slow
def test_the_interval_of_the_radius_covers_it_as_often_as_it_says(quadratic):
    parts, truth = quadratic(BOWL), math.sqrt(2 * 0.05 / 7)
    hits = 0
    for seed in range(300):
        found = tolerated_radius(*parts, rise=0.05, draws=32, seed=seed)
        hits += found.lower <= truth <= found.upper
    # Squares of few normals are skewed: Student's t covers a little less than it says.
    assert hits / 300 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300) - 0.02


# ---- relative flatness -------------------------------------------------------------------------------------------


def blocks(net, data, name):
    """The sum of (w_s . w_t) tr H_st by its definition, from the dense Hessian of one weight."""
    goal = core.objective(net, data, "cross_entropy")
    own = type(goal)(goal.model, goal.batches, goal.loss, goal.mean, (name,))
    w = own.parameters[name].detach()
    hessian, n = own.hessian(), w.numel()
    dense = torch.stack([hessian @ e for e in torch.eye(n).to(w)])
    rows = w.reshape(len(w), -1)
    size, total = rows.shape[1], 0.0
    for s in range(len(rows)):
        for t in range(len(rows)):
            block = dense[s * size : (s + 1) * size, t * size : (t + 1) * size]
            total += float(rows[s] @ rows[t]) * float(block.trace())
    return total


def test_relative_flatness_is_its_definition_for_dense_layers_and_convolutions():
    net, data = relu_net()
    for layer in ("0", "2", None):
        found = relative_flatness(net, data, "cross_entropy", layer=layer)
        assert isinstance(found.uncertainty, Exact)
        assert found.value == pytest.approx(blocks(net, data, f"{layer or 2}.weight"), rel=1e-9)
    with core.global_randomness_kept(0):
        conv = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).double().eval()
        images = torch.randn(10, 1, 4, 4).double(), torch.randint(2, (10,))
    found = relative_flatness(conv, images, "cross_entropy", layer="0")
    assert found.value == pytest.approx(blocks(conv, images, "0.weight"), rel=1e-9)


def test_large_layers_are_sampled_around_the_exact_value():
    net, data = relu_net()
    exact = relative_flatness(net, data, "cross_entropy", layer="0")
    hits = 0
    for seed in range(20):
        found = relative_flatness(net, data, "cross_entropy", layer="0", draws=16, seed=seed)
        assert isinstance(found.uncertainty, Statistical)
        hits += found.lower <= exact.value <= found.upper
    assert hits >= 16  # 95 % of 20, less three standard deviations


# ---- by name -----------------------------------------------------------------------------------------------------

OPTIONS = {"radius": 0.05, "m": 10, "draws": 16}


@pytest.mark.parametrize("kind", SHARPNESS_KINDS)
def test_what_a_rescaling_of_layers_moves_is_said_right(kind):
    """Dinh's test for each kind: the function is the same, so what moves is no property of it."""
    net, data = relu_net()
    known = {k: v for k, v in OPTIONS.items() if k in SHARPNESS_KINDS[kind].options}
    answer = invariance(lambda m: sharpness(m, data, "cross_entropy", kind, **known).value, net, data)
    assert answer.invariant is SHARPNESS_KINDS[kind].invariant
    assert answer.pairs == (("0", "2"),)


def test_the_table_says_the_same_of_a_network_at_hand():
    net, data = relu_net()
    kinds = ("expected", "adaptive", "trace", "fisher_rao", "relative_flatness")
    table = rescaling_table(net, data, "cross_entropy", kinds=kinds, options={"draws": 16})
    assert [row[3].render() for row in table.rows] == ["moves", "stays", "moves", "stays", "stays"]
    assert "1 pairs of layers by 4" in table.label.render()
    smooth = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double().eval()
    with pytest.raises(RefusedError, match="no two consecutive layers can be rescaled"):
        rescaling_table(smooth, data, "cross_entropy")


def test_names_stand_for_the_measures(quadratic):
    parts = quadratic(BOWL)
    truth = curvature_summary(torch.linalg.eigvalsh(torch.tensor(BOWL)).double())
    assert sharpness(*parts, "trace").value == pytest.approx(7)
    assert sharpness(*parts, "largest_eigenvalue").value == pytest.approx(4)
    assert sharpness(*parts, "effective_rank").value == pytest.approx(truth.effective_rank, rel=1e-6)
    assert sharpness(*parts, "log_volume").value == pytest.approx(truth.log_volume, rel=1e-6)
    assert sharpness(*parts, "log_volume", damping=0.5).value == pytest.approx(
        float(torch.logdet(torch.tensor(BOWL) + 0.5 * torch.eye(3))) / 2, rel=1e-5
    )
    assert sharpness(*parts, radius=0.1, draws=8) == expected_sharpness(*parts, radius=0.1, draws=8)
    net, data = relu_net()
    assert sharpness(net, data, "cross_entropy", "fisher_rao").value > 0


def test_refusals(quadratic):
    parts = quadratic(BOWL)
    with pytest.raises(ValueError, match=r"kind must be one of expected, adaptive, .*log_volume, got 'flat'"):
        sharpness(*parts, "flat")
    with pytest.raises(ValueError, match="kind 'keskar' has no option draws; it takes radius, starts, steps"):
        sharpness(*parts, "keskar", draws=3)
    with pytest.raises(ValueError, match="kind 'adaptive' has no option scale"):
        sharpness(*parts, "adaptive", radius=0.1, scale="tensor")
    with pytest.raises(ValueError, match="kind 'm_sharpness' needs m, radius"):
        sharpness(*parts, "m_sharpness")
    for kind in ("expected", "adaptive", "worst_case", "adaptive_worst_case", "keskar", "m_sharpness"):
        options = {"m": 2} if kind == "m_sharpness" else {}
        with pytest.raises(ValueError, match=r"radius must be a positive number, got 0"):
            sharpness(*parts, kind, radius=0.0, **options)
    with pytest.raises(ValueError, match=r"rise must be a positive number, got -0.1"):
        sharpness(*parts, "pac_bayes", rise=-0.1)
    with pytest.raises(ValueError, match="draws must be even and at least 4"):
        tolerated_radius(*parts, rise=0.1, draws=3)
    net, data = relu_net()
    with pytest.raises(ValueError, match="there is no layer '7' with a trainable weight matrix; there are 0, 2"):
        relative_flatness(net, data, "cross_entropy", layer="7")
    with pytest.raises(ValueError, match="no trainable parameter has two axes"):
        relative_flatness(*parts)
