import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens.core import RefusedError, Task, global_randomness_kept, zero_one
from theorylens.numerics import Objective

RNG = torch.Generator().manual_seed(0)
X = torch.randn(23, 4, generator=RNG, dtype=torch.float64)
Y = torch.randint(0, 3, (23,), generator=RNG)
with global_randomness_kept(0):
    NET = nn.Linear(4, 3).double()
WEIGHT = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
IGNORED = torch.where(torch.arange(23) % 4 == 0, -100, Y)


@pytest.fixture(autouse=True)
def no_graph():
    with torch.no_grad():
        yield


def value(task, x=X, y=Y, net=NET, size=5):
    settled = task.settled(net, (x, y))
    batches = [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
    return Objective(net, batches, settled.loss_sum, settled.mean).value


MODULES = {
    "mean": (nn.CrossEntropyLoss(), Y),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), Y),
    "weighted": (nn.CrossEntropyLoss(weight=WEIGHT), Y),
    "weighted sum": (nn.CrossEntropyLoss(weight=WEIGHT, reduction="sum"), Y),
    "ignored": (nn.CrossEntropyLoss(), IGNORED),
    "ignored and weighted": (nn.CrossEntropyLoss(weight=WEIGHT), IGNORED),
    "ignored by another number": (nn.CrossEntropyLoss(ignore_index=2), Y),
    "ignored above the classes, weighted": (
        nn.CrossEntropyLoss(weight=WEIGHT, ignore_index=9),
        torch.where(IGNORED == -100, 9, IGNORED),
    ),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), Y),
    "smoothed, weighted, ignored": (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1), IGNORED),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("size", [1, 5, 23])
def test_a_torch_loss_has_torchs_own_value_whatever_the_batches(name, size):
    loss, y = MODULES[name]
    assert value(Task(loss=loss), y=y, size=size) == pytest.approx(float(loss(NET(X), y)), rel=1e-12)


@pytest.mark.parametrize("module", [nn.MSELoss(), nn.L1Loss(), nn.MSELoss(reduction="sum"), nn.HuberLoss()])
def test_regression_losses_average_as_torch_does(module):
    y = torch.randn(23, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert value(Task(loss=module), y=y) == pytest.approx(float(module(NET(X), y)), rel=1e-12)  # a sum sums outputs too


def test_named_losses_are_torchs():
    assert value(Task(loss="cross_entropy")) == pytest.approx(float(F.cross_entropy(NET(X), Y)), rel=1e-12)
    y = torch.randn(23, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert value(Task(loss="mse"), y=y) == pytest.approx(float(F.mse_loss(NET(X), y)), rel=1e-12)
    one = nn.Linear(4, 1).double()
    b = (Y > 0).double()
    expected = float(F.binary_cross_entropy_with_logits(one(X)[:, 0], b))
    assert value(Task(loss="binary_cross_entropy"), y=b, net=one) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "mean"),
    [(lambda o, t: F.cross_entropy(o, t), True), (lambda o, t: F.cross_entropy(o, t, reduction="sum"), False)],
)
def test_a_plain_scalar_function_is_recognised_as_mean_or_sum(loss, mean):
    settled = Task(loss=loss).settled(NET, (X, Y))
    assert settled.mean is mean
    assert not settled.per_example
    assert value(Task(loss=loss)) == pytest.approx(float(loss(NET(X), Y)), rel=1e-12)


def test_a_function_per_example_is_averaged():
    assert value(Task(loss=lambda o, t: F.cross_entropy(o, t, reduction="none"))) == pytest.approx(
        float(F.cross_entropy(NET(X), Y)), rel=1e-12
    )


def test_a_scalar_that_is_neither_mean_nor_sum_is_refused():
    with pytest.raises(RefusedError, match="neither the mean nor the sum of its halves"):
        Task(loss=lambda o, t: F.cross_entropy(o, t) ** 2).settled(NET, (X, Y))


def test_a_target_ignored_by_another_number_is_no_error():
    settled = Task(loss=nn.CrossEntropyLoss(ignore_index=2)).settled(NET, (X, Y))
    outputs, targets = settled.forward(NET, (X, Y))
    assert float(settled.error(outputs, targets)[Y == 2].sum()) == 0


def test_smoothing_that_no_weight_accounts_for_is_refused():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0, 1.0]), label_smoothing=0.1)
    with pytest.raises(RefusedError, match="a class of weight 0"):
        Task(loss=loss).settled(NET, (X, Y))


def test_an_unknown_loss_is_refused_with_the_known_ones():
    with pytest.raises(RefusedError, match="unknown loss 'crossentropy'; known names are"):
        Task(loss="crossentropy").settled(NET, (X, Y))


def test_outputs_that_do_not_fit_the_targets_are_refused_with_numbers():
    with pytest.raises(RefusedError, match="has 3 outputs, but targets run from 0 to 7"):
        Task().settled(NET, (X, torch.arange(23) % 8))
    with pytest.raises(RefusedError, match="one row per example"):
        Task(forward=lambda model, batch: (model(batch[0])[:5], batch[1])).settled(NET, (X, Y))


def test_targets_that_torch_would_repeat_silently_are_refused():
    with pytest.raises(RefusedError, match=r"outputs of shape \(23, 3\) against targets of shape \(23,\)"):
        Task(loss="mse").settled(NET, (X, torch.zeros(23, dtype=torch.float64)))


def test_a_dict_batch_needs_a_forward_and_the_message_shows_it():
    with pytest.raises(RefusedError, match=r"def forward\(model, batch\)"):
        Task().settled(NET, {"x": X, "y": Y})
    task = Task(forward=lambda model, batch: (model(batch["x"]), batch["y"]))
    assert task.settled(NET, {"x": X, "y": Y}).kind == "classification"


def test_language_models_may_put_classes_last():
    logits = torch.randn(4, 6, 11, generator=RNG)
    tokens = torch.randint(0, 11, (4, 6), generator=RNG)
    tokens[:, 4:] = -100
    values, weights = Task().losses(logits, tokens)
    expected = F.cross_entropy(logits.reshape(-1, 11), tokens.reshape(-1))
    assert float((values * weights).sum() / weights.sum()) == pytest.approx(float(expected), rel=1e-6)
    wrong = zero_one(logits, tokens)
    assert wrong.shape == (4, 6)
    assert float(wrong[:, 4:].sum()) == 0
    assert torch.equal(wrong[:, :4], (logits.argmax(-1) != tokens)[:, :4].float())


def test_one_logit_is_a_decision_whatever_its_shape():
    logit, target = torch.tensor([[-1.0], [2.0], [0.5]]), torch.tensor([0, 1, 0])
    for outputs in (logit, logit[:, 0]):
        assert zero_one(outputs, target).tolist() == [0.0, 0.0, 1.0]


def test_kinds_are_read_off_loss_and_targets():
    assert Task().settled(NET, (X, Y)).kind == "classification"
    y = torch.zeros(23, 3, dtype=torch.float64)
    settled = Task(loss="mse").settled(NET, (X, y))
    assert settled.kind == "regression"
    assert settled.error is None
