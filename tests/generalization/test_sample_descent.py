"""Sample-wise and epoch-wise double descent of networks: what is trained on, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.bias import flip_labels
from theorylens.core import global_randomness_kept, key_seed
from theorylens.generalization import double_descent, sample_descent
from theorylens.training import Optimisation, fit

HOW = Optimisation(optimizer="adam", lr=1e-2, batch_size=20, epochs=15)


def make(width, seed):
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def test_a_network_trained_on_few_and_on_many_rows_is_the_one_of_those_rows(digits):
    x, y = digits
    train, test = (x[:160], y[:160]), (x[300:700], y[300:700])
    curve = sample_descent(
        make, train, test, width=24, examples=[20, 160], rate=0.1, optimisation=HOW, seeds=(0, 1), jobs=1
    )  # fmt: skip
    assert curve.test.shape == curve.train.shape == (2, 2)
    assert curve.sizes.tolist() == [20, 160]
    seed = 1  # the same run by hand
    noisy = flip_labels(y[:160], 0.1, 10, torch.Generator().manual_seed(key_seed(seed, "label noise")))
    order = torch.randperm(160, generator=torch.Generator().manual_seed(key_seed(seed, "examples")))[:20]
    with global_randomness_kept(key_seed(seed, "double descent", 24)):
        net = make(24, seed)
    fit(net, (x[:160][order], noisy[order]), "cross_entropy", HOW, seed=seed)
    wrong = float((net(test[0]).argmax(1) != test[1]).double().mean())
    assert curve.test[0, 1] == pytest.approx(wrong)
    assert (curve.test[0] > curve.test[1]).all()
    assert "width 24 on growing training sets, 10" in curve.label.render()
    with pytest.raises(ValueError, match="at most 160, got"):
        sample_descent(make, train, test, width=4, examples=[20, 200], rate=0.1, optimisation=HOW)
    with pytest.raises(ValueError, match="increase from at least 1"):
        sample_descent(make, train, test, width=4, examples=[20, 10], rate=0.1, optimisation=HOW)
    stopped = Optimisation(epochs=2, stop_at=0.1)
    with pytest.raises(ValueError, match="leave out stop_at"):
        double_descent(make, train, test, widths=[2, 4], rate=0.1, optimisation=stopped)


@pytest.mark.slow
def test_with_label_noise_longer_training_of_a_wide_network_hurts_and_more_rows_help_it(digits):
    """Epoch-wise: noisy digits are learnt, then the noise is; the memorised noise costs test error."""
    x, y = digits
    train, test = (x[:400], y[:400]), (x[800:1700], y[800:1700])
    how = Optimisation(optimizer="adam", lr=1e-2, batch_size=100, epochs=100)
    found = double_descent(
        make, train, test, widths=[4, 256], rate=0.3, optimisation=how, seeds=(0, 1, 2), jobs=1
    ).by_epoch(256)  # fmt: skip
    mean, best = found.test.mean(1), int(found.test.mean(1).argmin())
    assert found.train[-1].max() <= 0.01  # everything is memorised
    assert best < len(mean) // 2
    rise = found.test[-1] - found.test[best]
    assert rise.mean() > 3 * rise.std(ddof=1) / np.sqrt(3)
    rows = sample_descent(
        make, train, test, width=256, examples=[50, 400], rate=0.3, optimisation=how, seeds=(0, 1, 2), jobs=1
    )  # fmt: skip
    assert (rows.test[1] < rows.test[0]).all()
