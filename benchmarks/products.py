"""Hessian products and tangent kernels against one gradient and against the contraction of Jacobians."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn

from theorylens.core import objective
from theorylens.kernels import ntk

from .interleaved import Mark, compare


def mlp() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    return net, torch.randn(2048, 784), torch.randint(0, 10, (2048,))


class Residual(nn.Module):
    """Two convolutions with batch normalisation around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


def convolutional() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 56, 3, stride=2, padding=1), nn.BatchNorm2d(56), nn.ReLU(), nn.MaxPool2d(2),
        Residual(56), nn.MaxPool2d(2), Residual(56), nn.MaxPool2d(2), Residual(56),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(56, 10),
    ).eval()  # fmt: skip
    return net, torch.randn(512, 3, 32, 32), torch.randint(0, 10, (512,))


def hessian_products() -> Iterator[Mark]:
    """One product from kept graphs, in gradients over the same data in the same chunks."""
    for name, make, limit in (("MLP 784-256-256-10, 2,048", mlp, 1.5), ("conv net, 512 x 3x32x32", convolutional, 2.6)):
        net, x, y = make()
        target = objective(net, (x, y), "cross_entropy", batch_size=512)
        hessian = target.hessian(memory=1 << 31)
        v = torch.randn(target.size)
        hessian @ v  # builds the graphs
        yield compare(f"Hessian product, {name}", lambda h=hessian, v=v: h @ v, target.gradient, route="one gradient",
                      limit=limit)  # fmt: skip


def jacobian_contraction(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The tutorial's way: per-example Jacobians by torch.func, contracted."""
    params = {k: v.detach() for k, v in net.named_parameters()}

    def single(p: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(net, p, (row[None],))[0]

    jacobian = torch.func.vmap(torch.func.jacrev(single), (None, 0))(params, x)
    flat = torch.cat([j.flatten(2) for j in jacobian.values()], 2)
    return torch.einsum("iap,jbp->ijab", flat, flat)


def kernels() -> Iterator[Mark]:
    """The full empirical tangent kernel of 50 examples and 10 outputs."""
    torch.manual_seed(0)
    sizes = (64, 512, 512, 512, 10)
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())][:-1]
    net, x = nn.Sequential(*layers), torch.randn(50, 64)
    yield compare(
        "tangent kernel, MLP 64-512x3-10, 50 examples", lambda: ntk(net, x), lambda: jacobian_contraction(net, x),
        route="vmap(jacrev), contracted", limit=0.02,
    )  # fmt: skip
