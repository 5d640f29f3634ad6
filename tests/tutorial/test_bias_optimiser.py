"""What the tutorial gets wrong about optimiser bias, one test per defect; each would be red with its code."""

import inspect
import math

import pytest
import torch
from torch import nn

from theorylens import bias


def net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()


X = torch.randn(12, 2, generator=torch.Generator().manual_seed(0)).double()
Y = X[:, :1] * X[:, 1:]


def test_the_regulariser_of_sgd_does_not_grow_with_iterations():
    """½ lr var n_iter is 500 after a million steps of lr 0.001 and variance 1; a term of the loss knows no steps."""
    for function in (bias.implicit_regulariser, bias.minibatch_regulariser, bias.expected_regulariser):
        assert not {"steps", "iterations", "n_iter", "epochs"} & set(inspect.signature(function).parameters)
    # One regulariser follows gradient descent at every number of steps: the modified loss L + lr/4 |∇L|² is the same.
    for steps in (5, 50, 500):
        found = bias.flow_comparison(lambda x: x, 1.0, 0.02, steps)
        assert found.distances[1].max() < 0.02 * found.distances[0].max()


def test_the_strength_is_a_quarter_of_the_learning_rate_and_uses_the_whole_gradient():
    """The tutorial takes half, of a scalar variance: twice too much for a single direction, and blind to the rest."""
    gradients = torch.tensor([[1.0, 5.0], [1.0, -5.0]])
    found = bias.minibatch_regulariser(gradients, 0.4)
    assert found.full_batch == pytest.approx(0.1)
    assert found.noise == pytest.approx(0.1 * 25)


def test_a_learning_rate_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="lr must be a positive number"):
        bias.implicit_regulariser(net(), (X, Y), "mse", lr=0.0)


def test_preference_for_flat_minima_is_curvature_over_runs_and_not_the_mean_change_of_the_loss():
    """Two runs with one loss curve and unlike curvature: anything computed from the losses calls them equal."""
    x, y = torch.tensor([[1.0, 0.0]]).double(), torch.zeros(1, 1).double()
    flat, sharp = nn.Linear(2, 1, bias=False).double(), nn.Linear(2, 1, bias=False).double()
    losses, largest = [], []
    for model, scale, weight in ((flat, 1.0, 1.0), (sharp, 10.0, 0.1)):
        states = {k: {"weight": torch.tensor([[weight * 0.5**k, 0.0]]).double()} for k in range(3)}
        found = bias.sharpness_series(model, states, (scale * x, y), "mse")
        losses.append(found.values("loss").tolist())
        largest.append(found.values("largest"))
    assert losses[0] == pytest.approx(losses[1])
    assert largest[1] == pytest.approx(100 * largest[0], rel=1e-6)


def test_flatness_is_measured_twice_with_one_answer():
    """Ten unseeded draws of noise gave another number each time."""
    checkpoints = {0: net().state_dict()}
    one, two = (bias.sharpness_series(net(), checkpoints, (X, Y), "mse") for _ in range(2))
    assert one.values("trace").tolist() == two.values("trace").tolist()


def test_adam_s_bias_uses_the_bias_correction_and_keeps_the_scale():
    """At step 1 the raw second moment is a thousandth of its corrected value: rates read 32 times too large."""
    p = nn.Parameter(torch.zeros(2).double())
    optimizer = torch.optim.Adam([p], betas=(0.9, 0.999))
    p.grad = torch.tensor([0.5, 2.0]).double()
    optimizer.step()
    assert bias.adaptive_state(optimizer).preconditioner.tolist() == pytest.approx([2.0, 0.5], rel=1e-6)
    raw = 1 / optimizer.state[p]["exp_avg_sq"].sqrt()
    assert float(raw[0]) == pytest.approx(2 * math.sqrt(1000), rel=1e-6)


def test_adam_s_bias_uses_the_first_moment():
    p = nn.Parameter(torch.zeros(2).double())
    optimizer = torch.optim.Adam([p])
    for sign in (1.0, -1.0):
        p.grad = torch.tensor([1.0, sign]).double()
        optimizer.step()
    first, second = bias.adaptive_state(optimizer).direction.abs().tolist()
    assert second < 0.1 * first  # equal second moments, opposite gradients: the tutorial calls these directions equal


def test_an_empty_optimiser_state_is_refused():
    model = net()
    with pytest.raises(ValueError, match="empty before the first step"):
        bias.adaptive_optimizer_bias(model, (X, Y), "mse", torch.optim.Adam(model.parameters()))


def test_gradient_flow_is_not_gradient_descent():
    """Euler's .36603 is gradient descent; the flow is at 1/e, and its error is estimated."""
    flow = bias.gradient_flow(lambda x: x, 1.0, 1.0)
    assert flow.end[0] == pytest.approx(math.exp(-1), rel=1e-9)
    assert abs(flow.end[0] - math.exp(-1)) <= max(flow.error, 1e-12)
    euler = bias.gradient_descent(lambda x: x, 1.0, 0.01, 100)
    assert euler.end[0] == pytest.approx(0.3660323413, abs=1e-10)  # S5.2-2, under its own name


def test_diverging_steps_are_not_returned_in_silence():
    """h = 2.5 on x²/2 gave 4e17 without a word."""
    with pytest.raises(ValueError, match="steps of size 2\\.5 diverge"):
        bias.gradient_descent(lambda x: x, 1.0, 2.5, 100)


def test_the_example_s_regulariser_is_of_the_size_of_the_loss_it_modifies():
    """The example prints .5, 2.5 and 5.0 for growing iterations. On a real network it is a small part of the loss."""
    found = bias.implicit_regulariser(net(), (X, Y), "mse", lr=0.01, batch_size=3)
    assert 0 < found.total < 0.1 * found.loss
