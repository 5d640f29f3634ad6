"""kernels."""

PROBES: tuple[object, ...] = ()
