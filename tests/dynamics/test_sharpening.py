"""Sharpness along training: quadratics, judge, and gradient descent that settles at 2/lr."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core
from theorylens.dynamics import Course, sharpening
from theorylens.dynamics._sharpening import course, judge, read, spread
from theorylens.landscape import StepRule
from theorylens.results import Enclosure, Estimate, Message, Verdict

from .conftest import descend

WHY = Message("test.why", "for a test")


def number(value, error=0.0, trouble=None):
    limits = Enclosure(lower=value - error, upper=value + error, why=WHY)
    return Estimate(value=value, uncertainty=limits, trouble=trouble)


def test_the_sharpness_of_regression_is_known_at_every_step():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 5, generator=rng).double(), torch.randn(30, 1, generator=rng).double()
    truth = 2 * torch.linalg.eigvalsh(x.T @ x / 30)[-1].item()
    goals = {step: core.objective(nn.Linear(5, 1, bias=False).double(), (x, y), "mse") for step in (10, 0)}
    found = sharpening(goals, tolerance=1e-8)
    assert list(found) == [0, 10]
    for estimate in found.values():
        assert estimate.value == pytest.approx(truth, rel=1e-8)
    with pytest.raises(ValueError, match="nothing to measure"):
        sharpening({})


def test_steps_are_spread_with_both_ends():
    assert spread([3, 1, 2]) == [1, 2, 3]
    assert spread(list(range(101)), 6) == [0, 20, 40, 60, 80, 100]
    with pytest.raises(ValueError, match="most=1"):
        spread([1, 2, 3], 1)


def test_a_course_needs_more_than_the_errors():
    assert course([number(1, 0.1), number(2, 0.1)]) is Course.SHARPENED
    assert course([number(2, 0.1), number(1, 0.1)]) is Course.FLATTENED
    assert course([number(1, 0.6), number(2, 0.6)]) is Course.LEVEL
    assert course([number(2), number(4), number(1)]) is Course.PEAKED
    assert course([number(2), number(4, 1.5), number(1)]) is Course.FLATTENED
    assert course([number(2), number(2.9), number(1)]) is Course.FLATTENED
    assert course([number(-2), number(1), number(-1)]) is Course.PEAKED


@pytest.mark.parametrize(
    ("found", "rule", "verdict", "said"),
    [
        ({0: number(1), 9: number(4.9)}, StepRule(lr=0.4), Verdict.DESCRIPTIVE, "rose from 1 to 4.9, at the stability"),
        ({0: number(1), 9: number(3)}, StepRule(lr=0.4), Verdict.DESCRIPTIVE, "3, below the stability limit 5"),
        ({0: number(9), 9: number(6)}, StepRule(lr=0.4), Verdict.DESCRIPTIVE, "fell from 9 to 6, above the stability"),
        ({0: number(1), 9: number(3)}, StepRule(), Verdict.DESCRIPTIVE, "; no stability limit to compare with"),
        ({0: number(3, 1), 9: number(3)}, StepRule(), Verdict.INCONCLUSIVE, "stayed level, 3 and 3"),
        (
            {0: number(1), 4: number(8), 9: number(2)},
            StepRule(lr=0.4),
            Verdict.DESCRIPTIVE,
            "rose from 1 to 8 at step 4 and fell to 2, below",
        ),
        ({5: number(3)}, StepRule(), Verdict.INCONCLUSIVE, "one checkpoint shows no course"),
        ({0: number(1, trouble=WHY), 9: number(3)}, StepRule(), Verdict.INCONCLUSIVE, "no answer yet: for a test"),
    ],
)
def test_the_judge(found, rule, verdict, said):
    got, reason = judge(found, rule)
    assert got is verdict
    assert said in reason.render()


@pytest.mark.parametrize(
    ("found", "rule", "said"),
    [
        ({0: number(1), 9: number(4.9)}, StepRule(lr=0.4), "Yes: the loss bends more sharply"),
        ({0: number(1), 9: number(4.9)}, StepRule(lr=0.4), "ends at 0.98 of the limit 5 beyond which"),
        ({0: number(9), 9: number(4)}, StepRule(lr=0.4), "No: the loss bends less"),
        ({0: number(9), 9: number(4)}, StepRule(lr=0.4), "ends at 0.8 of the limit 5: the steps were stable"),
        ({0: number(9), 9: number(9)}, StepRule(lr=0.4), "1.8 times the limit 5: on a quadratic"),
        ({0: number(9), 9: number(9)}, StepRule(lr=0.4), "No change of sharpness exceeds"),
        ({0: number(1), 9: number(9)}, StepRule(lr=0.4, momentum=0.9), "ends at 0.95 of the limit 9.5"),
        ({0: number(1), 9: number(9)}, StepRule(lr=0.1, plain=False), "rescaled Hessian, so none is drawn"),
        ({0: number(1), 9: number(9)}, StepRule(), "learning rate is not known"),
        ({0: number(1), 4: number(8), 9: number(2)}, StepRule(), "For a while: the loss was sharpest in between"),
        ({9: number(9)}, StepRule(), "Unknown: a single checkpoint"),
    ],
)
def test_the_reading(found, rule, said):
    assert said in read(found, rule).render()


@pytest.mark.slow
@pytest.mark.parametrize("lr", [0.2, 0.4])
def test_full_batch_descent_on_a_tanh_network_settles_at_the_edge_of_stability(lr):
    """Sharpness rises from below to 2/lr and stays there; with the larger rate it stays lower."""
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(20, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 10))
        x, labels = torch.randn(256, 20), torch.randint(10, (256,))
    y = F.one_hot(labels, 10).float()

    def loss(outputs, targets):  # summed over outputs, averaged over examples
        return ((outputs - targets) ** 2).sum(1).mean() / 2

    keep = (0, 3000, 4000, 5000, 6000)
    kept, losses = descend(net, x, y, loss, lr=lr, steps=6000, keep=keep)
    goals = {}
    for step, state in kept.items():
        there = nn.Sequential(*[type(m)(m.in_features, m.out_features) if isinstance(m, nn.Linear) else m for m in net])
        there.load_state_dict(state)
        goals[step] = core.objective(there.eval(), (x, y), lambda o, t: ((o - t) ** 2).sum(1) / 2)
    found = sharpening(goals)
    late = np.array([found[s].value for s in keep[1:]])
    assert found[0].value < 0.8 * 2 / lr
    assert late == pytest.approx(2 / lr, rel=0.03)
    assert losses[-1] < losses[0] / 2  # it trains all the while
    verdict, reason = judge(found, StepRule(lr=lr, full_batch=True))
    assert verdict is Verdict.DESCRIPTIVE
    assert "at the stability limit" in reason.render()
