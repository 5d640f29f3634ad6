"""Randomness is keyed and passed in; the caller's global random state is never touched."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def key_seed(*key: object) -> int:
    """A 56-bit seed from the words of a key; adding a probe cannot move another's stream."""
    digest = hashlib.sha256("/".join(str(k) for k in key).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def rng_for(seed: int, code: str, rung: int | None = None) -> torch.Generator:
    """The CPU generator of a probe: a pure function of (seed, code, rung)."""
    return torch.Generator().manual_seed(key_seed(seed, code, rung))


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and ``random``: code of the user may draw from any of them. Only inside a kept state."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))  # noqa: NPY002
    # What `torch.manual_seed` does, for the devices that are there: for the others it keeps the call, with the stack
    # it came from, until they are initialised. In a training loop that cost more than the step and never ended.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
    if torch.xpu.is_available():
        torch.xpu.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


@contextmanager
def global_randomness_kept(seed: int | None = None) -> Iterator[None]:
    """Give torch, CUDA, numpy and ``random`` their state back afterwards; with ``seed``, set them all inside."""
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        if seed is not None:
            seed_everything(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.random.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
