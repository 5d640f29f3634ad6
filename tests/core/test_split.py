import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from theorylens.core import RefusedError, Split

X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)


def collect(split, size):
    return torch.cat([b[0] for b in split.batches(size)]), torch.cat([b[1] for b in split.batches(size)])


SOURCES = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "dataset": TensorDataset(X, Y),
    "loader": DataLoader(TensorDataset(X, Y), batch_size=3),
    "shuffled loader": DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True),
    "list of examples": list(zip(X, Y, strict=True)),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_every_source_gives_the_same_rows_in_the_same_order(source, size):
    x, y = collect(Split.of(SOURCES[source]), size)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_the_same_hash(source):
    assert Split.of(SOURCES[source]).sha256 == Split((X, Y)).sha256


def test_a_shuffling_loader_is_read_in_order_and_said():
    assert "RandomSampler" in Split(SOURCES["shuffled loader"]).notes[0].render()
    assert Split(SOURCES["loader"]).notes == ()


def test_a_dict_batch_keeps_its_keys():
    batch = Split({"x": X, "y": Y}).take([3, 1])
    assert torch.equal(batch["x"], X[[3, 1]])


def test_the_targets_of_a_dict_are_not_inputs():
    one, other = Split({"x": X, "labels": Y}), Split({"x": X, "labels": Y + 1})
    assert one.input_hashes == other.input_hashes
    assert one.row_hashes != other.row_hashes
    assert Split({"y": Y}).input_hashes == Split({"y": Y}).row_hashes  # nothing else to go by


def test_a_subset_does_not_depend_on_the_labels():
    x = torch.arange(1000.0)[:, None]
    assert torch.equal(Split((x, torch.zeros(1000))).subset(50), Split((x, torch.ones(1000))).subset(50))


class Padded(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, i):
        return torch.arange(i + 1.0), i


def pad(items):
    width = max(len(x) for x, _ in items)
    return torch.stack([torch.nn.functional.pad(x, (0, width - len(x))) for x, _ in items]), torch.tensor(
        [y for _, y in items]
    )


def test_a_custom_collate_is_used_for_every_batch():
    split = Split(DataLoader(Padded(), batch_size=2, collate_fn=pad))
    assert [b[0].shape for b in split.batches(2)] == [(2, 2), (2, 4), (1, 5)]
    assert split.distinct_rows == 5  # hashed one by one, so that padding does not depend on the company


class Augmented(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, i):
        return X[i % 10] + torch.rand(2), Y[i % 10]


def test_a_dataset_that_answers_differently_twice_is_named():
    assert Split(Augmented()).unstable() == "Augmented"
    assert Split(TensorDataset(X, Y)).unstable() is None


@pytest.mark.parametrize("empty", [(X[:0], Y[:0]), [], TensorDataset(X[:0], Y[:0])])
def test_no_examples_are_refused(empty):
    with pytest.raises(RefusedError, match="0 examples"):
        len(Split(empty))


def test_an_unreadable_source_is_refused_with_what_would_do():
    with pytest.raises(RefusedError, match="give \\(inputs, targets\\) tensors"):
        len(Split(3))


@pytest.mark.parametrize("name", ["units", "environments", "ids", "weights"])
def test_one_value_per_row_is_needed(name):
    with pytest.raises(RefusedError, match=f"has 3 {name} for 10 rows"):
        len(Split((X, Y), **{name: [1, 2, 3]}))


def test_units_and_copies_are_counted():
    doubled = Split((torch.cat([X, X]), torch.cat([Y, Y])), units=list("aabbccddee") * 2)
    assert (len(doubled), doubled.distinct_rows, doubled.distinct_units) == (20, 10, 5)
    assert doubled.content == Split((X, Y)).content
    assert doubled.sha256 != Split((X, Y)).sha256


def test_content_does_not_depend_on_the_order():
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    assert Split((X[order], Y[order])).content == Split((X, Y)).content


def test_equal_numbers_of_another_type_are_another_row():
    assert Split((X, Y)).sha256 != Split((X.double(), Y)).sha256


def test_a_subset_is_a_keyed_choice_that_follows_the_content():
    big = Split((torch.arange(1000.0)[:, None], torch.zeros(1000)))
    index = big.subset(100)
    assert len(set(index.tolist())) == 100
    assert index.tolist() == sorted(index.tolist())
    assert torch.equal(index, Split((torch.arange(1000.0)[:, None], torch.zeros(1000))).subset(100))
    counts = np.histogram(index, bins=4, range=(0, 1000))[0]
    assert counts.min() > 10  # spread over the file: a sorted file does no harm
    assert torch.equal(big.subset(5000), torch.arange(1000))
