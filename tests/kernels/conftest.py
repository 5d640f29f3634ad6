"""A small network trained on real digits, with its start, a few checkpoints, and its twin on shuffled labels."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from theorylens.core import Subject


def train(labels, x, epochs=30):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 32), nn.ReLU(), nn.Linear(32, 10)
    )
    start = copy.deepcopy(net.state_dict())
    optimizer, saved = torch.optim.Adam(net.parameters(), lr=3e-3), {0: start}
    for step in range(epochs):
        for part in torch.arange(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[part]), labels[part]).backward()
            optimizer.step()
        if step % 10 == 9:
            saved[step + 1] = copy.deepcopy(net.state_dict())
    return Subject(model=net, loss="cross_entropy", train=(x, labels), init=start, checkpoints=saved)


@pytest.fixture(scope="package")
def digits():
    state = torch.random.get_rng_state()
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:600] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels[:600])
    subject = train(y, x)
    shuffled = train(y[torch.randperm(600, generator=torch.Generator().manual_seed(1))], x)
    object.__setattr__(subject, "shuffled", shuffled)
    torch.random.set_rng_state(state)
    return subject
