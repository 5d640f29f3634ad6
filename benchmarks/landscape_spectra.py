"""Eigenvalues and spectral densities of trained networks against curvlinops with scipy, CPU time on one thread.

Both as they are called by default: curvlinops on a loader's batches of 256, with its check for determinism; ours on
tensors, in batches of its own choice. (In equal batches and without the check the first ratio is about 0.03 larger.)
Five eigenvalues to 1e-3 are checked against ARPACK at 1e-9 on products in float64 before anything is timed.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from theorylens.core import objective
from theorylens.landscape import eigenvalues
from theorylens.numerics.quadrature import lanczos_quadrature

from .interleaved import Mark, compare
from .products import convolutional, mlp

Make = Callable[[], tuple[nn.Module, Tensor, Tensor]]
NOISE = 0.1  # share of the labels that are drawn anew
STEPS, DRAWS = 30, 2
TOLERANCE = 1e-3
CHUNK = 256  # examples in a batch of a loader
FLOOR = 1.19  # the research's own quadrature from kept graphs, in its 60 products: 2.7 s / (60 x 1.38 x 27.3 ms)


def blobs(n: int, shape: tuple[int, ...], spread: float) -> tuple[Tensor, Tensor]:
    """Ten normal clouds whose centres are normal with standard deviation ``spread``, a tenth of the labels random."""
    rng = torch.Generator().manual_seed(0)
    centres = spread * torch.randn(10, *shape, generator=rng)
    labels = torch.randint(10, (n,), generator=rng)
    rows = centres[labels] + torch.randn(n, *shape, generator=rng)
    noise = torch.randint(10, (n,), generator=rng)
    return rows, torch.where(torch.rand(n, generator=rng) < NOISE, noise, labels)


def trained(
    make: Make, *, spread: float, lr: float = 0.1, momentum: float = 0.0, steps: int = 60
) -> tuple[nn.Module, Tensor, Tensor]:
    """A network of `benchmarks.products` after ``steps`` of SGD on clouds, in evaluation mode."""
    net, like, _ = make()
    x, y = blobs(len(like), tuple(like.shape[1:]), spread)
    rule = torch.optim.SGD(net.train().parameters(), lr=lr, momentum=momentum)
    rng = torch.Generator().manual_seed(1)
    for _ in range(steps):
        rows = torch.randint(len(x), (128,), generator=rng)
        rule.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        rule.step()
    return net.eval(), x, y


def peer(net: nn.Module, x: Tensor, y: Tensor) -> object:
    """The Hessian as curvlinops has it, on a loader's batches."""
    from curvlinops import HessianLinearOperator

    data = list(zip(x.split(CHUNK), y.split(CHUNK), strict=True))
    return HessianLinearOperator(net, nn.CrossEntropyLoss(), list(net.parameters()), data)


def peer_eigenvalues(net: nn.Module, x: Tensor, y: Tensor) -> NDArray[np.float64]:
    operator = peer(net, x, y).to_scipy()  # type: ignore[attr-defined]
    return np.asarray(eigsh(operator, 5, which="LA", tol=TOLERANCE, return_eigenvectors=False), dtype=np.float64)


def peer_density(net: nn.Module, x: Tensor, y: Tensor, ends: tuple[float, float]) -> object:
    from curvlinops import lanczos_approximate_spectrum

    return lanczos_approximate_spectrum(peer(net, x, y), STEPS, num_repeats=DRAWS, boundaries=ends)  # type: ignore[arg-type]


def reference(net: nn.Module, x: Tensor, y: Tensor) -> NDArray[np.float64]:
    """The five largest eigenvalues in float64 by ARPACK, largest first."""
    hessian = objective(deepcopy(net).double(), (x.double(), y), "cross_entropy", batch_size=512).hessian(
        memory=1 << 32
    )  # fmt: skip
    product = LinearOperator(
        (hessian.size, hessian.size),
        matvec=lambda v: (hessian @ torch.as_tensor(v.reshape(-1))).numpy(), dtype=np.float64,
    )  # fmt: skip
    return np.sort(eigsh(product, 5, which="LA", tol=1e-9, return_eigenvectors=False))[::-1]


def floor(net: nn.Module, x: Tensor, y: Tensor) -> None:
    """As many products from kept graphs, with nothing done to their results."""
    hessian = objective(net, (x, y), "cross_entropy").hessian()
    v = torch.randn(hessian.size, generator=torch.Generator().manual_seed(0))
    for _ in range(STEPS * DRAWS):
        hessian @ v


def spectra(runs: int = 3) -> Iterator[Mark]:
    """Eigenvalues and densities of both networks; a ratio to curvlinops below the limit is a mark reached."""
    cases = (("MLP", mlp, 1 / 4, 1 / 1.8), ("conv net", convolutional, 1 / 3, 1 / 1.3))
    for name, make, eigen_limit, density_limit in cases:
        net, x, y = trained(make, spread=0.5)
        found = eigenvalues(net, (x, y), "cross_entropy", k=5, tolerance=TOLERANCE)
        off = float(np.abs(found.values / reference(net, x, y) - 1).max())
        yield compare(
            f"top 5 of the {name}: {found.products} steps, off by {off:.0e}",
            lambda n=net, x=x, y=y: eigenvalues(n, (x, y), "cross_entropy", k=5, tolerance=TOLERANCE),
            lambda n=net, x=x, y=y: peer_eigenvalues(n, x, y),
            route="curvlinops + eigsh, tol 1e-3", limit=eigen_limit, runs=runs,
        )  # fmt: skip
        ends = (float(found.values[0]), -float(found.values[0]) / 4)
        routes = (
            ("curvlinops, 30 x 2", lambda n=net, x=x, y=y, e=ends: peer_density(n, x, y, e[::-1]), density_limit),
            ("60 products from kept graphs", lambda n=net, x=x, y=y: floor(n, x, y), FLOOR),
        )  # fmt: skip
        for route, run, limit in routes:
            yield compare(
                f"density of the {name}, {STEPS} x {DRAWS}", lambda n=net, x=x, y=y: quadrature(n, x, y), run,
                route=route, limit=limit, runs=runs,
            )  # fmt: skip


def quadrature(net: nn.Module, x: Tensor, y: Tensor) -> object:
    rng = torch.Generator().manual_seed(0)
    return lanczos_quadrature(objective(net, (x, y), "cross_entropy").hessian(), DRAWS, steps=STEPS, generator=rng)
