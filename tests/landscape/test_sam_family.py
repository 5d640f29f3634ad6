"""Relatives of SAM against steps computed by hand, and what all of them do alike: AMP, bases, state dicts, refusals."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core
from theorylens.landscape import ASAM, GSAM, SAM, USAM, FisherSAM, LookSAM, eigenvalues

KINDS = {
    "sam": SAM, "asam": ASAM, "usam": USAM, "fisher": FisherSAM, "gsam": GSAM,
    "look": lambda base, **how: LookSAM(base, every=3, **how),
}  # fmt: skip


def bowl(w):
    return w[0] ** 2 + 100 * w[1] ** 2


def slope(w):
    return torch.stack([2 * w[0], 200 * w[1]])


def closure_of(rule, f):
    def closure():
        rule.zero_grad()
        loss = f()
        loss.backward()
        return loss

    return closure


def start():
    return torch.tensor([1.0, 0.5], dtype=torch.float64, requires_grad=True)


W = torch.tensor([1.0, 0.5], dtype=torch.float64)
LR = 0.01


def one_step(rule, w):
    rule.step(closure_of(rule, lambda: bowl(w)))
    return w.detach()


def test_the_unnormalised_neighbour_is_a_gradient_step_uphill():
    w = start()
    found = one_step(USAM(torch.optim.SGD([w], lr=LR), rho=1e-3), w)
    assert torch.allclose(found, W - LR * slope(W + 1e-3 * slope(W)), rtol=1e-12)
    w = start()
    rule = USAM(torch.optim.SGD([w], lr=LR), rho=1e-3)
    bowl(w).backward()
    rule.first_step()  # without a scaler the gradient is the gradient
    assert torch.allclose(w.detach(), W + 1e-3 * slope(W), rtol=1e-12)


def test_the_fisher_neighbour_is_on_the_ellipsoid():
    w = start()
    rule = FisherSAM(torch.optim.SGD([w], lr=LR), rho=0.05, eta=0.3)
    bowl(w).backward()
    rule.first_step()
    moved = w.detach() - W
    fisher = 1 + 0.3 * slope(W).square()
    assert float(moved @ (fisher * moved)) == pytest.approx(0.05**2, rel=1e-12)
    assert torch.allclose(moved * fisher / moved[0] / fisher[0], slope(W) / slope(W)[0], rtol=1e-12)
    plain = start()
    found = one_step(FisherSAM(torch.optim.SGD([plain], lr=LR), eta=0.0), plain)
    assert found.tolist() == pytest.approx([0.979980004, -0.599980006], rel=1e-9)  # SAM's


def test_gsam_steps_along_the_gradient_there_less_what_is_orthogonal_here():
    w = start()
    found = one_step(GSAM(torch.optim.SGD([w], lr=LR), rho=0.05, alpha=0.4), w)
    g = slope(W)
    there = slope(W + 0.05 * g / g.norm())
    across = g - (g @ there) / (there @ there) * there
    assert torch.allclose(found, W - LR * (there - 0.4 * across), rtol=1e-12)
    assert abs(float(across @ there)) < 1e-9
    none = start()
    assert torch.allclose(one_step(GSAM(torch.optim.SGD([none], lr=LR), alpha=0.0), none), W - LR * there, rtol=1e-12)


def test_looksam_takes_one_second_gradient_in_k_and_reuses_its_orthogonal_part():
    w = start()
    rule, calls = LookSAM(torch.optim.SGD([w], lr=1e-3), rho=0.05, every=3, alpha=0.7), []

    def loss():
        calls.append(1)
        return bowl(w)

    here, kept, counts = W.clone(), None, []
    for turn in range(6):
        g = slope(here)
        if turn % 3 == 0:
            used = slope(here + 0.05 * g / g.norm())
            kept = used - (used @ g) / (g @ g) * g
        else:
            used = g + 0.7 * g.norm() / kept.norm() * kept
        here = here - 1e-3 * used
        rule.step(closure_of(rule, loss))
        counts.append(len(calls))
        assert torch.allclose(w.detach(), here, rtol=1e-10)
    assert counts == [2, 3, 4, 6, 7, 8]


def test_looksam_in_two_steps_says_when_a_second_gradient_is_wanted():
    w, v = start(), start()
    whole, parts = (LookSAM(torch.optim.SGD([x], lr=1e-3), every=2) for x in (w, v))
    for turn in range(4):
        whole.step(closure_of(whole, lambda: bowl(w)))
        parts.zero_grad()
        bowl(v).backward()
        wanted = parts.first_step()
        assert wanted is (turn % 2 == 0)
        if wanted:
            bowl(v).backward()
        parts.second_step()
    assert torch.equal(w, v)


def network(seed=0):
    with core.global_randomness_kept(seed):
        net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).double().train()
        return net, torch.randn(24, 3).double(), torch.randint(2, (24,))


def parameters(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "base", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad]
)
def test_every_kind_around_any_base_both_interfaces_and_accumulation_agree(name, base):
    ends = []
    for how in ("closure", "two steps", "accumulated"):
        net, x, y = network()
        rule = KINDS[name](base(net.parameters(), lr=0.01), model=net)
        halves = [slice(0, 12), slice(12, 24)]

        def part(rows, net=net, x=x, y=y):
            net.eval()  # statistics of batches apart: accumulation could not agree with batch statistics
            return F.cross_entropy(net(x[rows]), y[rows])

        for _ in range(4):
            rule.zero_grad()
            if how == "closure":
                rule.step(closure_of(rule, lambda part=part: part(slice(0, 24))))
                continue
            rows = [slice(0, 24)] if how == "two steps" else halves
            for r in rows:
                (part(r) / len(rows)).backward()
            if rule.first_step():
                for r in rows:
                    (part(r) / len(rows)).backward()
            rule.second_step()
        ends.append(parameters(net))
    assert torch.equal(ends[0], ends[1])
    assert torch.allclose(ends[0], ends[2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_a_scaled_loss_trains_as_an_unscaled_one(name):
    """The AMP scaler on CPU: a power of two, so that the steps agree to the last bit but for tiny numbers."""
    ends = []
    for scaled in (False, True):
        net, x, y = network()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3, enabled=scaled)
        rule = KINDS[name](torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), model=net)
        for _ in range(8):
            rule.zero_grad()
            scaler.scale(F.cross_entropy(net(x), y)).backward()
            if rule.first_step(scaler):
                scaler.scale(F.cross_entropy(net(x), y)).backward()
            rule.second_step(scaler)
            scaler.update()
        ends.append(parameters(net))
        assert not scaled or scaler.get_scale() > 2.0**10
    assert torch.allclose(*ends, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_a_step_that_overflowed_is_left_out_by_the_scaler(name):
    net, x, y = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    rule = KINDS[name](torch.optim.SGD(net.parameters(), lr=0.1), model=net)
    before = parameters(net)
    for bad in (True, False):
        rule.zero_grad()
        for turn in (rule.first_step, rule.second_step):
            scaler.scale(F.cross_entropy(net(x), y) * (math.inf if bad else 1.0)).backward()
            if bad:
                next(net.parameters()).grad[0, 0] = math.inf
            turn(scaler)
        scaler.update()
        assert bool(torch.isfinite(parameters(net)).all())
        assert torch.equal(parameters(net), before) is bad
    assert rule.skipped == 1
    assert scaler.get_scale() == 2.0


@pytest.mark.parametrize("name", KINDS)
def test_running_statistics_see_the_weights_of_the_run_only(name):
    net, x, y = network()
    rule = KINDS[name](torch.optim.SGD(net.parameters(), lr=0.1), model=net)
    for turn in range(4):
        twin = copy.deepcopy(net)
        twin(x)
        rule.step(closure_of(rule, lambda: F.cross_entropy(net(x), y)))
        assert torch.equal(net[1].running_mean, twin[1].running_mean)
        assert torch.equal(net[1].running_var, twin[1].running_var)
        assert int(net[1].num_batches_tracked) == turn + 1


@pytest.mark.parametrize("name", KINDS)
def test_training_goes_on_from_a_saved_state_to_the_last_bit(name, tmp_path):
    net, x, y = network()
    rule = KINDS[name](torch.optim.Adam(net.parameters(), lr=0.05), model=net, rho=0.07)

    def train(rule, net, steps):
        for _ in range(steps):
            rule.step(closure_of(rule, lambda: F.cross_entropy(net(x), y)))

    train(rule, net, 4)
    torch.save({"net": net.state_dict(), "rule": rule.state_dict()}, tmp_path / "saved.pt")
    train(rule, net, 5)
    kept = torch.load(tmp_path / "saved.pt", weights_only=True)
    other = network(1)[0]
    other.load_state_dict(kept["net"])
    again = KINDS[name](torch.optim.Adam(other.parameters(), lr=0.9), model=other, rho=0.5)
    again.load_state_dict(kept["rule"])
    assert again.param_groups[0]["rho"] == 0.07
    train(again, other, 5)
    assert torch.equal(parameters(net), parameters(other))


def test_the_state_of_a_plain_optimiser_can_be_taken_over():
    net, x, y = network()
    plain = torch.optim.Adam(net.parameters(), lr=0.05)
    F.cross_entropy(net(x), y).backward()
    plain.step()
    rule = SAM(torch.optim.Adam(net.parameters(), lr=0.9), rho=0.07)
    rule.load_state_dict(plain.state_dict())
    assert (rule.param_groups[0]["lr"], rule.param_groups[0]["rho"]) == (0.05, 0.07)
    rule.step(closure_of(rule, lambda: F.cross_entropy(net(x), y)))


def test_refusals():
    w = start()
    base = torch.optim.SGD([w], lr=0.1)
    with pytest.raises(ValueError, match="alpha must be at least 0, got -1"):
        GSAM(base, alpha=-1)
    with pytest.raises(ValueError, match="eta must be at least 0, got nan"):
        FisherSAM(base, eta=math.nan)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        LookSAM(base, every=0)
    with pytest.raises(ValueError, match=r"rho must be at least 0, got -0.5"):
        USAM(base, rho=-0.5)
    with pytest.raises(ValueError, match="has no step of 2 shards"):
        LookSAM(base).sharded_step([bowl, bowl])
    with pytest.raises(TypeError, match="LBFGS asks for the loss several times a step"):
        SAM(torch.optim.LBFGS([w]))


@pytest.mark.slow
def test_sam_lowers_the_top_eigenvalue_against_the_same_training_without_it(digits):
    """Headline: over five starts, at the same number of steps and a training loss that is low for both."""
    x, y = digits.split("train").take(range(300))
    ratios = []
    for seed in range(5):
        sharpness = []
        for aware in (False, True):
            with core.global_randomness_kept(seed):
                net = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
            base = torch.optim.SGD(net.parameters(), lr=0.2)
            rule = SAM(base, rho=0.3) if aware else base
            for _ in range(400):
                loss = rule.step(closure_of(rule, lambda net=net: F.cross_entropy(net(x), y)))
            assert loss.item() < 0.1
            sharpness.append(eigenvalues(net.eval(), (x, y), "cross_entropy", k=1).values[0])
        ratios.append(sharpness[1] / sharpness[0])
    assert max(ratios) < 0.9
