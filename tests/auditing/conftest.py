import pytest
import torch
from torch import nn

from theorylens.core import Need, Subject, Work, probe
from theorylens.results import Estimate, Exact, Kind, Message, Result, Verdict

RNG = torch.Generator().manual_seed(0)
X = torch.randn(60, 5, generator=RNG)
Y = (X[:, 0] > 0).long()


def tiny(**changes):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    given = {"model": net, "loss": "cross_entropy", "train": (X[:40], Y[:40]), "test": (X[40:], Y[40:]), "name": "tiny"}
    return Subject(**(given | changes))


@pytest.fixture
def subject():
    return tiny()


def fact(value):
    return Result(
        estimate=Estimate(value=value, uncertainty=Exact()), kind=Kind.DESCRIPTION, verdict=Verdict.DESCRIPTIVE,
        reason=Message("fake.fact", "the value is {value:.3g}", value=value),
    )  # fmt: skip


def fake(code, run=None, *, seconds=0.0, rungs=(), needs=frozenset({Need.MODEL})):
    """A probe for tests: its value is a keyed draw, or whatever ``run`` returns."""

    def probe_fake(subject, *, rng, draws=0):
        """What is it?"""
        if run is not None:
            return run(subject)
        return fact(float(torch.rand(max(draws, 1), generator=rng).mean()))

    def cost(subject, rung):
        return Work(seconds=seconds * (rung or 1))

    return probe(code=code, needs=set(needs), cost=cost, rungs=rungs, name=f"bias.fake{code[-1]}")(probe_fake)
