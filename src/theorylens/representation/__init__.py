"""representation."""

PROBES: tuple[object, ...] = ()
