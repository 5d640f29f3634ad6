"""Stability limits: closed forms, simulated descent at both sides of them, and what is known about a subject."""

import pytest
import torch
from torch import nn

from theorylens.core import Recipe, Subject
from theorylens.landscape import adam_stability_limit, stability_limit, step_rule


def test_golden_limits():
    # Largest stable lr for a curvature of 10: 0.2 plain, 0.38 with heavy ball 0.9; Adam: 38 at lr 1.
    assert stability_limit(0.2) == pytest.approx(10)
    assert stability_limit(0.38, 0.9) == pytest.approx(10)
    assert adam_stability_limit(1.0, 0.9) == pytest.approx(38)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_descent_on_a_quadratic_grows_above_the_limit_and_not_below(momentum):
    lr = 0.1
    for share, grows in ((0.98, False), (1.02, True)):
        curvature = share * stability_limit(lr, momentum)
        w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        rule = torch.optim.SGD([w], lr=lr, momentum=momentum)
        for _ in range(2000):
            rule.zero_grad()
            (curvature * w**2 / 2).sum().backward()
            rule.step()
        assert (w.abs().item() > 1) is grows


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9])
def test_nesterov_on_a_quadratic_grows_above_its_limit_and_not_below(momentum):
    sizes = []
    for share in (0.97, 1.03):
        bend = share * stability_limit(0.1, momentum, nesterov=True)
        w = torch.ones(1, dtype=torch.float64, requires_grad=True)
        rule = torch.optim.SGD([w], lr=0.1, momentum=momentum, nesterov=momentum > 0)
        for _ in range(400):
            rule.zero_grad()
            (bend * w.square().sum() / 2).backward()
            rule.step()
        sizes.append(abs(w.item()))
    assert sizes[0] < 1 < 10 < sizes[1]


@pytest.mark.parametrize(
    ("lr", "momentum", "said"), [(0, 0, "lr must be"), (float("nan"), 0, "lr"), (1, 1, "momentum")]
)
def test_refusals(lr, momentum, said):
    with pytest.raises(ValueError, match=said):
        stability_limit(float(lr), float(momentum))
    with pytest.raises(ValueError, match="beta1 must be at least 0 and below 1, got 1"):
        adam_stability_limit(0.1, 1.0)


def made(history=None, **settings):
    recipe = Recipe(train=lambda **_: None, settings=settings) if settings else None
    data = torch.zeros(6, 2), torch.zeros(6, 1)
    return Subject(model=nn.Linear(2, 1), loss="mse", train=data, history=history, recipe=recipe)


def test_the_step_rule_is_read_from_history_first_and_then_from_settings():
    assert step_rule(made()).lr is None
    assert step_rule(made()).limit is None
    assert step_rule(made()).full_batch is None
    plain = step_rule(made(lr=0.1, batch_size=6))
    assert (plain.lr, plain.limit, plain.full_batch) == (0.1, pytest.approx(20), True)
    assert step_rule(made(lr=0.1, batch_size=3)).full_batch is False
    assert step_rule(made(lr=0.1, momentum=0.9, optimizer="sgd")).limit == pytest.approx(38)
    assert step_rule(made(lr=0.1, optimizer="adam")).limit is None
    assert step_rule(made(lr=0.1, weight_decay=0.5)).limit == pytest.approx(19.5)
    nesterov = step_rule(made(lr=0.1, momentum=0.9, nesterov=True, optimizer="sgd"))
    assert nesterov.limit == pytest.approx(stability_limit(0.1, 0.9, nesterov=True))
    assert step_rule(made(lr=0.1, schedule="cosine")).lr is None  # the rate at the end is not known from that
    assert step_rule(made(lr=True)).lr is None
    history = {"step": [0, 10, 20], "lr": [0.4, 0.2, 0.1]}
    falling = made(history, lr=0.4, schedule="cosine")
    assert [step_rule(falling, step).lr for step in (None, 0, 9, 10, 25)] == [0.1, 0.4, 0.4, 0.2, 0.1]
