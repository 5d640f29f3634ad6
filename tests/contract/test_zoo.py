"""Every probe on ordinary networks of every kind: it answers or says why not, and never crashes."""

import json

import jsonschema
import pytest
import torch
from torch import nn

from theorylens.auditing import PROBES, Options, audit
from theorylens.core import Subject, Task
from theorylens.report import html, json_text, schema
from theorylens.results import Crashed, Done, Kind, Verdict

N = 60
RNG = torch.Generator().manual_seed(0)
X = torch.randn(N + 30, 6, generator=RNG)
Y = (X[:, 0] > 0).long() + (X[:, 1] > 1).long()
IMAGES = torch.randn(N + 30, 3, 8, 8, generator=RNG)
SIGNALS = torch.randn(N + 30, 2, 12, generator=RNG)
TOKENS = torch.randint(0, 20, (N + 30, 7), generator=RNG)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
        self.out = nn.Linear(8, 3)

    def forward(self, tokens):
        return self.out(self.layer(self.embed(tokens)).mean(1))


class Language(nn.Module):
    """A recurrent language model whose output weights are its embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.out = nn.Linear(8, 20)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        return self.out(self.lstm(self.embed(tokens))[0])


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4)
        self.second, self.out = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.relu(self.norm(self.first(x)))
        return self.out((h + nn.functional.gelu(self.second(h))).mean((2, 3)))


def mlp(outputs=3):
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, outputs))


def halves(x, y):
    return {"train": (x[:N], y[:N]), "test": (x[N:], y[N:])}


def binary(targets):
    return Subject(model=mlp(1), loss="binary_cross_entropy", **halves(X, targets))


def dictionary():
    task = Task(forward=lambda model, batch: (model(batch["x"]), batch["y"]))
    parts = halves(X, Y)
    return Subject(model=mlp(), task=task, **{role: {"x": x, "y": y} for role, (x, y) in parts.items()})


def clipped():
    task = Task(
        loss="mse", error=lambda o, t: (o - t).abs().clamp(max=2)[:, 0], error_range=(0.0, 2.0), error_name="clipped"
    )
    return Subject(model=mlp(1), task=task, **halves(X, X[:, :1]))


ZOO = {
    "batch norm and dropout": lambda: Subject(model=mlp(), loss="cross_entropy", **halves(X, Y)),
    "float64": lambda: Subject(model=mlp().double(), loss="cross_entropy", **halves(X.double(), Y)),
    "bfloat16": lambda: Subject(model=nn.Linear(6, 3).bfloat16(), loss="cross_entropy", **halves(X.bfloat16(), Y)),
    "linear": lambda: Subject(model=nn.Linear(6, 3), loss="cross_entropy", **halves(X, Y)),
    "regression": lambda: Subject(model=mlp(1), loss="mse", **halves(X, X[:, :1])),
    "regression with an error": clipped,
    "one logit, flat targets": lambda: binary((Y > 0).float()),
    "one logit, column targets": lambda: binary((Y > 0).float()[:, None]),
    "soft labels": lambda: Subject(model=mlp(), loss="cross_entropy", **halves(X, torch.softmax(X[:, :3], 1))),
    "plain function as loss": lambda: Subject(
        model=mlp(), loss=lambda o, t: nn.functional.cross_entropy(o, t), **halves(X, Y)
    ),
    "dict batches": dictionary,
    "attention": lambda: Subject(model=Attention(), loss="cross_entropy", **halves(TOKENS, TOKENS[:, 0] % 3)),
    "tied recurrent language model": lambda: Subject(
        model=Language(), loss="cross_entropy", **halves(TOKENS[:, :-1], TOKENS[:, 1:])
    ),
    "residual convolutions": lambda: Subject(model=Residual(), loss="cross_entropy", **halves(IMAGES, Y)),
    "convolution in one dimension": lambda: Subject(
        model=nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)),
        loss="cross_entropy", **halves(SIGNALS, Y),
    ),
    "frozen": lambda: Subject(model=mlp().requires_grad_(False), loss="cross_entropy", **halves(X, Y)),
    "no parameters": lambda: Subject(model=nn.Flatten(), loss="cross_entropy", **halves(X[:, :3], Y)),
    "four examples": lambda: Subject(
        model=nn.Linear(6, 3), loss="cross_entropy", train=(X[:4], Y[:4]), test=(X[4:8], Y[4:8])
    ),
    "outputs only": lambda: Subject(outputs={"test": (X[:, :3], Y)}),
}  # fmt: skip
PLAN = {"rungs": {p.code: (p.rungs[0] if p.rungs else 0) for p in PROBES}, "shuffled": False}


@pytest.mark.parametrize("name", ZOO)
def test_no_probe_crashes_and_nothing_untrained_is_praised(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        subject = ZOO[name]()
    record = audit(subject, options=Options(plan=PLAN, ledger=False, progress=False)).record
    assert not [f"{o.about.code}: {o.error}" for o in record.outcomes if isinstance(o, Crashed)]
    done = [o for o in record.outcomes if isinstance(o, Done)]
    assert done
    for outcome in done:
        if outcome.result.kind is not Kind.DESCRIPTION:
            assert outcome.result.verdict is not Verdict.HOLDS, outcome.about.code
    jsonschema.validate(json.loads(json_text(record)), schema())
    for lang in ("en", "zh"):
        assert "</html>" in html(record, lang)
