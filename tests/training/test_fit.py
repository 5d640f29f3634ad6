import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens.core import RefusedError, Task, global_randomness_kept, key_seed, seed_everything
from theorylens.training import DivergedError, Keeping, Optimisation, fit

RNG = torch.Generator().manual_seed(0)
X = torch.randn(53, 6, generator=RNG)
Y = torch.randint(0, 3, (53,), generator=RNG)
XV = torch.randn(20, 6, generator=RNG)
YV = torch.randint(0, 3, (20,), generator=RNG)
PLAN = Optimisation(lr=0.1, momentum=0.9, batch_size=10, epochs=4)


def plain(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def noisy(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def bits(model):
    return {name: t.clone() for name, t in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def slow_twin(model, seed, loss, y=Y, epochs=4, batch=10):
    """The same run, written as in a tutorial."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(epochs):
        order = torch.randperm(len(X), generator=torch.Generator().manual_seed(key_seed(seed, "epoch", epoch)))
        for index in order.split(batch):
            optimizer.zero_grad()
            loss(model(X[index]), y[index]).backward()
            optimizer.step()
    return bits(model)


def test_same_seed_same_bits_whatever_the_global_state():
    one, two = noisy(), noisy()
    torch.manual_seed(1)
    first = fit(one, (X, Y), "cross_entropy", PLAN, seed=3)
    torch.manual_seed(2)
    second = fit(two, (X, Y), "cross_entropy", PLAN, seed=3, validation=(XV, YV), keeping=Keeping(every=1))
    assert same(bits(first.model), bits(second.model))
    other = fit(noisy(), (X, Y), "cross_entropy", PLAN, seed=4)
    assert not same(bits(first.model), bits(other.model))


def test_global_random_state_is_left_alone():
    model = noisy()
    torch.manual_seed(7)
    np.random.seed(7)
    wanted = torch.rand(3), np.random.rand(3)
    torch.manual_seed(7)
    np.random.seed(7)
    fit(model, (X, Y), "cross_entropy", PLAN)
    assert torch.equal(torch.rand(3), wanted[0])
    assert (np.random.rand(3) == wanted[1]).all()


def test_agrees_with_a_loop_as_in_a_tutorial():
    fitted = fit(plain(), (X, Y), "cross_entropy", PLAN, seed=5)
    twin = slow_twin(plain(), 5, F.cross_entropy)
    for name, tensor in bits(fitted.model).items():
        torch.testing.assert_close(tensor, twin[name], rtol=1e-5, atol=1e-6)


def test_a_batch_is_averaged_over_what_counts_in_it():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0]))
    y = torch.where(torch.arange(53) % 4 == 0, -100, Y)
    fitted = fit(plain(), (X, y), loss, PLAN, seed=5)
    twin = slow_twin(plain(), 5, loss, y)
    for name, tensor in bits(fitted.model).items():
        torch.testing.assert_close(tensor, twin[name], rtol=1e-4, atol=1e-5)


def test_a_summed_loss_is_not_divided():
    plan = Optimisation(lr=0.01, batch_size=53, epochs=1)
    fitted = fit(plain(), (X, Y), nn.CrossEntropyLoss(reduction="sum"), plan)
    before = plain()
    F.cross_entropy(before(X), Y, reduction="sum").backward()
    for (_, p), trained in zip(before.named_parameters(), fitted.model.parameters(), strict=True):
        torch.testing.assert_close(p - 0.01 * p.grad, trained, rtol=1e-4, atol=1e-6)


def test_history_is_what_evaluation_gives_and_trace_has_every_step():
    fitted = fit(
        noisy(), (X, Y), "cross_entropy", PLAN, validation=(XV, YV), keeping=Keeping(every=5, checkpoints=[0, 10, 24])
    )
    assert fitted.history.steps.tolist() == [0, 5, 10, 15, 20, 24]
    subject = fitted.subject(test=(XV, YV))
    for step, at in ((0, 0), (10, 2), (24, 5)):
        there = subject.at(step)
        assert float(there.scores("train").losses.mean()) == pytest.approx(fitted.history.series["train_loss"][at])
        assert float(there.scores("test").losses.mean()) == pytest.approx(fitted.history.series["validation_loss"][at])
        assert float(there.scores("test").errors.mean()) == pytest.approx(fitted.history.series["validation_error"][at])
        assert float(there.scores("train").errors.mean()) == pytest.approx(fitted.history.series["train_error"][at])
    assert fitted.trace.steps.tolist() == list(range(1, 25))
    assert all(np.isfinite(values).all() for values in fitted.trace.series.values())


def test_trace_holds_loss_and_gradient_of_the_batch():
    fitted = fit(plain(), (X, Y), "cross_entropy", Optimisation(lr=0.1, batch_size=53, epochs=1))
    model = plain()
    loss = F.cross_entropy(model(X), Y)
    loss.backward()
    norm = sum(float((p.grad**2).sum()) for p in model.parameters()) ** 0.5
    assert fitted.trace.series["batch_loss"][0] == pytest.approx(loss.item(), rel=1e-5)
    assert fitted.trace.series["gradient_norm"][0] == pytest.approx(norm, rel=1e-5)


def test_subject_knows_where_it_came_from():
    start = bits(plain())
    fitted = fit(plain(), (X, Y), "cross_entropy", PLAN, validation=(XV, YV), keeping=Keeping(checkpoints=4))
    subject = fitted.subject(test=(XV, YV), name="small")
    assert list(fitted.checkpoints) == [1, 3, 8, 24]
    assert same(bits(subject.at(24).net), bits(subject.net))
    assert same(bits(subject.initial().subject.net), start)
    assert subject.initial().own
    assert len(subject.split("train")) == 53
    assert len(subject.split("validation")) == 20
    assert fitted.settings["lr"] == 0.1
    assert fitted.settings["steps"] == 24
    assert not fitted.model.training


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [(None, [1, 1, 1, 1]), ("cosine", [1, 0.8535534, 0.5, 0.1464466]), (lambda done: 1 - done, [1, 0.75, 0.5, 0.25])],
)
def test_schedule_scales_the_rate(schedule, wanted):
    plan = Optimisation(lr=0.2, batch_size=53, epochs=4, schedule=schedule)
    lrs = fit(plain(), (X, Y), "cross_entropy", plan).trace.series["lr"]
    assert lrs == pytest.approx([0.2 * w for w in wanted])


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_named_optimizers_are_those_of_torch(name, kind):
    plan = {"lr": 0.01, "weight_decay": 0.1, "batch_size": 20, "epochs": 2}
    named = fit(plain(), (X, Y), "cross_entropy", Optimisation(optimizer=name, **plan))
    plan.pop("weight_decay")
    given = Optimisation(optimizer=lambda p, lr: kind(p, lr=lr, weight_decay=0.1), **plan)
    assert same(bits(named.model), bits(fit(plain(), (X, Y), "cross_entropy", given).model))


def test_frozen_parameters_stay():
    model = plain()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    fit(model, (X, Y), "cross_entropy", PLAN)
    assert torch.equal(model[0].weight, before)
    assert not model[0].weight.requires_grad


def test_callbacks_see_every_step_in_evaluation_mode_and_disturb_nothing():
    seen = []

    def look(step, model, metrics):
        assert not model.training
        torch.rand(5)
        model(X)
        seen.append((step, dict(metrics)))

    fitted = fit(noisy(), (X, Y), "cross_entropy", PLAN, callbacks=[look], keeping=Keeping(every=10))
    assert [step for step, _ in seen] == list(range(25))
    assert "batch_loss" not in seen[0][1]
    assert seen[10][1]["train_loss"] == fitted.history.series["train_loss"][1]
    assert seen[7][1]["gradient_norm"] == fitted.trace.series["gradient_norm"][6]
    alone = fit(noisy(), (X, Y), "cross_entropy", PLAN)
    assert same(bits(fitted.model), bits(alone.model))


def test_a_callback_that_writes_is_stopped():
    def meddle(step, model, metrics):
        with torch.no_grad():
            model[0].weight.zero_()

    with pytest.raises(RuntimeError, match="changed the parameters at step 0; callbacks may only look"):
        fit(plain(), (X, Y), "cross_entropy", PLAN, callbacks=[meddle])


def test_divergence_names_step_and_rate_and_keeps_what_was_saved(tmp_path):
    plan = Optimisation(lr=1e6, batch_size=10, epochs=20)
    keeping = Keeping(checkpoints=[0, 1], directory=tmp_path)
    net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 1))
    with pytest.raises(
        DivergedError, match=r"the (loss|norm of the gradient) is (inf|nan) at step \d+ with lr 1e\+06"
    ) as e:
        fit(net, (X, X[:, :1]), "mse", plan, keeping=keeping)
    assert e.value.lr == 1e6
    assert (tmp_path / "step-00000001.safetensors").exists()


def test_large_training_splits_are_evaluated_on_a_fixed_choice():
    x = torch.randn(3000, 2)
    fitted = fit(nn.Linear(2, 1), (x, x.sum(1, keepdim=True)), "mse", Optimisation(lr=0.1, batch_size=500, epochs=5))
    exact = ((fitted.model(x) - x.sum(1, keepdim=True)) ** 2).mean().item()
    assert fitted.history.series["train_loss"][-1] == pytest.approx(exact, rel=0.2)
    assert "train_error" not in fitted.history.series


# ---- killed and resumed ------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import torch
sys.path.insert(0, sys.argv[2])
from test_fit import resumable, torch
torch.set_num_threads(1)
def kill(step, model, metrics):
    if step == 17:
        os.kill(os.getpid(), signal.SIGKILL)
resumable(sys.argv[1], [kill])
"""


def resumable(directory, callbacks=()):
    plan = Optimisation(optimizer="adam", lr=0.02, batch_size=10, epochs=6, schedule="cosine")
    keeping = Keeping(checkpoints=[1, 9, 36], directory=directory, every=4)
    return fit(
        noisy(), (X, Y), "cross_entropy", plan, seed=1, validation=(XV, YV), keeping=keeping, callbacks=callbacks
    )


def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed"), here], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == -signal.SIGKILL
    steps = []
    resumed = resumable(tmp_path / "killed", [lambda step, model, metrics: steps.append(step)])
    assert steps[0] == 13  # the last epoch that was over
    whole = resumable(tmp_path / "whole")
    assert same(bits(resumed.model), bits(whole.model))
    assert list(resumed.checkpoints) == [1, 9, 36]
    for step in (1, 9, 36):
        assert same(bits(resumed.subject().at(step).net), bits(whole.subject().at(step).net))
    for one, two in ((resumed.history, whole.history), (resumed.trace, whole.trace)):
        assert (one.steps == two.steps).all()
        assert all((one.series[k] == two.series[k]).all() for k in two.series)
    assert not list((tmp_path / "killed").glob("*.part"))


def test_a_finished_run_is_not_repeated(tmp_path):
    first = resumable(tmp_path)
    steps = []
    again = resumable(tmp_path, [lambda step, model, metrics: steps.append(step)])
    assert steps == []
    assert same(bits(first.model), bits(again.model))
    assert again.seconds == pytest.approx(first.seconds)


def test_another_run_in_the_directory_is_refused_by_name_and_can_be_replaced(tmp_path):
    keeping = Keeping(directory=tmp_path, checkpoints=[24])
    fit(plain(), (X, Y), "cross_entropy", PLAN, keeping=keeping)
    other = Optimisation(lr=0.2, momentum=0.9, batch_size=10, epochs=4)
    with pytest.raises(RefusedError, match=r"differs in lr; give another directory, or resume=False"):
        fit(plain(), (X, Y), "cross_entropy", other, keeping=keeping)
    with pytest.raises(RefusedError, match=r"differs in initial weights, training data"):
        fit(plain(1), (X + 1, Y), "cross_entropy", PLAN, keeping=keeping)
    over = fit(plain(), (X, Y), "cross_entropy", other, keeping=Keeping(directory=tmp_path, resume=False))
    assert over.settings["lr"] == 0.2
    assert not (tmp_path / "step-00000024.safetensors").exists()


# ---- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "lbfgs"}, "unknown optimizer 'lbfgs'; use 'sgd'"),
        ({"schedule": "linear"}, "unknown schedule 'linear'"),
        ({"lr": 0.0}, "lr must be a positive number, got 0"),
        ({"lr": float("nan")}, "lr must be a positive number, got nan"),
        ({"batch_size": 0}, "batch_size and epochs must be at least 1, got 0"),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum=0.9 applies to optimizer='sgd' only"),
        ({"weight_decay": -1.0}, "must not be negative"),
    ],
)
def test_impossible_plans_are_refused(options, words, unchecked_shapes):
    with pytest.raises(ValueError, match=words):
        Optimisation(**options)


def test_checkpoints_outside_the_run_are_refused():
    with pytest.raises(ValueError, match=r"checkpoints \[25\] lie outside the run, which has steps 0 to 24"):
        fit(plain(), (X, Y), "cross_entropy", PLAN, keeping=Keeping(checkpoints=[25]))
    with pytest.raises(ValueError, match="every must be at least 1 step"):
        Keeping(every=0)
    with pytest.raises(ValueError, match="checkpoints must not be negative"):
        Keeping(checkpoints=-1)


def test_a_model_without_anything_to_train_is_refused():
    model = plain().requires_grad_(False)
    with pytest.raises(RefusedError, match="set requires_grad on those to train"):
        fit(model, (X, Y), "cross_entropy", PLAN)


def test_a_task_is_taken_as_it_is():
    task = Task(forward=lambda model, batch: (model(batch["a"]), batch["b"]), loss="cross_entropy")
    fitted = fit(plain(), {"a": X, "b": Y}, task, PLAN)
    assert same(bits(fitted.model), bits(fit(plain(), (X, Y), "cross_entropy", PLAN).model))
    assert fitted.subject().scores("train").losses.shape == (53,)


def test_the_bar_shows_on_a_terminal_only(capsys, monkeypatch):
    fit(plain(), (X, Y), "cross_entropy", PLAN, progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    fit(plain(), (X, Y), "cross_entropy", PLAN, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "training" in err


def test_training_stops_where_the_loss_is_as_low_as_asked_for(tmp_path):
    long = Optimisation(lr=0.1, momentum=0.9, batch_size=10, epochs=40)
    whole = fit(plain(), (X, Y), "cross_entropy", long)
    losses = whole.history.series["train_loss"]
    goal = float(losses[12])
    first = int(np.flatnonzero(losses <= goal)[0])
    stopped = fit(plain(), (X, Y), "cross_entropy", replace(long, stop_at=goal))
    assert 0 < stopped.settings["steps"] == whole.history.steps[first] < whole.settings["steps"]
    assert len(stopped.trace.steps) == stopped.settings["steps"]
    assert stopped.history.series["train_loss"].tolist() == losses[: first + 1].tolist()
    assert stopped.settings["stop_at"] == goal
    short = fit(plain(), (X, Y), "cross_entropy", replace(long, epochs=first))
    assert same(bits(stopped.model), bits(short.model))
    kept = Keeping(directory=tmp_path)
    one, two = (fit(plain(), (X, Y), "cross_entropy", replace(long, stop_at=goal), keeping=kept) for _ in range(2))
    assert same(bits(one.model), bits(two.model))
    assert one.settings == two.settings
    assert fit(plain(), (X, Y), "cross_entropy", replace(long, stop_at=99.0)).settings["steps"] == 0
    with pytest.raises(ValueError, match="stop_at must be a finite loss or None, got nan"):
        replace(long, stop_at=float("nan"))


def test_seeding_of_a_step_is_that_of_torch_and_leaves_no_calls_behind():
    queued = len(torch.cuda._queued_calls)
    with global_randomness_kept():
        seed_everything(12345)
        own = torch.rand(3)
        torch.manual_seed(12345)
        assert torch.equal(own, torch.rand(3))
    before = len(torch.cuda._queued_calls)
    fit(plain(), (X, Y), "cross_entropy", PLAN)
    assert len(torch.cuda._queued_calls) == before
    assert before - queued <= 1  # torch's own, which keeps the call and its stack for a device that is not there
