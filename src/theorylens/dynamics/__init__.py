"""dynamics."""

PROBES: tuple[object, ...] = ()
