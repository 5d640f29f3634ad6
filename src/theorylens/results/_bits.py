"""Right or wrong, example by example, as a short text that JSON can hold."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 1 << 20  # examples: 175 kB of text at worst


def packed_bits(values: Any) -> str:
    """Zeros and ones as text: eight to a byte, compressed, base64. Empty for more than `MOST` of them.

    >>> unpacked_bits(packed_bits([1, 0, 0, 1, 1]), 5).tolist()
    [True, False, False, True, True]
    """
    bits = np.asarray(values, dtype=bool)
    if bits.ndim != 1:
        raise ValueError(f"bits are one list, got shape {bits.shape}")
    if len(bits) > MOST:
        return ""
    return base64.b64encode(zlib.compress(np.packbits(bits).tobytes(), 9)).decode("ascii")


def unpacked_bits(text: str, count: int) -> NDArray[np.bool_]:
    """The first ``count`` bits of `packed_bits`.

    Raises
    ------
    ValueError
        Text that is not base64 of a compressed list of that length.
    """
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), (MOST >> 3) + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError("the list of right and wrong answers cannot be read") from error
    if len(raw) != -(-count // 8):
        raise ValueError(f"the list of right and wrong answers holds {8 * len(raw)} bits, not {count}")
    return np.unpackbits(np.frombuffer(raw, dtype=np.uint8))[:count].astype(bool)
