"""landscape."""

PROBES: tuple[object, ...] = ()
