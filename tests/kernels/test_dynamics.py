"""Training with a fixed kernel: golden values, a naive twin, torch's own optimiser on a linear model, refusals."""

import math

import pytest
import torch
from scipy.linalg import expm
from torch import nn

from theorylens.kernels import (
    Unseen,
    cross_entropy_flow,
    kernel_descent,
    kernel_flow,
    max_stable_kernel_lr,
    ntk,
)

THETA = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_golden_flow_and_descent(golden):
    y = torch.tensor([1.0, -1.0])
    flow, descent = kernel_flow(THETA, y, [1.0]), kernel_descent(THETA, y, 0.1, [10])
    assert flow.train[0].tolist() == pytest.approx(golden("G4.1-5")[0], rel=1e-9)
    assert descent.train[0].tolist() == pytest.approx(golden("G4.1-5")[1], rel=1e-9)
    assert flow.trouble is None


def test_golden_divergence_is_told_and_flagged(golden):
    found = kernel_descent(THETA, torch.tensor([1.0, 0.0]), 1.0, 10)
    assert found.train[-1].tolist() == pytest.approx(golden("G4.1-6"), rel=1e-12)
    assert found.trouble is not None
    assert "above 0.667" in found.trouble.render()
    assert kernel_descent(THETA, torch.tensor([1.0, 0.0]), 0.66, 10).trouble is None
    assert max_stable_kernel_lr(THETA) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("reduction", "factor"), [("half_sum", 1.0), ("half_mean", 1 / 6), ("mse", 2 / 12)])
def test_flow_is_the_matrix_exponential_at_train_and_test_points(reduction, factor):
    J, other, y = rows(6, 9), rows(4, 9, 1), rows(6, 2, 2)
    K, cross, f0, g0 = J @ J.T, other @ J.T, rows(6, 2, 3), rows(4, 2, 4)
    found = kernel_flow(K, y, [0.0, 0.3, 2.0], initial=f0, reduction=reduction, unseen=Unseen(cross=cross, initial=g0))
    for t, train, test in zip([0.0, 0.3, 2.0], found.train, found.test, strict=True):
        decay = torch.from_numpy(expm(-(K * factor * t).numpy()))
        assert torch.allclose(train, y + decay @ (f0 - y), atol=1e-10)
        assert torch.allclose(test, g0 + cross @ torch.linalg.solve(K, (torch.eye(6) - decay) @ (y - f0)), atol=1e-9)
    scale = {"half_sum": 0.5, "half_mean": 0.5 / 6, "mse": 1 / 12}[reduction]
    assert float(found.loss[1]) == pytest.approx(scale * float((found.train[1] - y).square().sum()), rel=1e-10)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_is_what_torch_does_on_a_linear_model(momentum):
    """A linear model has a constant kernel, singular with more examples than parameters."""
    x, y, z = rows(8, 3), rows(8, 2, 1), rows(4, 3, 2)
    torch.manual_seed(0)
    net = nn.Linear(3, 2).double()
    K, cross = ntk(net, x), ntk(net, z, x)
    f0, g0 = net(x).detach(), net(z).detach()
    found = kernel_descent(
        K, y, 0.2, 25, momentum=momentum, initial=f0, reduction="mse", unseen=Unseen(cross=cross, initial=g0)
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=momentum)
    for step in range(25):
        assert torch.allclose(net(x), found.train[step], atol=1e-10)
        assert torch.allclose(net(z), found.test[step], atol=1e-10)
        loss = nn.functional.mse_loss(net(x), y)
        assert loss.item() == pytest.approx(float(found.loss[step]), rel=1e-8)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_one_kernel_for_every_output_and_the_same_kernel_in_blocks_agree():
    J, y, cross = rows(5, 8), rows(5, 3, 1), rows(2, 8, 2)
    K = J @ J.T
    eye = torch.eye(3, dtype=torch.float64)
    blocks, beside = K[:, :, None, None] * eye, (cross @ J.T)[:, :, None, None] * eye
    for make in (
        lambda k, u: kernel_flow(k, y, [0.5], unseen=u),
        lambda k, u: kernel_descent(k, y, 0.01, [7], unseen=u),
    ):
        one, many = make(K, Unseen(cross=cross @ J.T)), make(blocks, Unseen(cross=beside))
        assert torch.allclose(one.train, many.train)
        assert torch.allclose(one.test, many.test)
    assert max_stable_kernel_lr(K, reduction="mse", outputs=3) == pytest.approx(
        max_stable_kernel_lr(blocks, reduction="mse")
    )


def test_small_steps_of_descent_approach_the_flow():
    J, y = rows(6, 9), rows(6, 1, 2)[:, 0]
    flow = kernel_flow(J @ J.T, y, [0.1])
    gaps = [float((kernel_descent(J @ J.T, y, 0.1 / n, [n]).train - flow.train).norm()) for n in (100, 1000)]
    assert gaps[1] == pytest.approx(gaps[0] / 10, rel=0.1)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("below", "grows"), [(0.99, False), (1.01, True)])
def test_the_stability_limit_is_where_outputs_start_to_grow(momentum, below, grows):
    lr = below * max_stable_kernel_lr(THETA, momentum=momentum)
    found = kernel_descent(THETA, torch.tensor([1.0, 1.0]), lr, [3000], momentum=momentum)
    assert (float((found.train - 1).abs().max()) > 1) is grows
    assert (found.trouble is not None) is grows


def test_limit_from_an_eigenvalue_alone():
    assert max_stable_kernel_lr(4.0) == 0.5
    assert max_stable_kernel_lr(4.0, reduction="half_mean", examples=10) == 5.0
    assert max_stable_kernel_lr(4.0, reduction="mse", examples=10, outputs=3, momentum=0.5) == pytest.approx(
        2 * 1.5 / (2 / 30 * 4)
    )


def test_steps_by_number_are_rows_of_every_step():
    every = kernel_descent(THETA, torch.tensor([1.0, 0.0]), 0.3, 6, momentum=0.7)
    some = kernel_descent(THETA, torch.tensor([1.0, 0.0]), 0.3, [0, 6, 3], momentum=0.7)
    assert torch.equal(some.train, every.train[[0, 6, 3]])
    assert every.at.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_cross_entropy_flow_is_what_many_small_steps_of_torch_do():
    x, labels = rows(7, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    torch.manual_seed(1)
    net = nn.Linear(4, 3).double()
    f0 = net(x).detach()
    times = [0.0, 0.5, 2.0]
    blocks = cross_entropy_flow(ntk(net, x), labels, times, classes=3, initial=f0)
    plain = cross_entropy_flow(ntk(net, x, output="trace") / 3, labels, times, classes=3, initial=f0)
    assert torch.allclose(blocks.train, plain.train, atol=1e-6)
    lr, step = 1e-3, 0
    for t, expected, loss in zip(times, blocks.train, blocks.loss, strict=True):
        while step < round(t / lr):
            net.zero_grad()
            nn.functional.cross_entropy(net(x), labels, reduction="sum").backward()
            with torch.no_grad():
                for p in net.parameters():
                    p -= lr * p.grad
            step += 1
        assert torch.allclose(net(x), expected, atol=2e-2)
        assert float(nn.functional.cross_entropy(expected, labels, reduction="sum")) == pytest.approx(float(loss))


def test_refusals():
    y = torch.tensor([1.0, 0.0])
    with pytest.raises(ValueError, match="must be symmetric"):
        kernel_flow(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), y, [1.0])
    with pytest.raises(ValueError, match="positive semi-definite"):
        kernel_flow(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), y, [1.0])
    with pytest.raises(ValueError, match="steps must be zero or more, got -1"):
        kernel_descent(THETA, y, 0.1, -1)
    with pytest.raises(ValueError, match="at least one step"):
        kernel_descent(THETA, y, 0.1, [])
    with pytest.raises(ValueError, match="times must be zero or more"):
        kernel_flow(THETA, y, [-1.0])
    with pytest.raises(ValueError, match="momentum in"):
        kernel_descent(THETA, y, 0.1, 1, momentum=1.0)
    with pytest.raises(ValueError, match="2 examples for targets of shape"):
        kernel_flow(THETA, torch.zeros(3), [1.0])
    with pytest.raises(ValueError, match="initial outputs of shape"):
        kernel_flow(THETA, y, [1.0], initial=torch.zeros(3))
    with pytest.raises(ValueError, match="not finite"):
        kernel_flow(THETA, torch.tensor([math.nan, 0.0]), [1.0])
    with pytest.raises(ValueError, match="reduction must be one of"):
        kernel_flow(THETA, y, [1.0], reduction="sum")
    with pytest.raises(ValueError, match="cross kernel must be"):
        kernel_flow(THETA, y, [1.0], unseen=Unseen(cross=torch.zeros(3, 3)))
    with pytest.raises(ValueError, match="initial outputs there"):
        kernel_flow(THETA, y, [1.0], unseen=Unseen(cross=torch.zeros(3, 2), initial=torch.zeros(2)))
    with pytest.raises(ValueError, match="in blocks must be"):
        kernel_flow(torch.zeros(2, 2, 3, 2), y, [1.0])
    with pytest.raises(ValueError, match="kernel of 3 outputs for targets of 1"):
        kernel_flow(torch.zeros(2, 2, 3, 3), y, [1.0])
    with pytest.raises(ValueError, match="largest eigenvalue must be positive"):
        max_stable_kernel_lr(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="give examples="):
        max_stable_kernel_lr(2.0, reduction="mse")
    with pytest.raises(ValueError, match="labels must be integers"):
        cross_entropy_flow(THETA, torch.tensor([0, 3]), [1.0], classes=3)
    with pytest.raises(ValueError, match="for 3 labels"):
        cross_entropy_flow(THETA, torch.tensor([0, 1, 2]), [1.0], classes=3)
    with pytest.raises(ValueError, match="and increase"):
        cross_entropy_flow(THETA, torch.tensor([0, 1]), [1.0, 0.5], classes=2)
    with pytest.raises(ValueError, match="initial outputs must have shape"):
        cross_entropy_flow(THETA, torch.tensor([0, 1]), [1.0], classes=2, initial=torch.zeros(2, 3))
