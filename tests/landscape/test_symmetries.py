"""Directions without a change of the function: counts, zero eigenvalues at critical points, networks without any."""

import pytest
import torch
from torch import nn

from theorylens.core import objective
from theorylens.landscape import Place, critical_point, probe_critical_point, symmetry_directions
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


def test_signs_of_a_large_spectrum_are_bounded_from_random_starts(quadratic):
    values = torch.cat([-torch.linspace(0.5, 1, 100), torch.zeros(200), torch.linspace(1, 2, 300)])
    net, data, loss = quadratic(values.diag())
    found = eigenvalue_signs(objective(net, data, loss), 1e-4, generator=torch.Generator().manual_seed(1))
    assert not found.exact
    assert found.products < 300
    for estimate, truth in ((found.index, 100), (found.nullity, 200), (found.positive, 300)):
        assert estimate.value == pytest.approx(truth, abs=30)
        assert estimate.lower < estimate.value < estimate.upper
        assert estimate.lower <= truth <= estimate.upper
    assert 10 < found.found_negative <= 100
    assert 10 < found.found_positive <= 300
    whole = eigenvalue_signs(objective(net, data, loss), 1e-4, generator=torch.Generator(), exact_up_to=600)
    assert whole.exact
    assert (whole.index.value, whole.nullity.value, whole.positive.value) == (100, 200, 300)
    assert (whole.found_negative, whole.found_positive) == (100, 300)


@pytest.mark.slow
def test_the_counts_cover_as_often_as_they_say(quadratic):
    values = torch.cat([-torch.linspace(0.5, 1, 30), torch.zeros(30), torch.linspace(1, 2, 60)])
    goal = objective(*quadratic(values.diag()))
    hits = torch.zeros(3)
    for seed in range(60):
        found = eigenvalue_signs(goal, 1e-4, generator=torch.Generator().manual_seed(seed), exact_up_to=0)
        counts = ((found.index, 30), (found.nullity, 30), (found.positive, 60))
        hits += torch.tensor([float(e.lower <= truth <= e.upper) for e, truth in counts])
    # At 95 % coverage fewer than 50 of 60 has probability 2e-4. (300 starts of another spectrum gave 95 to 98 %.)
    assert (hits >= 50).all()


def test_a_spectrum_that_crowds_around_zero_is_said_to_be_open_and_the_truth_lies_within(quadratic):
    rng = torch.Generator().manual_seed(0)
    for scale, low in ((3.0, 120), (2.0, 300)):
        sizes = 10 ** (-scale * torch.rand(600, generator=rng))
        signs = torch.where(torch.arange(600) < low, -1.0, 1.0)
        net, data, loss = quadratic((signs * sizes).diag())
        point = critical_point(net, data, loss)
        found, values = point.signs, (signs * sizes).double()
        assert found.threshold == pytest.approx(1e-4 * float(sizes.max()), rel=0.01)
        truth = [
            int((values < -found.threshold).sum()), int((values.abs() <= found.threshold).sum()),
            int((values > found.threshold).sum()),
        ]  # fmt: skip
        for estimate, count in zip((found.index, found.nullity, found.positive), truth, strict=True):
            assert estimate.lower <= count <= estimate.upper
        assert found.found_negative <= truth[0]
        assert found.found_positive <= truth[2]
        assert found.index.lower >= found.found_negative
    assert found.index.trouble is not None
    assert "exact_up_to" in found.index.trouble.render()
    assert critical_point(net, data, loss, exact_up_to=600).signs.index.value == 300


def test_a_certain_smallest_eigenvalue_above_zero_leaves_no_index_open(quadratic):
    point = critical_point(*quadratic(torch.linspace(0.5, 1, 500).diag()))
    assert not point.signs.exact
    assert (point.signs.index.lower, point.signs.index.upper) == (0, 0)
    assert point.place is Place.MINIMUM


def test_tl303_counts_them_where_the_graph_tells(digits):
    """Ten logits and twelve tanh units: a shift for each unit and one for the biases."""
    rows = {c.render() if hasattr(c, "render") else c: v for c, v in probe_critical_point(digits).payload[1].rows}
    assert rows["directions that change no output"] == 13
