"""kernels."""

from ._empirical import ntk

__all__ = ["ntk"]

PROBES: tuple[object, ...] = ()
