"""Optimisers as practitioners use them: copies, late groups, maximising, sparse and broken gradients, interrupts."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import landscape

X, Y = torch.randn(32, 4, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 3
HOW = landscape.Thresholds(lr=0.1, radius=0.01, gradient=10.0, decrease=1e-9, wait=2)
FIRST_ORDER = {
    "perturbed": lambda p: landscape.PerturbedGD(p, HOW),
    "accelerated": lambda p: landscape.AcceleratedPerturbedGD(
        p, smoothness=4.0, lipschitz=6.0, epsilon=1e-2, radius=1e-3, wait=5
    ),
    "noisy": lambda p: landscape.NoisyGD(p, lr=0.1, radius=0.01),
}
SECOND_ORDER = {
    "cubic": landscape.CubicNewton,
    "saddle-free": landscape.SaddleFreeNewton,
    "curvature": lambda p: landscape.NegativeCurvature(p, lr=0.1, lipschitz=1.0),
}
AWARE = {
    name: (lambda p, kind=name: getattr(landscape, kind)(torch.optim.SGD(p, lr=0.1, momentum=0.9), rho=0.05))
    for name in ("SAM", "ASAM", "USAM", "FisherSAM", "GSAM", "LookSAM")
}
ALL = {**FIRST_ORDER, **SECOND_ORDER, **AWARE}


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def closure_for(rule, kind, loss):
    def closure():
        if kind in SECOND_ORDER:
            return loss()
        rule.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


class Run:
    """A network and its rule, copied together as a checkpointing framework does."""

    def __init__(self, kind):
        self.kind, self.net = kind, network()
        self.rule = ALL[kind](self.net.parameters())

    def step(self):
        self.rule.step(closure_for(self.rule, self.kind, lambda: F.cross_entropy(self.net(X), Y)))

    def weights(self):
        return torch.cat([p.detach().reshape(-1) for p in self.net.parameters()])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])
@pytest.mark.parametrize("kind", ALL)
def test_a_copy_of_network_and_optimiser_goes_on_as_the_original(kind, copied):
    run = Run(kind)
    for _ in range(3):
        run.step()
    twin = copied(run)
    for _ in range(4):
        run.step()
    middle = twin.weights()
    for _ in range(4):
        twin.step()
    assert not torch.equal(middle, twin.weights())
    assert torch.equal(run.weights(), twin.weights())


@pytest.mark.parametrize("kind", ALL)
def test_a_state_taken_is_not_moved_by_what_follows_and_loads_into_its_own_memory(kind):
    run = Run(kind)
    for _ in range(3):
        run.step()
    state, weights = copy.deepcopy(run.rule.state_dict()), copy.deepcopy(run.net.state_dict())
    twins = [Run(kind), Run(kind)]
    for twin in twins:
        twin.net.load_state_dict(weights)
        # The same one twice; of torch's own optimisers a state is shared by whoever loads it.
        twin.rule.load_state_dict(copy.deepcopy(state) if kind in AWARE else state)
        for _ in range(4):
            twin.step()
    for _ in range(4):
        run.step()
    assert torch.equal(run.weights(), twins[0].weights())
    assert torch.equal(run.weights(), twins[1].weights())


@pytest.mark.parametrize("kind", AWARE)
def test_the_neighbour_of_what_is_maximised_is_where_it_is_lowest(kind):
    ends = []
    for sign in (1, -1):
        w = torch.tensor([1.0, 0.5], dtype=torch.float64, requires_grad=True)
        base = torch.optim.SGD([w], lr=1e-3, maximize=sign < 0)
        rule = getattr(landscape, kind)(base, rho=1e-3)
        for _ in range(7):
            rule.step(closure_for(rule, kind, lambda w=w, sign=sign: sign * (w[0] ** 2 + 100 * w[1] ** 2)))
        ends.append(w.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize("through", ["rule", "base"])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_a_group_of_parameters_may_come_later(base, through):
    def train(late):
        net = network()
        rule = landscape.SAM(base(net[0].parameters() if late else net.parameters(), lr=0.1), rho=0.1)
        if late:
            (rule if through == "rule" else rule.base).add_param_group({"params": net[2].parameters()})
        for _ in range(3):
            rule.step(closure_for(rule, "SAM", lambda: F.cross_entropy(net(X), Y)))
        return torch.cat([p.detach().reshape(-1) for p in net.parameters()])

    torch.testing.assert_close(train(True), train(False), rtol=0, atol=1e-6)


def test_schedules_that_ask_for_the_defaults_of_the_base_work():
    net = network()
    rule = landscape.SAM(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))
    schedule = torch.optim.lr_scheduler.OneCycleLR(rule, max_lr=0.4, total_steps=4)
    for _ in range(3):
        rule.step(closure_for(rule, "SAM", lambda: F.cross_entropy(net(X), Y)))
        schedule.step()
    assert rule.base.param_groups[0]["lr"] == schedule.get_last_lr()[0] != 0.1


@pytest.mark.parametrize("kind", [*FIRST_ORDER, *AWARE])
def test_sparse_gradients_do_what_dense_ones_do(kind):
    ends, rows = [], torch.tensor([1, 1, 2, 5])
    for sparse in (True, False):
        table = nn.Embedding.from_pretrained(torch.arange(30.0).reshape(10, 3).cos(), freeze=False, sparse=sparse)
        rule = ALL[kind](table.parameters())
        for _ in range(6):
            rule.step(closure_for(rule, kind, lambda t=table: (t(rows) ** 2).mean()))
        ends.append(table.weight.detach())
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", SECOND_ORDER)
def test_sparse_gradients_have_no_derivative_and_it_is_said(kind):
    table = nn.Embedding(10, 3, sparse=True)
    with pytest.raises(ValueError, match=r"a gradient is sparse.*sparse=False"):
        ALL[kind](table.parameters()).step(lambda: table(torch.tensor([1, 1, 2])).square().sum())


@pytest.mark.parametrize("kind", [*FIRST_ORDER, *SECOND_ORDER])
def test_a_gradient_that_is_not_finite_is_refused_before_anything_moves(kind):
    w = torch.zeros(2, requires_grad=True)
    rule = ALL[kind]([w])
    with pytest.raises(ValueError, match=r"the gradient is not finite.*parameters are as they were"):
        rule.step(closure_for(rule, kind, lambda: (w[0] ** 2).sqrt() + w[1] ** 2 + 1))
    assert w.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", ["perturbed", "accelerated", "cubic", "SAM", "GSAM"])
@pytest.mark.parametrize("at", [2, 3])
def test_an_interrupt_in_the_middle_of_a_step_leaves_the_weights_of_its_beginning(kind, at):
    run, calls = Run(kind), []
    run.step()
    before = run.weights()

    def loss():
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return F.cross_entropy(run.net(X), Y) * (-1 if kind == "cubic" and len(calls) > 1 else 1)

    if kind == "perturbed":
        run.rule._last = -10  # due for a perturbation, which looks at the loss a second time
    try:
        for _ in range(3):
            before = run.weights()
            run.rule.step(closure_for(run.rule, kind, loss))
    except KeyboardInterrupt:
        assert torch.equal(before, run.weights())
    else:
        raise AssertionError("the interrupt never came")


@pytest.mark.parametrize("kind", ALL)
def test_groups_frozen_and_unused_parameters_are_left_alone(kind):
    net = network()
    net.register_parameter("spare", nn.Parameter(torch.ones(3)))
    net[0].bias.requires_grad_(False)
    groups = [{"params": net[0].parameters()}, {"params": [*net[2].parameters(), net.spare]}]
    rule = ALL[kind]([p for g in groups for p in g["params"]] if kind == "accelerated" else groups)
    kept, spare = net[0].bias.clone(), net.spare.detach().clone()
    losses = [float(rule.step(closure_for(rule, kind, lambda: F.cross_entropy(net(X), Y))).detach()) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert torch.equal(kept, net[0].bias)
    if kind not in FIRST_ORDER:  # noise is for every weight
        assert torch.equal(spare, net.spare)


@pytest.mark.parametrize("kind", ALL)
def test_mixed_precision_and_compiled_networks_train(kind):
    net = network()
    called = torch.compile(net, backend="eager")

    def loss():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.cross_entropy(called(X), Y)

    rule = ALL[kind](net.parameters())
    losses = [float(rule.step(closure_for(rule, kind, loss)).detach()) for _ in range(8)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("owner", ["rule", "base"])
@pytest.mark.parametrize("when", ["first", "second", "both", "never"])
@pytest.mark.parametrize("kind", AWARE)
def test_gradients_unscaled_to_be_clipped_train_as_without_scaling(kind, when, owner):
    """Unscaled before first_step the scaler took the second gradient for unscaled too: steps 1,024 times too long."""

    def train(scale):
        net = network()
        rule = AWARE[kind](net.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=True)
        name = rule if owner == "rule" else rule.base
        for _ in range(3):
            rule.zero_grad()
            for which in ("first", "second"):
                scaler.scale(F.cross_entropy(net(X), Y)).backward()
                if when in (which, "both"):
                    scaler.unscale_(name)
                    nn.utils.clip_grad_norm_(net.parameters(), 0.1)
                if which == "first" and not rule.first_step(scaler):
                    break
            rule.second_step(scaler)
            scaler.update()
        return torch.cat([p.detach().reshape(-1) for p in net.parameters()])

    torch.testing.assert_close(train(1024.0), train(1.0), rtol=1e-4, atol=1e-6)


def test_an_unscaled_gradient_of_which_the_first_step_was_not_told_is_refused():
    net = network()
    rule, scaler = AWARE["SAM"](net.parameters()), torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(F.cross_entropy(net(X), Y)).backward()
    scaler.unscale_(rule.base)
    rule.first_step()
    scaler.scale(F.cross_entropy(net(X), Y)).backward()
    with pytest.raises(RuntimeError, match=r"whether the first or the second cannot be told.*first_step\(scaler\)"):
        rule.second_step(scaler)
