"""The one training loop.

Every random choice of a step is a pure function of (seed, step), the order of an epoch one of (seed, epoch): nothing
random has to be saved, and a run that was killed ends with the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from theorylens.core import (
    RefusedError,
    Split,
    Task,
    check_finite,
    global_randomness_kept,
    hash_tensors,
    key_seed,
    seed_everything,
    studied,
)  # fmt: skip
from theorylens.numerics.memory import Batch, to_device
from theorylens.results import History

from ._divergence import DivergedError
from ._fitted import Fitted
from ._judging import judge
from ._keeping import Keeping, checkpoint_path, clear, read_resume, state_of, write_resume, write_state
from ._optimisation import Optimisation
from ._progress import progress_bar
from ._same_run import fingerprint

Callback = Callable[[int, nn.Module, Mapping[str, float]], None]
"""``callback(step, model, metrics)``: called at step 0 and after every step; it may look and must not touch."""

EVALUATED = 2048  # rows of the training split whose loss is recorded: a standard error of about 2 % of its spread
PER_STEP = ("batch_loss", "lr", "gradient_norm")


def fit(
    model: nn.Module,
    data: Any,
    loss: str | nn.Module | Callable[[Any, Any], Any] | Task,
    optimisation: Optimisation = Optimisation(),  # noqa: B008 - frozen
    *,
    seed: int = 0,
    validation: Any = None,
    callbacks: Sequence[Callback] = (),
    keeping: Keeping = Keeping(),  # noqa: B008 - frozen
    progress: bool = False,
) -> Fitted:
    """Train ``model`` in place, on the device it is on.

    The same model, data and seed give the same weights bit for bit (same machine, same number of threads), whatever
    the global random state, which is left as it was. A step minimises the weighted mean of the losses of its batch
    (their sum when the task says so).

    Parameters
    ----------
    model
        Trained in place; its parameters that do not require a gradient stay as they are.
    data, validation
        Anything `Split` takes.
    loss
        Anything `Task` takes as its loss, or a `Task`.
    optimisation
        Optimiser, learning rate, batch size, epochs, schedule.
    seed
        Of the order of the examples and of everything random inside the model. Not of its initial weights: they are
        in ``model``.
    callbacks
        Called as ``callback(step, model, metrics)`` at step 0 and after every step, with the model in evaluation mode.
        ``metrics`` has ``batch_loss``, ``lr`` and ``gradient_norm`` (not at step 0) and at records the losses and
        errors of the splits. A resumed run calls them from where it goes on.
    keeping
        Checkpoints, directory, resuming.
    progress
        Show a bar when stderr is a terminal.

    Raises
    ------
    DivergedError
        The loss or its gradient is not finite.
    RefusedError
        The loss does not fit the outputs, or ``keeping.directory`` holds another run.
    """
    check_finite(model)
    run = _Run(model, Split.of(data), loss, optimisation, seed, keeping)
    run.validation = None if validation is None else Split.of(validation)
    started = time.perf_counter()
    with global_randomness_kept():
        run.begin(callbacks)
        with progress_bar(run.total, run.step, progress) as show:
            while not run.over:
                run.advance()
                run.look(callbacks)
                run.elapsed = run.before + time.perf_counter() - started
                run.save_if_due()
                show(run.step, run.trace[-1][0])
    model.eval()
    return run.fitted()


class _Run:
    """State of one training run between two steps."""

    def __init__(
        self, model: nn.Module, split: Split, loss: Any, optimisation: Optimisation, seed: int, keeping: Keeping
    ) -> None:
        self.model, self.split, self.loss, self.seed = model, split, loss, seed
        self.optimisation, self.keeping = optimisation, keeping
        self.validation: Split | None = None
        self.per_epoch = -(-len(split) // optimisation.batch_size)
        self.total = self.per_epoch * optimisation.epochs
        self.checkpoint_steps = keeping.checkpoint_steps(self.total)
        self.record_steps = keeping.record_steps(self.total, self.per_epoch)
        self.directory = None if keeping.directory is None else Path(keeping.directory)
        self.init = state_of(model)
        self.leaves = [p for p in model.parameters() if p.requires_grad]
        if not self.leaves:
            raise RefusedError(
                "the model has no parameter that requires a gradient; set requires_grad on those to train"
            )
        self.device = self.leaves[0].device
        self.optimizer = optimisation.build(self.leaves)
        self.base_lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.step, self.before, self.elapsed = 0, 0.0, 0.0
        self.trace: list[tuple[float, float, float]] = []
        self.records: list[dict[str, float]] = []
        self.kept: dict[int, Mapping[str, Tensor] | Path] = {}
        self._epoch: tuple[int, Tensor] | None = None

    @property
    def over(self) -> bool:
        """Whether the last step is taken, or the training loss of this step's record is as low as asked for."""
        last = self.records[-1]
        return self.step >= self.total or (last["step"] == self.step and self.optimisation.reached(last["train_loss"]))

    @cached_property
    def task(self) -> Task:
        task = self.loss if isinstance(self.loss, Task) else Task(loss=self.loss)
        batch = to_device(self.split.take(range(min(len(self.split), 32))), self.device)
        with studied(self.model):
            return task.settled(self.model, batch)

    # ---- one step ------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Take the next step."""
        lr = self._set_lr()
        batch = to_device(self.split.take(self._indices()), self.device)
        seed_everything(key_seed(self.seed, "step", self.step))
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total, weight = self.task.loss_sum(self.model, batch)
        value = total / weight.clamp(min=1e-30) if self.task.mean else total  # a batch without targets adds nothing
        loss = float(value.detach())
        if not math.isfinite(loss):
            raise DivergedError("loss", loss, self.step, lr)
        value.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in self.leaves if p.grad is not None]))
        if not math.isfinite(norm):
            raise DivergedError("norm of the gradient", norm, self.step, lr)
        self.optimizer.step()
        self.trace.append((loss, lr, norm))
        self.step += 1

    def _set_lr(self) -> float:
        factor = self.optimisation.factor(self.step / self.total)
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * factor
        return self.base_lrs[0] * factor

    def _indices(self) -> Tensor:
        epoch, position = divmod(self.step, self.per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            generator = torch.Generator().manual_seed(key_seed(self.seed, "epoch", epoch))
            self._epoch = epoch, torch.randperm(len(self.split), generator=generator)
        start = position * self.optimisation.batch_size
        return self._epoch[1][start : start + self.optimisation.batch_size]

    # ---- looking at it -------------------------------------------------------------------------------------------

    def look(self, callbacks: Sequence[Callback]) -> None:
        """Record, keep a checkpoint and call back where the step asks for it."""
        metrics: dict[str, float] = dict(zip(PER_STEP, self.trace[-1], strict=True)) if self.trace else {}
        metrics.setdefault("lr", self.base_lrs[0] * self.optimisation.factor(0.0))
        if self.step in self.record_steps:
            metrics |= self._measure()
            self.records.append({k: v for k, v in metrics.items() if k not in ("batch_loss", "gradient_norm")})
            self.records[-1]["step"] = self.step
        if self.step in self.checkpoint_steps:
            self._keep_checkpoint()
        if callbacks:
            written = [p._version for p in self.model.parameters()]
            for callback in callbacks:
                with studied(self.model):
                    callback(self.step, self.model, metrics)
            if written != [p._version for p in self.model.parameters()]:
                raise RuntimeError(f"a callback changed the parameters at step {self.step}; callbacks may only look")

    def _measure(self) -> dict[str, float]:
        with studied(self.model), torch.no_grad():
            found = judge(self.model, self.task, self._evaluated, self.device, "train")
            if self.validation is not None:
                found |= judge(self.model, self.task, self.validation.batches(256), self.device, "validation")
        return found

    @cached_property
    def _evaluated(self) -> list[Batch]:
        if len(self.split) <= EVALUATED:
            return list(self.split.batches(256))
        generator = torch.Generator().manual_seed(key_seed(self.seed, "evaluated"))
        chosen = torch.randperm(len(self.split), generator=generator)[:EVALUATED].sort().values
        return [self.split.take(index) for index in torch.split(chosen, 256)]

    # ---- keeping it ----------------------------------------------------------------------------------------------

    def begin(self, callbacks: Sequence[Callback]) -> None:
        """Go on from what the directory holds, or start."""
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not self.keeping.resume:
                clear(self.directory)
            elif (content := read_resume(self.directory)) is not None:
                self._restore(content)
                return
            write_state(self.init, self.directory / "init.safetensors")
        self.look(callbacks)

    def save_if_due(self) -> None:
        due = self.step in self.checkpoint_steps or self.step % self.per_epoch == 0 or self.over
        if self.directory is not None and due:
            self._save(self.directory)

    def _keep_checkpoint(self) -> None:
        state = state_of(self.model)
        if self.directory is None:
            self.kept[self.step] = state
        else:
            self.kept[self.step] = write_state(state, checkpoint_path(self.directory, self.step))

    def _save(self, directory: Path) -> None:
        write_resume(
            {
                "run": self.identity, "step": self.step, "seconds": self.elapsed, "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(), "trace": torch.tensor(self.trace, dtype=torch.float64),
                "records": self.records, "kept": sorted(self.kept),
            },
            directory,
        )  # fmt: skip

    def _restore(self, content: dict[str, Any]) -> None:
        assert self.directory is not None
        other, own = content["run"], self.identity
        if changed := sorted(k for k in own.keys() | other.keys() if own.get(k) != other.get(k)):
            raise RefusedError(
                f"{self.directory} holds a training run that differs in {', '.join(changed)}; "
                "give another directory, or resume=False to remove it and start over"
            )
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.before, self.elapsed = content["step"], content["seconds"], content["seconds"]
        self.trace = [(a, b, c) for a, b, c in content["trace"].tolist()]
        self.records = content["records"]
        self.kept = {step: checkpoint_path(self.directory, step) for step in content["kept"]}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be equal for two runs to be the same run."""
        every = self.keeping.every or self.per_epoch
        return {
            **self.optimisation.settings, "seed": self.seed, "loss": fingerprint(self.loss),
            "optimizer code": fingerprint(self.optimisation.optimizer), "initial weights": hash_tensors(self.init),
            "schedule code": fingerprint(self.optimisation.schedule), "training data": self.split.sha256,
            "validation data": self.validation.sha256 if self.validation is not None else "",
            "checkpoints": list(self.checkpoint_steps), "every": every,
        }  # fmt: skip

    def fitted(self) -> Fitted:
        steps = [int(r["step"]) for r in self.records]
        series = {k: [r[k] for r in self.records] for k in self.records[0] if k != "step"}
        columns = dict(zip(PER_STEP, np.asarray(self.trace, dtype=np.float64).reshape(-1, 3).T, strict=True))
        settings = {**self.optimisation.settings, "seed": self.seed, "steps": self.step, "loss": self.task.loss_name}
        return Fitted(
            model=self.model, loss=self.loss, train=self.split, validation=self.validation, init=self.init,
            checkpoints=dict(sorted(self.kept.items())), history=History.of(series, steps),
            trace=History(steps=np.arange(1, self.step + 1), series=columns), settings=settings, seconds=self.elapsed,
        )  # fmt: skip
