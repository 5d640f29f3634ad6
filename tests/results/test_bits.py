"""Right and wrong answers as text: there and back, short, and refused when damaged."""

import base64
import zlib

import numpy as np
import pytest

from theorylens.results import packed_bits, unpacked_bits


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 1000])
def test_there_and_back(n):
    bits = np.random.default_rng(n).random(n) < 0.2
    assert unpacked_bits(packed_bits(bits), n).tolist() == bits.tolist()


def test_few_errors_take_little_room():
    bits = np.random.default_rng(0).random(10_000) < 0.02
    assert len(packed_bits(bits)) < 1500


def test_too_many_are_not_kept():
    assert packed_bits(np.zeros((1 << 20) + 1)) == ""
    assert packed_bits(np.zeros(1 << 20)) != ""


@pytest.mark.parametrize(
    ("text", "count", "said"),
    [
        ("?!", 8, "cannot be read"),
        (base64.b64encode(b"plain").decode(), 8, "cannot be read"),
        (packed_bits([1] * 8), 9, "holds 8 bits, not 9"),
        (base64.b64encode(zlib.compress(bytes(1 << 22))).decode(), 8, "not 8"),
    ],
)
def test_damaged_text_is_refused(text, count, said):
    with pytest.raises(ValueError, match=said):
        unpacked_bits(text, count)


def test_bits_are_one_list():
    with pytest.raises(ValueError, match="one list"):
        packed_bits([[1, 0]])
