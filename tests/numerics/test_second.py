"""Second derivatives that torch has wrong are taken from operations that it has right."""

import pytest
import torch
from torch import nn
from torch.nn import utils
from torch.nn.utils import parametrizations

from theorylens import core
from theorylens.landscape import ggn
from theorylens.numerics import second_derivatives

LAYERS = {
    "rows": lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
    "columns": lambda: parametrizations.weight_norm(nn.Linear(4, 3), dim=1),
    "whole": lambda: parametrizations.weight_norm(nn.Linear(4, 3), dim=None),
    "by hooks": lambda: utils.weight_norm(nn.Linear(4, 3)),
    "channels": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 4)), parametrizations.weight_norm(nn.Conv1d(1, 3, 4)), nn.Flatten()
    ),
}


def made(name):
    with core.global_randomness_kept(0):
        net = nn.Sequential(LAYERS[name](), nn.Tanh()).double().eval()
        return net, (torch.randn(6, 4).double(), torch.randint(3, (6,)))


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("name", LAYERS)
def test_the_hessian_through_weight_normalisation_is_that_of_differences(name):
    """Torch 2.13 makes it from a fused operation whose second derivative is wrong: it is not even symmetric."""
    net, data = made(name)
    goal = core.objective(net, data, "cross_entropy")
    hessian, eye, step = goal.hessian(), torch.eye(goal.size, dtype=torch.float64), 1e-5
    start = torch.cat([p.detach().reshape(-1) for p in goal.parameters.values()])

    def gradient(at):
        with torch.no_grad():
            nn.utils.vector_to_parameters(at, goal.parameters.values())
        return goal.gradient()

    truth = torch.stack([(gradient(start + step * e) - gradient(start - step * e)) / (2 * step) for e in eye])
    gradient(start)
    found = torch.stack([hessian @ e for e in eye])
    torch.testing.assert_close(found, truth, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found, found.T, rtol=1e-10, atol=1e-13)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gauss_newton_products_are_the_same_with_and_without(name):
    net, data = made(name)
    plain = net(data[0])
    with second_derivatives():
        torch.testing.assert_close(net(data[0]), plain, rtol=1e-13, atol=1e-15)
    half = ggn(net, data, "cross_entropy")
    leaves = list(net.parameters())
    found = torch.stack([half @ e for e in torch.eye(half.size, dtype=torch.float64)])
    rows = [
        torch.cat([g.reshape(-1) for g in torch.autograd.grad(o, leaves, retain_graph=True)]) for o in plain.flatten()
    ]
    jacobian = torch.stack(rows).view(6, 3, -1)
    p = plain.softmax(1)
    bend = (torch.diag_embed(p) - p[:, :, None] * p[:, None]).detach() / 6
    torch.testing.assert_close(
        found, torch.einsum("nap,nab,nbq->pq", jacobian, bend, jacobian), rtol=1e-9, atol=1e-12
    )  # fmt: skip
