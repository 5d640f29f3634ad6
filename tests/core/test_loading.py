import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from theorylens.core import RefusedError, Split, Subject, from_sklearn, load, read_split, read_weights

CODE = """
import torch
from torch import nn
import theorylens.core as tl
from beside import WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.out = nn.Linear(WIDTH, 3)
    def forward(self, x):
        return self.out(self.norm(self.hidden(x)).relu())

class Sized(Net):
    def __init__(self, width, depth=2):
        super().__init__()

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
    def forward(self, x):
        return self.second(self.first(x))

ready = Net()
number = 3

def make():
    x = torch.randn(7, 4)
    return tl.Subject(model=Net(), loss="cross_entropy", test=(x, torch.zeros(7).long()), name="made")

def broken():
    import a_package_that_is_absent
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "subject.py").write_text(CODE)
    (tmp_path / "beside.py").write_text("WIDTH = 5\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [n for n in sys.modules if n in ("beside", "subject") or n.startswith("subject_")]:
        del sys.modules[name]


@pytest.fixture
def state(code):
    torch.manual_seed(3)
    net = load("subject.py:Net", loss="cross_entropy").net
    return {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in net.state_dict().items()}


@pytest.fixture
def data(code):
    rng = np.random.default_rng(0)
    np.savez(code / "test.npz", x=rng.standard_normal((9, 4)), y=np.arange(9, dtype=np.int32) % 3)
    return "test.npz"


def weights_equal(subject, state):
    found = subject.net.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


# ---- code --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["subject.py:Net", "subject:Net", "subject.py:ready", "./subject.py:Net"])
def test_a_class_or_module_is_found_by_file_and_by_name(code, data, target):
    path, random_state = list(sys.path), torch.get_rng_state()
    subject = load(target, test=data, loss="cross_entropy", name="mine")
    assert sys.path == path
    assert torch.equal(torch.get_rng_state(), random_state)
    assert type(subject.net).__name__ == "Net"
    assert subject.name == "mine"
    assert not subject.net.training
    assert subject.scores("test").losses.shape == (9,)


def test_a_function_that_makes_a_subject(code, data):
    subject = Subject.load("subject.py:make")
    assert subject.name == "made"
    assert len(subject.split("test")) == 7
    replaced = load("subject.py:make", test=data, loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    assert len(replaced.split("test")) == 9
    assert isinstance(replaced.loss, nn.CrossEntropyLoss)


def test_two_loads_start_from_the_same_weights(code):
    first, second = (load("subject.py:Net", loss="cross_entropy") for _ in range(2))
    assert weights_equal(first, second.net.state_dict())


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("subject.py", "'subject.py' names no object; write 'subject.py:make'"),
        ("absent.py:make", "there is no subject file absent.py; 'theorylens init' writes one"),
        ("absent.module:Net", "there is no module absent.module .*install its package, or give a file"),
        ("subject.py:Nett", "subject.py has no Nett; it has torch, nn, tl, WIDTH, Net"),
        ("subject.py:Sized", r"needs the arguments width; write a function .*def make\(\): return Sized\(width=...\)"),
        ("subject.py:number", "is or returns a int; needed is a theorylens.Subject, a torch.nn.Module or a fitted"),
    ],
)
def test_what_is_no_subject_is_refused(code, target, words):
    with pytest.raises(RefusedError, match=words):
        load(target, loss="cross_entropy")


def test_an_import_that_fails_inside_the_code_says_what_is_absent(code):
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_absent"):
        load("subject.py:broken", loss="cross_entropy")


def test_the_loss_is_asked_for(code):
    with pytest.raises(RefusedError, match=r"give loss= .*--loss"):
        load("subject.py:Net")


# ---- weights -----------------------------------------------------------------------------------------------------


def test_safetensors_and_torch_files_load_exactly(code, state):
    save_file(state, "net.safetensors")
    torch.save(state, "net.pt")
    for name in ("net.safetensors", "net.pt"):
        subject = load("subject.py:Net", weights=name, loss="cross_entropy")
        assert weights_equal(subject, state)
        assert subject.notes == ()


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "module"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "_orig_mod.module."])
def test_nesting_and_prefixes_are_understood_and_said(code, state, key, prefix):
    content = {"epoch": 3, key: {prefix + name: t for name, t in state.items()}, "optimizer": {"lr": 0.1}}
    torch.save(content, "net.pth")
    subject = load("subject.py:Net", weights="net.pth", loss="cross_entropy")
    assert weights_equal(subject, state)
    said = [note.render() for note in subject.notes]
    assert said[0] == f"the weights were taken from the entry {key} of net.pth"
    assert said[1:] == ([f"the prefix {prefix} was taken off the names of the weights"] if prefix else [])


def test_half_precision_files_are_converted_and_said(code, state):
    save_file({k: t.half() if t.is_floating_point() else t for k, t in state.items()}, "net.safetensors")
    subject = load("subject.py:Net", weights="net.safetensors", loss="cross_entropy")
    assert torch.equal(subject.net.out.bias, state["out.bias"].half().float())
    assert [n.render() for n in subject.notes] == ["the weights were converted from float16 to float32"]


def test_tied_weights_and_old_batch_counters_may_be_absent(code, state):
    tied = load("subject.py:Tied", loss="mse").net
    with torch.no_grad():
        tied.first.weight.add_(1)
    save_model(tied, "tied.safetensors")
    again = load("subject.py:Tied", weights="tied.safetensors", init="tied.safetensors", loss="mse")
    assert torch.equal(again.init["second.weight"], tied.first.weight)
    assert torch.equal(again.net.second.weight, tied.first.weight)
    del state["norm.num_batches_tracked"]
    torch.save(state, "old.pt")
    assert torch.equal(load("subject.py:Net", weights="old.pt", loss="mse").net.out.bias, state["out.bias"])


def test_keys_that_do_not_match_are_named_with_the_nearest(code, state):
    state["output.bias"] = state.pop("out.bias")
    torch.save(state, "net.pt")
    words = (
        r"net.pt lacks 1 of the 9 weights of the model \(out.bias\) and has 1 that the model does not have "
        r"\(output.bias\); the nearest to out.bias is output.bias; give the model these weights were saved from"
    )
    with pytest.raises(RefusedError, match=words):
        load("subject.py:Net", weights="net.pt", loss="cross_entropy")


def test_another_shape_is_named(code, state):
    state["out.weight"] = torch.zeros(10, 5)
    torch.save(state, "net.pt")
    with pytest.raises(RefusedError, match=r"1 of 9 weights in net.pt .*out.weight is 10 x 5, the model has 3 x 5"):
        load("subject.py:Net", weights="net.pt", loss="cross_entropy")


class Bomb(nn.Module):
    """Unpickling it makes a file."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_a_hostile_pickle_is_refused_and_not_executed(code, zipped, nested):
    torch.save({"state_dict": Bomb()} if nested else Bomb(), "net.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(RefusedError, match="runs whatever code it names, so it was not read; if you trust"):
        load("subject.py:Net", weights="net.pt", loss="cross_entropy")
    assert not os.path.exists("exploded")
    with open("plain.pt", "wb") as file:
        pickle.dump(Bomb(), file)
    with pytest.raises(RefusedError):
        load("subject.py:Net", weights="plain.pt", loss="cross_entropy")
    assert not os.path.exists("exploded")
    pickle.loads(pickle.dumps(Bomb()))
    assert os.path.exists("exploded")  # the charge was live


def test_a_whole_module_is_refused_with_two_lines_that_convert_it(code, state):
    net = nn.Linear(2, 2)
    torch.save(net, "whole.pt")
    with pytest.raises(
        RefusedError, match=r"whole.pt is a pickle with an object of torch.nn.modules.linear.Linear"
    ) as e:
        load("subject.py:Net", weights="whole.pt", loss="cross_entropy")
    lines = "\n".join(line.strip() for line in str(e.value).splitlines()[1:])
    exec("import torch\n" + lines)
    assert torch.equal(read_weights("whole-weights.pt")[0]["weight"], net.weight)


def test_a_checkpoint_with_an_object_inside_gets_the_lines_for_a_dict(code, state):
    import argparse

    torch.save({"args": argparse.Namespace(lr=1), "state_dict": state}, "net.pt")
    with pytest.raises(RefusedError, match=r"argparse.Namespace(.|\n)*content\['state_dict'\]"):
        load("subject.py:Net", weights="net.pt", loss="cross_entropy")


def test_a_checkpoint_saved_on_a_gpu_loads_on_this_machine(code, state):
    torch.save(state, "cpu.pt")
    # A file saved on a GPU differs in the location tags of its storages, and in nothing else.
    import zipfile

    with zipfile.ZipFile("cpu.pt") as old, zipfile.ZipFile("cuda.pt", "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith("data.pkl"):
                assert b"X\x03\x00\x00\x00cpu" in content
                content = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            new.writestr(item.filename.replace("cpu/", "cuda/"), content)
    assert weights_equal(load("subject.py:Net", weights="cuda.pt", loss="mse"), state)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.pt", None, "there is no weights file absent.pt"),
        ("cut.pt", b"PK\x03\x04rest", "cut.pt is not a whole torch file"),
        ("empty.pt", b"", "empty.pt is not a whole torch file"),
        ("text.pt", b"hello", "text.pt is"),
        ("cut.safetensors", b"\x08\x00", "cut.safetensors is not a whole safetensors file"),
    ],
)
def test_damaged_files_are_refused(code, name, content, words):
    if content is not None:
        (code / name).write_bytes(content)
    with pytest.raises(RefusedError, match=words):
        load("subject.py:Net", weights=name, loss="cross_entropy")


def test_files_without_a_state_dict_are_refused(code):
    torch.save({"epoch": 3}, "epoch.pt")
    torch.save(torch.zeros(3), "tensor.pt")
    with pytest.raises(RefusedError, match=r"epoch.pt holds a dict with epoch and no state dict"):
        read_weights("epoch.pt")
    with pytest.raises(RefusedError, match=r"tensor.pt holds a Tensor and no state dict"):
        read_weights("tensor.pt")


def test_torchscript_is_refused(code):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save("script.pt")
        with pytest.raises(RefusedError, match=r"script.pt is a TorchScript archive, which holds code"):
            read_weights("script.pt")


def test_initial_weights_and_checkpoints_come_from_files(code, state, data):
    save_file(state, "init.safetensors")
    os.mkdir("run")
    for step in (1, 20):
        torch.save({"model": {f"module.{k}": t * step for k, t in state.items()}}, f"run/net-{step:03d}.pt")
    subject = load("subject.py:Net", loss="cross_entropy", test=data, init="init.safetensors", checkpoints="run")
    assert weights_equal(subject.initial().subject, state)
    assert sorted(subject.checkpoints) == [1, 20]
    assert torch.equal(subject.at(20).net.out.bias, state["out.bias"] * 20)
    assert sorted(load("subject.py:Net", loss="mse", checkpoints="run/net-02*.pt").checkpoints) == [20]
    with pytest.raises(RefusedError, match="has no checkpoints; give a folder"):
        load("subject.py:Net", loss="mse", checkpoints="run/*.ckpt")


def test_dtype_converts_model_and_data(code, data):
    subject = load("subject.py:Net", test=data, loss="cross_entropy", dtype=torch.float64)
    assert subject.split("test").take([0])[0].dtype == torch.float64
    assert subject.scores("test").losses.shape == (9,)


# ---- data --------------------------------------------------------------------------------------------------------

X = np.arange(12, dtype=np.float64).reshape(6, 2) / 7
Y = np.array([0, 1, 2, 0, 1, 2], dtype=np.int16)


def read(source, **options):
    return read_split(source, **options).take(range(6))


def test_every_kind_of_file_gives_the_same_examples(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    np.savez(tmp_path / "b.npz", X_unused=X, Images=X, Labels=Y[:, None])
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    save_file({"inputs": torch.tensor(X), "targets": torch.tensor(Y)}, tmp_path / "a.safetensors")
    rows = [f"{a!r},{y},{b!r}" for (a, b), y in zip(X.tolist(), Y.tolist(), strict=True)]
    (tmp_path / "a.csv").write_text("first,target,second\n" + "\n".join(rows))
    pair = tmp_path / "x.npy", tmp_path / "y.npy"
    sources = [*(tmp_path / n for n in ("a.npz", "b.npz", "a.safetensors", "a.csv")), pair, ",".join(map(str, pair))]
    for source in sources:
        x, y = read(source)
        assert torch.equal(x, torch.tensor(X, dtype=torch.float32)), source
        assert torch.equal(y, torch.tensor(Y).long()), source


def test_units_and_other_columns_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, units=np.array(list("aabbcc")))
    assert read_split(tmp_path / "a.npz").distinct_units == 3


def test_real_targets_stay_real_and_tokens_stay_integers(tmp_path):
    np.savez(tmp_path / "a.npz", x=Y[:, None].repeat(4, 1), y=X)
    x, y = read(tmp_path / "a.npz")
    assert not x.is_floating_point()
    assert y.dtype == torch.float32


def test_splits_and_tensors_pass_through():
    split = Split((torch.zeros(3), torch.zeros(3)))
    assert read_split(split) is split
    assert len(read_split((torch.zeros(3, 2), torch.zeros(3)))) == 3


def write(folder, name):
    path = folder / name
    match name:
        case "keys.npz":
            np.savez(path, a=X, y=Y)
        case "rows.npz":
            np.savez(path, x=X, y=Y[:4])
        case "objects.npz":
            np.savez(path, x=np.array([{"a": 1}], dtype=object), y=Y[:1])
        case "words.npz":
            np.savez(path, x=np.array(["a", "b"]), y=Y[:2])
        case "one.npy":
            np.save(path, X)
        case "cut.npz":
            path.write_bytes(b"PK\x03\x04")
        case "header.csv":
            path.write_text("a,b\n1,2\n")
        case "word.csv":
            path.write_text("a,y\n1,2\nx,3\n")
        case "ragged.csv":
            path.write_text("a,y\n1,2\n1\n")
        case "data.xlsx":
            path.write_text("")
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("keys.npz", "keys.npz has the entries a, y; needed are x and y"),
        ("rows.npz", "rows.npz has 6 inputs and 4 targets; both need one row per example"),
        ("objects.npz", "objects.npz holds Python objects, which only a pickle can read"),
        ("words.npz", "words.npz holds values of type <U1; save numbers"),
        ("one.npy", "one.npy holds one array; needed are inputs and targets"),
        ("cut.npz", "cut.npz is not a whole numpy file"),
        ("header.csv", "header.csv has the columns a, b; name the one with the targets y"),
        ("word.csv", "line 3 of word.csv: .*every value must be a number"),
        ("ragged.csv", "line 3 of ragged.csv has 1 values for 2 columns"),
        ("data.xlsx", "data.xlsx is not a kind of data file that is read; give .csv, .npy, .npz, .safetensors"),
        ("absent.npz", "there is no data file .*absent.npz"),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path, name, words):
    with pytest.raises(RefusedError, match=words):
        read_split(write(tmp_path, name))


def test_outputs_alone_make_a_subject(tmp_path):
    logits = np.random.default_rng(0).standard_normal((50, 3))
    labels = np.random.default_rng(1).integers(0, 3, 50)
    np.save(tmp_path / "logits.npy", logits)
    np.save(tmp_path / "labels.npy", labels)
    np.savez(tmp_path / "both.npz", logits=logits, labels=labels)
    wanted = (logits.argmax(1) != labels).mean()
    for source in ((tmp_path / "logits.npy", tmp_path / "labels.npy"), tmp_path / "both.npz"):
        subject = load(test=source)
        assert subject.model is None
        assert float(subject.scores("test").errors.mean()) == pytest.approx(wanted)
    with pytest.raises(RefusedError, match=r"no model was named; give 'file.py:make'"):
        load()


# ---- scikit-learn ------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
SX = RNG.standard_normal((120, 5)) * 3 + 1
MANY = (SX @ RNG.standard_normal((5, 3))).argmax(1)
TWO = (SX[:, 0] > 1).astype(int)
REAL = SX @ RNG.standard_normal((5, 2)) + RNG.standard_normal((120, 2))
QUICK = {"max_iter": 30, "random_state": 0, "hidden_layer_sizes": (7, 4)}

CLASSIFIERS = {
    **{f"mlp {a}": (MLPClassifier(activation=a, **QUICK), MANY) for a in ("relu", "tanh", "logistic", "identity")},
    "mlp two": (MLPClassifier(**QUICK), TWO),
    "mlp labels from 3": (MLPClassifier(**QUICK), MANY + 3),
    "logistic": (LogisticRegression(), MANY),
    "logistic two": (LogisticRegression(fit_intercept=False), TWO),
    "sgd": (SGDClassifier(loss="log_loss", random_state=0), MANY),
    "sgd two": (SGDClassifier(loss="log_loss", random_state=0), TWO),
    "pipeline": (make_pipeline(StandardScaler(), MLPClassifier(**QUICK)), MANY),
}
REGRESSORS = {
    "mlp": (MLPRegressor(**QUICK), REAL),
    "mlp one": (MLPRegressor(**QUICK), REAL[:, 0]),
    "linear": (LinearRegression(), REAL),
    "linear one": (LinearRegression(fit_intercept=False), REAL[:, 0]),
    "ridge": (Ridge(), REAL),
    "pipeline": (make_pipeline(StandardScaler(with_std=False), Ridge()), REAL),
}


def fitted(estimator, y):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(SX, y)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_convert_exactly(name):
    estimator = fitted(*CLASSIFIERS[name])
    with torch.no_grad():
        chances = from_sklearn(estimator)(torch.from_numpy(SX)).softmax(1).numpy()
    assert np.abs(chances - estimator.predict_proba(SX)).max() < 1e-12


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_convert_exactly(name):
    estimator = fitted(*REGRESSORS[name])
    with torch.no_grad():
        values = from_sklearn(estimator)(torch.from_numpy(SX)).numpy()
    assert np.abs(values - estimator.predict(SX).reshape(values.shape)).max() < 1e-12


def test_a_multilabel_network_converts_exactly():
    estimator = fitted(MLPClassifier(**QUICK), np.stack([TWO, 1 - TWO], 1))
    with torch.no_grad():
        chances = from_sklearn(estimator)(torch.from_numpy(SX)).sigmoid().numpy()
    assert np.abs(chances - estimator.predict_proba(SX)).max() < 1e-12


def test_a_hinge_classifier_keeps_its_decisions():
    estimator = fitted(SGDClassifier(random_state=0), MANY)
    with torch.no_grad():
        chosen = from_sklearn(estimator)(torch.from_numpy(SX)).argmax(1).numpy()
    assert (chosen == estimator.predict(SX)).all()
    with pytest.raises(RefusedError, match="give loss="):
        load(estimator)


def test_an_estimator_is_a_subject_with_its_own_classes(tmp_path):
    estimator = fitted(*CLASSIFIERS["mlp labels from 3"])
    np.savez(tmp_path / "test.npz", x=SX, y=MANY + 3)
    subject = load(estimator, test=tmp_path / "test.npz")
    assert float(subject.scores("test").errors.mean()) == pytest.approx(1 - estimator.score(SX, MANY + 3))
    np.savez(tmp_path / "other.npz", x=SX, y=MANY)
    with pytest.raises(RefusedError, match=r"knows the classes \[3, 4, 5\], the targets also have \[0, 1, 2\]"):
        load(estimator, test=tmp_path / "other.npz")


def test_estimators_that_do_not_convert_are_refused():
    from sklearn.tree import DecisionTreeClassifier

    with pytest.raises(RefusedError, match=r"a DecisionTreeClassifier cannot be converted .*these can: MLPClassifier"):
        from_sklearn(DecisionTreeClassifier().fit(SX, TWO))
    with pytest.raises(RefusedError, match=r"the Ridge is not fitted; call fit\(X, y\)"):
        from_sklearn(Ridge())


def test_a_conversion_that_is_not_exact_is_refused():
    class Skewed(LogisticRegression):
        def predict_proba(self, X):
            return np.roll(super().predict_proba(X), 1, axis=1)

    Skewed.__name__ = "LogisticRegression"
    with pytest.raises(RefusedError, match="the module made from this LogisticRegression differs from it by"):
        from_sklearn(Skewed().fit(SX, TWO))


def test_loading_needs_no_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None; from theorylens.core import load; print('fine')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "fine", found.stderr
