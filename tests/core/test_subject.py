import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import (
    Need,
    Probe,
    RefusedError,
    Subject,
    Task,
    UnsuitableError,
    Work,
    controls,
    global_randomness_kept,
    probe,
    rng_for,
)
from theorylens.results import Estimate, Exact, Kind, Message, Result, Verdict

RNG = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 5, generator=RNG), torch.randint(0, 3, (40,), generator=RNG)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))


def subject(**changes):
    return Subject(**({"model": net(), "loss": "cross_entropy", "train": (X, Y), "test": (X[:20], Y[:20])} | changes))


def state_of(model):
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        [m.training for m in model.modules()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [p.requires_grad for p in model.parameters()],
    )


def same(a, b):
    assert all(torch.equal(a[0][k], b[0][k]) for k in a[0])
    assert a[1] == b[1]
    assert all((x is None and y is None) or torch.equal(x, y) for x, y in zip(a[2], b[2], strict=True))
    assert a[3] == b[3]


def test_scores_are_those_of_evaluation_mode_whatever_the_batch_size():
    s = subject()
    model = copy.deepcopy(s.model).eval()
    with torch.no_grad():
        outputs = model(X[:20])
    expected = nn.functional.cross_entropy(outputs, Y[:20], reduction="none").double()
    for size in (1, 7, 256):
        scores = subject(batch_size=size).scores("test")
        assert torch.allclose(scores.losses, expected, atol=1e-6)
        assert torch.equal(scores.errors, (outputs.argmax(1) != Y[:20]).double())


def test_a_model_in_training_mode_comes_back_in_training_mode_with_its_statistics():
    s = subject()
    s.model.train()
    s.model[0].eval()
    s.model[0].weight.grad = torch.ones_like(s.model[0].weight)
    s.model[4].bias.requires_grad_(False)
    before = state_of(s.model)
    s.scores("test"), s.features("3"), s.predictions("test"), s.layers, s.classes
    same(before, state_of(s.model))


def test_features_are_the_activations_of_the_layer_on_the_chosen_rows():
    s = subject()
    model = copy.deepcopy(s.model).eval()
    with torch.no_grad():
        expected = torch.relu(model[1](model[0](X)))
    assert torch.allclose(s.features("3"), expected, atol=1e-6)
    index = s.split("train").subset(10)
    assert torch.allclose(s.features("3", limit=10), expected[index], atol=1e-6)
    with pytest.raises(RefusedError, match="no layer 'conv'; it has 0, 1, 2"):
        s.features("conv")


def test_layers_come_in_the_order_of_use():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Linear(4, 3), nn.Linear(5, 4)

        def forward(self, x):
            return self.second(self.first(x))

    assert subject(model=Crossed()).layers == ("first", "second")


def test_the_initial_network_is_yours_when_given_and_labelled_when_not():
    start = {k: torch.zeros_like(v) for k, v in net().state_dict().items()}
    given = subject(init=start).initial()
    assert given.own
    assert int(given.subject.model[0].weight.count_nonzero()) == 0
    default = subject().initial()
    assert not default.own
    assert "not yours" in default.name.render()
    assert not torch.equal(default.subject.model[0].weight, subject().model[0].weight)
    assert torch.equal(default.subject.model[0].weight, subject().initial().subject.model[0].weight)
    assert subject(checkpoints={0: start}).initial().own


def test_a_network_that_cannot_be_reset_has_no_default_initialisation():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(5, 3))

        def forward(self, x):
            return x @ self.w

    assert subject(model=Own()).initial() is None
    assert controls(subject(model=Own()), lambda s: Estimate(value=1.0, uncertainty=Exact())) == ()


def test_a_checkpoint_is_another_subject_and_leaves_this_one_alone():
    other = {k: v + 1 if v.is_floating_point() else v for k, v in net().state_dict().items()}
    s = subject(checkpoints={10: other, 20: lambda: other})
    before = state_of(s.model)
    for step in (10, 20):
        assert torch.equal(s.at(step).model[0].weight, other["0.weight"])
    same(before, state_of(s.model))
    with pytest.raises(RefusedError, match=r"no checkpoint at step 5; there are \[10, 20\]"):
        s.at(5)


def test_outputs_alone_are_enough_for_scores():
    logits = torch.randn(20, 3, generator=RNG)
    s = Subject(outputs={"test": (logits, Y[:20])})
    assert s.has("test")
    assert not s.has("model")
    assert torch.equal(s.scores("test").errors, (logits.argmax(1) != Y[:20]).double())
    assert controls(s, lambda other: Estimate(value=1.0, uncertainty=Exact())) == ()
    with pytest.raises(RefusedError, match="outputs only and no model"):
        s.net  # noqa: B018


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"model": None}, "a subject needs a model, or outputs"),
        ({"loss": None}, "needs loss="),
    ],
)
def test_a_subject_that_cannot_work_is_refused_at_once(given, match):
    with pytest.raises(RefusedError, match=match):
        subject(**given)


def test_unknown_and_missing_splits_are_told_apart():
    with pytest.raises(RefusedError, match="the roles are train, validation, test"):
        subject().split("holdout")
    with pytest.raises(RefusedError, match="no validation split"):
        subject().split("validation")


def test_a_frozen_model_has_nothing_to_vary_and_says_so():
    s = subject()
    s.model.requires_grad_(False)
    with pytest.raises(UnsuitableError, match="no parameter that requires a gradient"):
        s.objective("train")


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first():
    s = subject()
    big = 1 << 26  # floats: a quarter of a GiB each
    for key in "abc":
        s.once(key, lambda: torch.empty(big // 2))
    assert list(s._memo)[-1] == "c"
    assert len(s._memo) < 4
    calls = []
    s.once("c", lambda: calls.append(1))
    assert not calls


def test_global_randomness_comes_back_also_after_an_error():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()

    before = states()

    def draw_and_fail():
        with global_randomness_kept(3):
            torch.rand(1), random.random(), np.random.rand()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        draw_and_fail()
    assert states() == before


def test_streams_are_keyed_by_seed_code_and_rung():
    draws = {key: float(torch.rand(1, generator=rng_for(*key))) for key in [(0, "a", 16), (0, "a", 32), (1, "a", 16)]}
    assert len(set(draws.values())) == 3
    assert float(torch.rand(1, generator=rng_for(0, "a", 16))) == draws[0, "a", 16]


M = Message("m", "words")


def made(run=None, **changes):
    def probe_thing(subject, *, rng, draws=0, scale=1.0):
        """Is it so?"""
        if run is not None:
            run(subject)
        value = float(torch.rand(max(draws, 1), generator=rng).sum()) * scale
        return Result(
            estimate=Estimate(value=value, uncertainty=Exact()), kind=Kind.DESCRIPTION, verdict=Verdict.DESCRIPTIVE,
            reason=M,
        )  # fmt: skip

    given = {"code": "TL999", "needs": {Need.MODEL}, "cost": lambda s, r: Work(), "rungs": (16, 32)}
    return probe(**(given | changes))(probe_thing)


def test_a_probe_stamps_code_seed_rung_and_work():
    result = made(lambda s: s.scores("test"))(subject(), seed=3, rung=32)
    assert (result.code, result.seed, result.plan, result.cost.forwards) == ("TL999", 3, 32, 20)
    assert made()(subject(), seed=3).plan == 16
    assert made()(subject(), seed=1).estimate == made()(subject(), seed=1).estimate
    assert made()(subject(), seed=1).estimate != made()(subject(), seed=2).estimate


def test_a_probe_gives_the_model_back_after_an_exception():
    def spoil(s):
        s.model[1].running_mean += 1
        s.model[0].weight.grad = torch.ones_like(s.model[0].weight)
        s.model[4].requires_grad_(False)
        torch.rand(3)
        raise RuntimeError("boom")

    s = subject()
    s.model.train()
    before, state = state_of(s.model), torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="boom"):
        made(spoil)(s)
    same(before, state_of(s.model))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_probe_says_what_the_subject_lacks():
    with pytest.raises(UnsuitableError, match="needs history, recipe"):
        made(needs={Need.RECIPE, Need.HISTORY})(subject())


def test_wrong_rungs_and_options_are_refused():
    with pytest.raises(ValueError, match=r"runs at \[16, 32\] draws, got 20"):
        made()(subject(), rung=20)
    with pytest.raises(ValueError, match="samples nothing"):
        made(rungs=())(subject(), rung=16)
    with pytest.raises(TypeError, match=r"no options \['colour'\]"):
        made()(subject(), colour=1)


@pytest.mark.parametrize("changes", [{"code": "X1"}, {"rungs": (17,)}])
def test_a_badly_declared_probe_is_an_error_at_import(changes):
    with pytest.raises(TypeError):
        made(**changes)


def test_a_probe_must_ask_a_question():
    def probe_statement(subject, *, rng):
        """It is so."""

    with pytest.raises(TypeError, match="must be the question"):
        probe(code="TL999", needs=set(), cost=lambda s, r: Work())(probe_statement)


def test_probe_names_come_from_the_function():
    assert isinstance(made(), Probe)
    assert made().name.endswith(".thing")


def test_an_explicit_task_wins_over_the_loss():
    task = Task(loss="mse", error=lambda o, t: ((o - t).abs() > 1).float().amax(1), error_name="off by one")
    s = subject(task=task, train=(X, torch.zeros(40, 3)), test=(X[:20], torch.zeros(20, 3)))
    assert s.judged.kind == "regression"
    assert s.scores("test").errors.shape == (20,)
    assert s.classes is None
