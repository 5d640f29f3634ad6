"""In which directions does the network learn, and did training change them?

`ntk` is the exact tangent kernel of any module; what is said about it (`alignment`, `effective_dimension`,
`kernel_movement`) takes plain matrices. Probes use one keyed choice of training rows and compute each kernel once.
"""

from ._alignment import alignment
from ._alignment_probe import probe_alignment
from ._balanced_alignment import balanced_alignment
from ._dimension_probe import probe_effective_dimension
from ._dynamics import Trajectory, Unseen, gradient_descent, gradient_flow, max_stable_lr
from ._effective_dimension import effective_dimension, leverage
from ._empirical import ntk
from ._entropy_flow import cross_entropy_flow
from ._infinite import Affine, WideKernels, WideNetwork, wide_kernels, wide_network
from ._linearised import Linearised
from ._movement import Movement, kernel_movement
from ._movement_probe import probe_movement
from ._reading import read_wide_network

PROBES = (probe_alignment, probe_effective_dimension, probe_movement)

__all__ = [
    "PROBES", "Affine", "Linearised", "Movement", "Trajectory", "Unseen", "WideKernels", "WideNetwork", "alignment",
    "balanced_alignment", "cross_entropy_flow", "effective_dimension", "gradient_descent", "gradient_flow",
    "kernel_movement", "leverage", "max_stable_lr", "ntk", "probe_alignment", "probe_effective_dimension",
    "probe_movement", "read_wide_network", "wide_kernels", "wide_network",
]  # fmt: skip
