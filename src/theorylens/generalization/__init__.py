"""generalization."""

PROBES: tuple[object, ...] = ()
