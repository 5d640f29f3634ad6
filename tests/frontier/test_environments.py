"""Penalties over environments: closed forms, gradients, a linear problem in which invariance is known."""

import pytest
import torch
import torch.nn.functional as F

from theorylens.frontier import group_dro_risk, group_dro_weights, irm_penalty, vrex_penalty


def test_irm_penalty(golden):
    found = irm_penalty(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]))
    assert float(found) == pytest.approx(golden("G7.2-3"), rel=1e-9)


def test_vrex_and_group_dro(golden):
    risks = torch.tensor([0.2, 0.6], dtype=torch.float64)
    assert [float(vrex_penalty(risks)), float(group_dro_risk(risks))] == pytest.approx(golden("G7.2-4"), rel=1e-9)


def test_the_irm_penalty_is_the_slope_in_a_scale_by_finite_differences():
    rng = torch.Generator().manual_seed(0)
    outputs = torch.randn(20, 3, generator=rng, dtype=torch.float64)
    targets = torch.randint(3, (20,), generator=rng)
    h = 1e-6
    slope = (F.cross_entropy(outputs * (1 + h), targets) - F.cross_entropy(outputs * (1 - h), targets)) / (2 * h)
    assert float(irm_penalty(outputs, targets, F.cross_entropy)) == pytest.approx(float(slope) ** 2, rel=1e-6)


def test_gradients_flow_through_the_penalty_and_agree_with_finite_differences():
    targets = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)

    def penalty(outputs):
        return irm_penalty(outputs, targets)

    assert torch.autograd.gradcheck(penalty, torch.tensor([0.3, 0.7, -0.2], dtype=torch.float64, requires_grad=True))
    with torch.no_grad():
        assert not penalty(torch.zeros(3, dtype=torch.float64)).requires_grad


def environments():
    """y depends on x0; x1 depends on y, differently in each environment."""
    rng = torch.Generator().manual_seed(0)
    for noise in (0.2, 2.0):
        cause = torch.randn(4000, generator=rng, dtype=torch.float64)
        y = cause + torch.randn(4000, generator=rng, dtype=torch.float64)
        yield torch.stack([cause, y + noise * torch.randn(4000, generator=rng, dtype=torch.float64)], 1), y


def test_the_causal_predictor_has_smaller_penalties_than_least_squares():
    data = list(environments())
    x, y = (torch.cat([d[i] for d in data]) for i in (0, 1))
    pooled = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    causal = torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = {}
    for name, w in (("pooled", pooled), ("causal", causal)):
        risks = torch.stack([F.mse_loss(a @ w, b) for a, b in data])
        found[name] = [float(vrex_penalty(risks)), sum(float(irm_penalty(a @ w, b)) for a, b in data)]
    assert found["causal"][0] < 0.05 * found["pooled"][0]
    assert found["causal"][1] < 0.05 * found["pooled"][1]


def test_group_weights_move_to_the_worst_environment():
    weights = torch.full((3,), 1 / 3)
    risks = torch.tensor([0.1, 0.9, 0.2])
    for _ in range(2000):
        weights = group_dro_weights(weights, risks)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(weights @ risks) == pytest.approx(float(group_dro_risk(risks)), abs=1e-3)
    one = group_dro_weights(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0]), step=0.1)
    assert one.tolist() == pytest.approx(torch.softmax(torch.tensor([0.0, 0.1]), 0).tolist())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: irm_penalty(torch.zeros(0), torch.zeros(0)), "an environment without rows has no risk"),
        (lambda: irm_penalty(torch.zeros(2), torch.zeros(2), lambda a, b: (a - b) ** 2), "must be a single number"),
        (lambda: vrex_penalty(torch.zeros(0)), r"the risk of each environment, shape \(e,\), got \(0,\)"),
        (lambda: group_dro_risk(torch.tensor([0.1, float("nan")])), "risks must be numbers"),
        (lambda: group_dro_weights(torch.ones(2), torch.ones(2)), "adding up to 1"),
        (
            lambda: group_dro_weights(torch.tensor([0.5, 0.5]), torch.ones(2), step=0.0),
            "step must be positive, got 0.0",
        ),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
