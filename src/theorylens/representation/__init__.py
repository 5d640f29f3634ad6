"""Representation: what do the layers keep of the inputs, and in what form?

Design: features are read layer by layer on one keyed choice of rows; each curve over depth has the untrained network
beside it, because random layers already do much of what training is praised for.
"""

from ._dimension_by_depth import probe_two_nn
from ._intrinsic_dimension import two_nn
from ._linear_probe import Read, linear_probe
from ._readout_by_depth import probe_linear_probe

__all__ = ["PROBES", "Read", "linear_probe", "probe_linear_probe", "probe_two_nn", "two_nn"]

PROBES = (probe_two_nn, probe_linear_probe)
