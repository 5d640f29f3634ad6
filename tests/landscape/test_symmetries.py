"""Directions without a change of the function: counts, zero eigenvalues at critical points, networks without any."""

import pytest
import torch
from torch import nn

from theorylens.core import objective
from theorylens.landscape import critical_point, probe_critical_point, symmetry_directions
from theorylens.landscape._signs import dense_spectrum, eigenvalue_signs


def relu(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.LeakyReLU(), nn.Linear(4, 3)).double()


X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
Y = torch.randint(3, (40,), generator=torch.Generator().manual_seed(1))


def test_every_rectified_unit_and_every_shift_of_the_logits_is_one():
    net = relu()
    found = symmetry_directions(net, (X, Y), "cross_entropy")
    assert found.shape == (9 + 5, sum(p.numel() for p in net.parameters()))
    assert torch.allclose(found @ found.T, torch.eye(14, dtype=torch.float64))
    goal = objective(net, (X, Y), "cross_entropy")
    assert (found @ goal.gradient()).norm() < 1e-12
    one_hot = nn.functional.one_hot(Y, 3).double()
    assert symmetry_directions(net, (X, one_hot), "mse").shape[0] == 9
    tanh = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    assert symmetry_directions(tanh, (X, one_hot), "mse").shape == (0, 38)


def test_the_function_does_not_change_along_them_to_second_order():
    net = relu()
    found = symmetry_directions(net, (X, Y), "cross_entropy")
    flat = nn.utils.parameters_to_vector(net.parameters()).detach()

    def outputs(step):
        nn.utils.vector_to_parameters(flat + step, net.parameters())
        return net(X).log_softmax(1).detach()

    for v in found:
        assert (outputs(1e-6 * v) - outputs(-1e-6 * v)).abs().max() < 1e-9


def test_where_the_gradient_is_zero_the_hessian_is_zero_along_them():
    """A network that fits exactly: zero loss is a critical point of least squares."""
    net = relu()
    data = X, net(X).detach()
    goal = objective(net, data, "mse")
    found = symmetry_directions(net, data, "mse")
    assert goal.gradient().norm() < 1e-14
    assert max(float((goal.hessian() @ v).norm()) for v in found) < 1e-12
    point = critical_point(net, data, "mse")
    zeros = int((abs(dense_spectrum(goal)) <= point.signs.threshold).sum())
    assert point.symmetries == 9 <= point.signs.nullity.value == zeros


def test_batch_normalisation_and_frozen_parameters():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)).double().eval()
    data = X, torch.zeros(40, 2).double()
    assert len(symmetry_directions(net, data, "mse")) == 5
    net[3].weight.requires_grad_(False)
    assert len(symmetry_directions(net, data, "mse")) == 0


def test_a_network_that_cannot_be_traced_has_no_count():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(3, 1)

        def forward(self, x):
            return self.one(x) if x.sum() > -1e9 else x

    point = critical_point(Branching().double(), (X, torch.zeros(40, 1).double()), "mse")
    assert point.symmetries is None
    assert point.signs.exact


def test_signs_of_a_large_spectrum_are_counted_by_random_starts(quadratic):
    values = torch.cat([-torch.linspace(0.5, 1, 100), torch.zeros(200), torch.linspace(1, 2, 300)])
    net, data, loss = quadratic(values.diag())
    found = eigenvalue_signs(objective(net, data, loss), 1e-4, generator=torch.Generator().manual_seed(0))
    assert not found.exact
    assert found.products < 300
    for estimate, truth in ((found.index, 100), (found.nullity, 200), (found.positive, 300)):
        assert estimate.value == pytest.approx(truth, abs=30)
        assert estimate.lower < estimate.value < estimate.upper


def test_tl303_counts_them_where_the_graph_tells(digits):
    """Ten logits and twelve tanh units: a shift for each unit and one for the biases."""
    rows = {c.render() if hasattr(c, "render") else c: v for c, v in probe_critical_point(digits).payload[1].rows}
    assert rows["directions that change no output"] == 13
