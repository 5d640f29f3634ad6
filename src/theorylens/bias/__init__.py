"""bias."""

PROBES: tuple[object, ...] = ()
