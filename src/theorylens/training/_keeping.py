"""What a training run leaves behind: checkpoints by step, and the state from which a killed run goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

RESUME = "resume.pt"


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What to keep of a run, and where.

    Parameters
    ----------
    checkpoints
        A number of checkpoints, spaced evenly in the logarithm of the step and ending at the last, or the steps.
    every
        Steps between two records of the history; None: once an epoch.
    directory
        Where checkpoints (``step-00000400.safetensors``) and the state to resume from are written; None keeps
        checkpoints in memory.
    resume
        Go on from what ``directory`` holds of the same run. False starts over and removes what is there.
    """

    checkpoints: int | Sequence[int] = 0
    every: int | None = None
    directory: str | Path | None = None
    resume: bool = True

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be at least 1 step, got {self.every}")
        if isinstance(self.checkpoints, int) and self.checkpoints < 0:
            raise ValueError(f"checkpoints must not be negative, got {self.checkpoints}")

    def checkpoint_steps(self, total: int) -> tuple[int, ...]:
        """The steps at which weights are kept, of a run of ``total`` steps."""
        if isinstance(self.checkpoints, int):
            spaced = np.geomspace(1, total, self.checkpoints) if self.checkpoints > 1 else [total] * self.checkpoints
            return tuple(sorted({round(float(s)) for s in spaced}))
        steps = tuple(sorted(set(self.checkpoints)))
        if steps and (steps[0] < 0 or steps[-1] > total):
            raise ValueError(f"checkpoints {list(steps)} lie outside the run, which has steps 0 to {total}")
        return steps

    def record_steps(self, total: int, per_epoch: int) -> frozenset[int]:
        return frozenset({0, *range(0, total, self.every or per_epoch), total})


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict on the CPU, in which tied tensors are separate."""
    return {name: t.detach().cpu().clone().contiguous() for name, t in model.state_dict().items()}


def write_state(state: Mapping[str, Tensor], path: Path) -> Path:
    """A state dict as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    save_file(dict(state), str(part))
    os.replace(part, path)
    return path


def write_resume(content: Mapping[str, Any], directory: Path) -> None:
    """Tensors, numbers and words only: read back with ``weights_only=True``."""
    part = directory / f"{RESUME}.{os.getpid()}.part"
    torch.save(dict(content), part)
    os.replace(part, directory / RESUME)


def read_resume(directory: Path) -> dict[str, Any] | None:
    path = directory / RESUME
    if not path.exists():
        return None
    content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return content


def checkpoint_path(directory: Path, step: int) -> Path:
    return directory / f"step-{step:08d}.safetensors"


def clear(directory: Path) -> None:
    """Remove what an earlier run left, and nothing else."""
    for path in [*directory.glob("step-*.safetensors"), *directory.glob("*.part"), directory / RESUME]:
        path.unlink(missing_ok=True)
