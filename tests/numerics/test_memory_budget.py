"""Peak memory of products and exact traces, in a fresh process: what is allocated, against one gradient's peak."""

import json
import subprocess
import sys

import pytest

from theorylens.numerics.example_squares import COLUMNS, TILE

PROGRAM = """
import json, sys
import torch
from torch import nn
from theorylens import core
from theorylens.landscape import gauss_newton_trace, ggn

what = sys.argv[1]
torch.set_num_threads(1)
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16),
    nn.SiLU() if what == "curved" else nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(1024, 10),
).eval()
x, y = torch.randn(192, 3, 32, 32), torch.randint(10, (192,))
goal = core.objective(net, (x, y), "cross_entropy", batch_size=64)


class Peak:
    # Largest sum of living storages, seen through the allocator's own events.
    def __enter__(self):
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
        self.profile.__enter__()
        return self

    def __exit__(self, *error):
        self.profile.__exit__(*error)
        living = peak = 0
        for event in self.profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                living += event.nbytes()
                peak = max(peak, living)
        self.bytes = peak


goal.denominator
with Peak() as gradient:
    goal.gradient()
v = torch.randn(goal.size)
found = {"gradient": gradient.bytes}
for name, memory in (("none", 0), ("some", 1 << 27), ("all", 1 << 30)):
    half = ggn(net, (x, y), "cross_entropy", memory=memory, batch_size=64)
    for kind, operator in (("hessian", goal.hessian(memory=memory)), ("ggn", half)):
        operator.objective.denominator
        with Peak() as one:
            operator @ v
            operator @ v
        found[f"{kind} {name}"] = one.bytes
        found[f"{kind} {name} kept"] = operator._kept_bytes
        del operator
    del half
with Peak() as trace:
    gauss_newton_trace(net, (x, y), "cross_entropy", batch_size=64)
found["trace"] = trace.bytes
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["straight", "curved"])
def test_products_stay_within_their_budget_and_traces_within_their_tiles(what):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM, what], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    gradient = found["gradient"]
    for kind in ("hessian", "ggn"):
        assert found[f"{kind} none kept"] == 0
        assert found[f"{kind} none"] <= 2 * gradient  # nothing may be kept: a product stays below two gradients
        one = found[f"{kind} all kept"] / 3  # three batches
        for name, budget, batches in (("some", 1 << 27, 3 if what == "straight" else 2), ("all", 1 << 30, 3)):
            assert found[f"{kind} {name} kept"] == pytest.approx(batches * one, rel=1e-6)
            assert found[f"{kind} {name} kept"] <= budget
            assert (
                found[f"{kind} {name}"] <= found[f"{kind} {name} kept"] + 1.2 * one + gradient
            )  # and one in the making
    assert found["trace"] <= gradient + COLUMNS + 3 * 4 * TILE
