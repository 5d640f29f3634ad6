"""``python -m benchmarks.landscape``: products, traces, eigenvalues and densities against one gradient and curvlinops.

Process CPU time, one thread, medians of interleaved runs. On the conv net Hutch++ takes minutes: one run of it, with
a third of the products, which is to its advantage. Needs the extra ``bench``.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from theorylens.landscape import trace

from .interleaved import RUNS, Mark, compare
from .landscape_spectra import blobs, peer, spectra, trained
from .products import convolutional, hessian_products, mlp

PRODUCTS = 99  # of Hutch++, as in the research that set the marks
FEW_PRODUCTS = 33  # on the conv net
PERCENT = 0.01
REPEATS = 5


def hutchpp(net: nn.Module, x: Tensor, y: Tensor, products: int = PRODUCTS) -> float:
    """The peer's trace of the Hessian."""
    from curvlinops import hutchpp_trace

    return float(hutchpp_trace(peer(net, x, y), products))  # type: ignore[arg-type]


def seconds(run: Callable[[], float]) -> tuple[float, float]:
    """CPU seconds of one run, and what it returned."""
    start = time.process_time()
    value = run()
    return time.process_time() - start, value


def exact_traces() -> Iterator[Mark]:
    """Networks of ReLU: the trace of the Hessian without sampling, against Hutch++ with its own error."""
    net, x, y = trained(mlp, spread=0.5)
    value = trace(net, (x, y), "cross_entropy").value
    torch.manual_seed(0)  # curvlinops draws from the global stream
    off = abs(hutchpp(net, x, y) / value - 1)
    yield compare(
        "trace of the MLP, exact", lambda: trace(net, (x, y), "cross_entropy"), lambda: hutchpp(net, x, y),
        route=f"curvlinops Hutch++, {PRODUCTS}, off {off:.1%}", limit=1 / 40,
    )  # fmt: skip
    net, x, y = trained(convolutional, spread=1.0, momentum=0.9)
    found = [seconds(lambda: trace(net, (x, y), "cross_entropy").value) for _ in range(3)]
    spent, value = seconds(lambda: hutchpp(net, x, y, FEW_PRODUCTS))
    route = f"curvlinops Hutch++, {FEW_PRODUCTS}, off {abs(value / found[0][1] - 1):.1%}"
    yield Mark(
        name="trace of the conv net, exact", ours=statistics.median(t for t, _ in found),
        reference=spent, route=route, limit=1 / 20,
    )  # fmt: skip


def curved() -> tuple[nn.Module, Tensor, Tensor]:
    """LayerNorm and GELU, trained for 60 steps."""
    torch.manual_seed(0)
    layers = [nn.Linear(784, 128), nn.LayerNorm(128), nn.GELU(), nn.Linear(128, 128), nn.LayerNorm(128), nn.GELU()]
    net = nn.Sequential(*layers, nn.Linear(128, 10))
    x, y = blobs(1024, (784,), 0.5)
    rule = torch.optim.SGD(net.parameters(), lr=0.05)
    rng = torch.Generator().manual_seed(1)
    for _ in range(60):
        rows = torch.randint(len(x), (128,), generator=rng)
        rule.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        rule.step()
    return net.eval(), x, y


def to_one_percent(run: Callable[[int], float]) -> float:
    """CPU seconds until the standard error is one percent: seconds of a run, times its relative variance over 1e-4."""
    found = [seconds(lambda seed=seed: run(seed)) for seed in range(REPEATS)]
    values = [value for _, value in found]
    relative = statistics.stdev(values) / abs(statistics.fmean(values))
    return statistics.median(t for t, _ in found) * (relative / PERCENT) ** 2


def sampled_traces() -> Iterator[Mark]:
    """LayerNorm and GELU: nothing is exact, so time is compared at equal standard error."""
    net, x, y = curved()

    def theirs(seed: int) -> float:
        torch.manual_seed(seed)
        return hutchpp(net, x, y, 33)

    ours = to_one_percent(lambda seed: trace(net, (x, y), "cross_entropy", draws=32, seed=seed).value)
    yield Mark(
        name="trace under LayerNorm and GELU, to 1 %", ours=ours, reference=to_one_percent(theirs),
        route="curvlinops Hutch++ (LayerNorm: biased)", limit=1,
    )  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, process CPU time, median of up to {RUNS} interleaved runs")
    for marks in (hessian_products(), exact_traces(), sampled_traces(), spectra()):
        for mark in marks:
            print(mark, flush=True)


if __name__ == "__main__":
    main()
