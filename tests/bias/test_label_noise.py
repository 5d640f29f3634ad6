"""Wrong labels: counts, matrices known in full, unbiased corrections, and a real run that memorises."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from theorylens.bias import (
    LogitRecorder,
    area_under_margin,
    backward_correction,
    backward_loss,
    clean_probability,
    confident_joint,
    flip_labels,
    flip_rate,
    forward_loss,
    margins,
    noise_breakdown,
    noise_curves,
    suspected_labels,
    symmetry_gap,
    transition_matrix,
)
from theorylens.report._plots import figure
from theorylens.training import Keeping, Optimisation, fit

NOISE = np.array([[0.8, 0.15, 0.05], [0.1, 0.9, 0.0], [0.0, 0.3, 0.7]])


def test_a_breakdown_is_counted():
    true, noisy = [0, 0, 1, 1, 2, 2], [0, 0, 1, 0, 0, 1]
    found = noise_breakdown(true, noisy, [0, 1, 1, 1, 0, 0])
    assert found.noise_rate.value == pytest.approx(1 / 2)
    assert found.clean_accuracy.value == pytest.approx(2 / 3)
    assert [found.corrected.value, found.memorised.value, found.other.value] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert found.accuracy.value == pytest.approx(1 / 2)
    assert found.noise_rate.lower < 0.5 < found.noise_rate.upper


def test_the_counts_of_the_tutorial_s_example():
    """S5.3-2: 178 flips among 1,000, right on 676 rows with right labels and on 146 with flipped ones."""
    true = np.zeros(1000, dtype=int)
    noisy = np.where(np.arange(1000) < 178, 1, 0)
    predicted = np.where((np.arange(1000) < 146) | (np.arange(1000) >= 1000 - 676), 0, 2)
    found = noise_breakdown(true, noisy, predicted)
    values = [found.noise_rate.value, found.clean_accuracy.value, found.corrected.value, found.accuracy.value]
    assert [round(v, 4) for v in values] == [0.178, 0.8224, 0.8202, 0.822]


def test_without_flips_there_is_no_nan():
    found = noise_breakdown([0, 1], [0, 1], [0, 0])
    assert (found.corrected, found.memorised, found.other) == (None, None, None)
    assert noise_breakdown([0, 1], [1, 0], [0, 0]).clean_accuracy is None


def test_resampled_labels_flip_less_than_the_share_resampled(golden):
    assert flip_rate(0.2, 10) == pytest.approx(golden("G5.3-6"), rel=1e-9)
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (100_000,), generator=g)
    assert (flip_labels(labels, 0.2, 10, g) != labels).double().mean().item() == pytest.approx(0.2, abs=0.005)


def test_the_contract_s_inverse(golden):
    assert backward_correction([[0.8, 0.2], [0.3, 0.7]]) == pytest.approx(np.array(golden("G5.3-5")), rel=1e-9)


def test_the_backward_loss_is_unbiased_and_the_forward_loss_has_the_clean_minimiser():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=g).double()
    clean = -torch.log_softmax(logits, 1)
    for y in range(3):
        each = torch.stack([backward_loss(logits, torch.full((5,), k), NOISE) for k in range(3)], 1)
        assert torch.allclose(each @ torch.from_numpy(NOISE[y]), clean[:, y], rtol=1e-9)
    truth = torch.tensor([0.5, 0.3, 0.2]).double()
    share = truth @ torch.from_numpy(NOISE)
    guess = torch.zeros(1, 3).double().requires_grad_()
    optimiser = torch.optim.LBFGS([guess], max_iter=200, tolerance_grad=1e-12)

    def closure():
        optimiser.zero_grad()
        value = sum(share[k] * forward_loss(guess, torch.tensor([k]), NOISE)[0] for k in range(3))
        value.backward()
        return value

    optimiser.step(closure)
    assert torch.allclose(torch.softmax(guess.detach(), 1)[0], truth, atol=1e-5)


def sharp(n, noise, seed=0):
    """Rows whose class is known to the model up to its calibrated noise."""
    g = np.random.default_rng(seed)
    true = g.integers(0, 3, size=n)
    labels = np.array([g.choice(3, p=noise[t]) for t in true])
    return true, labels, noise[true]


def test_both_estimates_find_the_matrix_of_a_model_that_knows_the_classes():
    _, labels, p = sharp(20_000, NOISE)
    for method in ("confident", "anchor"):
        assert np.abs(transition_matrix(labels, p, method=method) - NOISE).max() < 0.02


def test_the_joint_keeps_the_label_counts():
    _, labels, p = sharp(3000, NOISE)
    joint = confident_joint(labels, p)
    assert joint.sum(1) == pytest.approx(np.bincount(labels) / 3000, rel=1e-12)


def test_exactly_the_wrong_labels_are_suspected_when_the_model_knows():
    true, labels, _ = sharp(500, NOISE)
    p = np.full((500, 3), 0.02)
    p[np.arange(500), true] = 0.96
    found = suspected_labels(labels, p)
    assert sorted(found.tolist()) == np.flatnonzero(labels != true).tolist()
    assert len(suspected_labels(true, p)) == 0


def test_mean_absolute_error_tolerates_even_noise_and_cross_entropy_does_not():
    def mae(logits, labels):
        return 2 - 2 * torch.softmax(logits, 1).gather(1, labels[:, None])[:, 0]

    def cross_entropy(logits, labels):
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    g = torch.Generator().manual_seed(0)
    assert symmetry_gap(mae, 4, g) < 1e-12
    assert symmetry_gap(cross_entropy, 4, g) > 0.5


def test_margins_by_hand():
    logits = torch.tensor([[[2.0, 1.0, 0.0], [0.0, 5.0, 1.0]], [[0.0, 1.0, 3.0], [4.0, 5.0, 1.0]]])
    labels = torch.tensor([0, 2])
    assert margins(logits, labels).tolist() == [[1.0, -4.0], [-3.0, -4.0]]
    assert area_under_margin(logits, labels).tolist() == [-1.0, -4.0]


@pytest.fixture(scope="module")
def run():
    """Digits with 20 % of the labels flipped, trained until they are memorised."""
    x, y = load_digits(return_X_y=True)
    x, true = torch.tensor(x[:600] / 16, dtype=torch.float32), torch.tensor(y[:600])
    noisy = flip_labels(true, 0.2, 10, torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    recorder = LogitRecorder((x, noisy), every=19)
    how = Optimisation(optimizer="adam", lr=5e-3, batch_size=32, epochs=50)
    done = fit(net, (x, noisy), "cross_entropy", how, callbacks=[recorder], keeping=Keeping(checkpoints=7))
    return done.subject(), recorder, true, noisy


def auc(scores, positive):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(positive, scores)


def test_early_margins_find_wrong_labels_on_a_real_run(run):
    _, recorder, true, noisy = run
    flipped = (true != noisy).numpy()
    early = area_under_margin(torch.stack(recorder.logits[1:16]), noisy)
    assert auc(-early, flipped) > 0.97
    losses = nn.functional.cross_entropy(recorder.logits[5], noisy, reduction="none")
    clean = clean_probability(losses)
    assert auc(-clean, flipped) > 0.95
    assert ((clean < 0.5) == flipped).mean() > 0.93


def test_a_real_network_first_corrects_and_then_memorises(run):
    subject, _, true, _ = run
    found = noise_curves(subject, true)
    assert found.corrected.max() > 0.7
    assert found.memorised[-1] > 0.8
    assert 0 < found.best < found.steps[-1]
    assert figure(found.curve()) is not None


def test_refusals():
    p = np.full((4, 2), 0.5)
    for call, match in (
        (lambda: noise_breakdown([0, 1], [0], [0, 1]), "one length"),
        (lambda: noise_breakdown([], [], []), "not empty"),
        (lambda: flip_rate(1.5, 10), "0 to 1"),
        (lambda: flip_labels(torch.zeros(2), 0.1, 1, torch.Generator()), "2 classes or more"),
        (lambda: transition_matrix([0, 1], p), "labels must have shape"),
        (lambda: transition_matrix([0, 1, 0, 1], p, method="guess"), "'confident' or 'anchor'"),
        (lambda: confident_joint([0, 1, 0, 2], p), "classes from 0 to 1"),
        (lambda: suspected_labels([0, 1, 0, 1], 2 * p), "add up to 1"),
        (lambda: backward_correction([[0.5, 0.5], [0.5, 0.5]]), "cannot be inverted"),
        (lambda: backward_correction([[0.5, 0.6], [0.5, 0.5]]), "rows of probabilities"),
        (lambda: symmetry_gap(lambda a, b: a, 1, torch.Generator()), "2 classes"),
        (lambda: area_under_margin(torch.zeros(3, 2), torch.zeros(3)), "steps, n, classes"),
        (lambda: area_under_margin(torch.zeros(2, 3, 2), torch.zeros(2).long()), "n class numbers"),
        (lambda: area_under_margin(torch.zeros(2, 3, 1), torch.zeros(3).long()), "2 classes or more"),
        (lambda: clean_probability([1.0]), "at least 10"),
        (lambda: clean_probability([1.0] * 20), "all losses are equal"),
        (lambda: LogitRecorder((torch.zeros(2, 1), torch.zeros(2)), every=0), "every must be at least 1"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_curves_need_checkpoints_and_flips(run, subject):
    with pytest.raises(ValueError, match="no checkpoints"):
        noise_curves(subject, torch.zeros(1000))
    noisy = run[0].split("train").take(range(600))[1]
    with pytest.raises(ValueError, match="flip a part"):
        noise_curves(run[0], noisy)
