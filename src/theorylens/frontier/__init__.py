"""frontier."""

PROBES: tuple[object, ...] = ()
