import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from theorylens.auditing import preflight
from theorylens.core import RefusedError, Split, Subject, Task

from .conftest import X, Y, tiny


def notes(subject):
    return " | ".join(n.render() for n in preflight(subject))


def test_a_clean_subject_has_nothing_to_say():
    s = tiny()
    s.model.eval()
    assert preflight(s) == ()


def test_training_mode_is_handled_said_and_given_back():
    s = tiny()
    s.model.train()
    assert "1 (BatchNorm1d) was in training mode" in notes(s)
    assert s.model.training


def test_a_model_that_draws_random_numbers_in_evaluation_mode_is_refused():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(5, 2)

        def forward(self, x):
            return self.body(nn.functional.dropout(x, 0.5))  # training=True is its default

    with pytest.raises(RefusedError, match=r"two passes over the same 40 examples differ.*training=self.training"):
        preflight(tiny(model=Noisy()))


class Augmented(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        return X[i] + torch.randn(5), Y[i]


def test_a_dataset_that_answers_differently_twice_is_refused_by_name():
    with pytest.raises(RefusedError, match="the train dataset Augmented answers differently the second time"):
        preflight(tiny(train=Augmented()))


def test_a_parameter_that_is_not_finite_is_named():
    s = tiny()
    with torch.no_grad():
        s.model[3].bias[0] = torch.inf
    with pytest.raises(RefusedError, match=r"parameter 3\.bias has 1 values of 2 that are not finite"):
        preflight(s)


def test_a_loss_that_is_not_finite_names_its_example():
    bad = X.clone()
    bad[43] = torch.inf
    with pytest.raises(RefusedError, match="the loss is nan on example 3 of test and not finite on 1 of 20"):
        preflight(tiny(test=(bad[40:], Y[40:])))


def test_an_empty_split_is_refused():
    with pytest.raises(RefusedError, match="0 examples"):
        preflight(tiny(test=(X[:0], Y[:0])))


def test_a_wrong_output_size_is_refused_with_both_numbers():
    with pytest.raises(RefusedError, match="has 2 outputs, but targets run from 0 to 4"):
        preflight(tiny(train=(X[:40], torch.arange(40) % 5)))


def test_a_subject_without_data_is_refused():
    with pytest.raises(RefusedError, match="the subject has no data"):
        preflight(Subject(model=nn.Linear(5, 2), loss="cross_entropy"))


def test_a_shuffling_loader_is_read_in_order_and_said():
    loader = DataLoader(TensorDataset(X[:40], Y[:40]), batch_size=8, shuffle=True)
    assert "its dataset is read in order" in notes(tiny(train=loader))
    assert torch.equal(tiny(train=loader).scores("train").losses, tiny().scores("train").losses)


def test_dict_batches_work_through_a_forward():
    task = Task(forward=lambda model, batch: (model(batch["x"]), batch["y"]))
    s = tiny(task=task, train={"x": X[:40], "y": Y[:40]}, test={"x": X[40:], "y": Y[40:]})
    s.model.eval()
    assert preflight(s) == ()
    with pytest.raises(RefusedError, match="def forward"):
        preflight(tiny(train={"x": X[:40], "y": Y[:40]}))


def test_overlap_copies_units_and_one_class_are_said():
    s = tiny(
        train=Split((torch.cat([X[:40], X[:2]]), torch.cat([Y[:40], Y[:2]])), units=list(range(21)) * 2),
        test=(X[30:50], torch.ones(20, dtype=torch.long)),
    )
    said = notes(s)
    assert "train has 2 rows that are exact copies of others" in said
    assert "train has 21 independent units in 42 rows" in said
    assert "10 inputs of test are also in train" in said
    assert "every test example has the same label" in said
