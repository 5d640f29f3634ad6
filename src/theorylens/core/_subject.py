"""The thing under study: fields hold what the user gave, views give tensors. Constructing one does no work."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.numerics.memory import Batch, to_device
from theorylens.numerics.objective import Objective
from theorylens.results import History, Message

from . import _views
from ._errors import RefusedError, UnsuitableError
from ._isolation import studied
from ._randomness import global_randomness_kept
from ._recipe import Initial, Recipe
from ._split import Split
from ._task import PerExample, Task
from ._views import Scores

T = TypeVar("T")
ROLES = ("train", "validation", "test")
BATCH = 256
REMEMBERED = 1 << 28  # bytes of computed tensors a subject keeps: a quarter of a GiB


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A trained network with what is known about it.

    Parameters
    ----------
    model
        The network; None when only its outputs are known.
    loss
        What training minimised: a name, a torch loss module or ``f(outputs, targets)``; `Task` for anything else.
    train, validation, test
        `Split` or anything `Split` takes. ``validation`` was used for choices (early stopping, model choice), ``test``
        for nothing: certificates rest on that.
    outputs
        Role to ``(outputs, targets)``, when there is no model.
    init
        The network before training: a state dict or a module.
    checkpoints
        Training step to a state dict, a safetensors path or a callable that returns one.
    history
        A `History`, or series by name.
    recipe
        How to train it again.
    others
        Further models by name, for comparisons.
    shuffled
        The same recipe trained on shuffled labels, with those labels: a control. An audit makes it from ``recipe``.
    notes
        What was handled on the way here (a stripped key prefix, say); shown in the report.
    """

    model: nn.Module | None = None
    loss: str | nn.Module | PerExample | None = None
    train: Any = None
    validation: Any = None
    test: Any = None
    task: Task | None = None
    outputs: Mapping[str, tuple[Any, Any]] | None = None
    init: Mapping[str, Tensor] | nn.Module | None = None
    checkpoints: Mapping[int, Any] | None = None
    history: History | Mapping[str, Any] | None = None
    recipe: Recipe | None = None
    others: Mapping[str, nn.Module] = field(default_factory=dict)
    shuffled: Subject | None = None
    name: str = ""
    notes: tuple[Message, ...] = ()
    batch_size: int = BATCH
    _memo: OrderedDict[object, Any] = field(default_factory=OrderedDict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.model is not None and not isinstance(self.model, nn.Module):
            raise RefusedError(
                f"model is a {type(self.model).__name__}, needed is a torch.nn.Module; "
                "for a state dict use Subject.load('package.module:Net', weights=...)"
            )
        if self.model is None and self.outputs is None:
            raise RefusedError("a subject needs a model, or outputs={'test': (outputs, targets)} when there is none")
        if self.model is not None and self.loss is None and self.task is None:
            raise RefusedError("a subject needs loss= (for instance 'cross_entropy') or task=, got neither")
        for role in ROLES:
            data = getattr(self, role)
            if data is not None:
                object.__setattr__(self, role, Split.of(data))
        if isinstance(self.history, Mapping):
            object.__setattr__(self, "history", History.of(self.history))

    @classmethod
    def load(cls, target: str, **options: Any) -> Subject:
        """From ``"package.module:Net"`` or ``"file.py:make"``; see `theorylens.core.load`."""
        from ._loading import load

        subject: Subject = load(target, **options)
        return subject

    # ---- what there is -------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether field ``name`` was given; the data of a role also counts when its outputs are known."""
        if name == "others":
            return bool(self.others)
        if getattr(self, name) is not None:
            return True
        return name in ROLES and name in (self.outputs or {})

    def split(self, role: str) -> Split:
        """The split in ``role``.

        Raises
        ------
        RefusedError
            When there is none, or ``role`` is unknown.
        """
        if role not in ROLES:
            raise RefusedError(f"unknown split {role!r}; the roles are {', '.join(ROLES)}")
        found = getattr(self, role)
        if found is None and self.outputs is not None and role in self.outputs:
            return self._outputs_split(role)
        if found is None:
            raise RefusedError(f"the subject has no {role} split; give {role}= to Subject")
        return found  # type: ignore[no-any-return]

    def _outputs_split(self, role: str) -> Split:
        known = (self.outputs or {})[role]
        return self.once(("outputs split", role), lambda: Split(tuple(map(torch.as_tensor, known))))

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(role for role in ROLES if self.has(role))

    @property
    def net(self) -> nn.Module:
        """The model, which a probe that declared it needs may rely on."""
        if self.model is None:
            raise RefusedError("the subject has outputs only and no model; give model= to Subject")
        return self.model

    @property
    def device(self) -> torch.device:
        p = next(self.net.parameters(), None) if self.model is not None else None
        return p.device if p is not None else torch.device("cpu")

    @cached_property
    def judged(self) -> Task:
        """The task with everything decided that depends on seeing a batch."""
        task = self.task or (Task(loss=self.loss) if self.loss is not None else Task())
        role = self.roles[0] if self.roles else None
        if role is None:
            raise RefusedError("the subject has no data; give at least one of train=, validation=, test=")
        if self.model is None:
            task = replace(task, forward=_as_given)
        split = self.split(role)
        batch = to_device(split.take(range(min(len(split), 32))), self.device)
        with self.studied(), torch.no_grad():
            return task.settled(self.model or nn.Identity(), batch)

    # ---- views ---------------------------------------------------------------------------------------------------

    @contextmanager
    def studied(self) -> Iterator[None]:
        """The model in evaluation mode; model and global random state are given back as they were."""
        if self.model is None:
            with global_randomness_kept():
                yield
            return
        with studied(self.model):
            yield

    def objective(self, role: str = "train", *, limit: int | None = None) -> Objective:
        """The loss over a split (or a keyed choice of ``limit`` of its rows) as a function of the parameters.

        Raises
        ------
        UnsuitableError
            When no parameter requires a gradient: nothing can be varied.
        """
        if not any(p.requires_grad for p in self.net.parameters()):
            text = "the model has no parameter that requires a gradient; set requires_grad on those to vary"
            raise UnsuitableError(Message("core.nothing_trainable", text))
        split = self.split(role)
        batches: Iterable[Batch] = split.batches(self.batch_size)
        if limit is not None and limit < len(split):
            batches = [split.take(index) for index in _views.chunks(split.subset(limit), self.batch_size)]
        return Objective(self.net, batches, self.judged.loss_sum, self.judged.mean)

    def scores(self, role: str) -> Scores:
        """Loss, weight and error of every row of a split, each averaged over its tokens; float64, on the CPU."""
        return self.once(("scores", role), lambda: _views.score(self, role))

    def predictions(self, role: str, *, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Outputs and targets of a split (or a keyed choice of its rows), stacked on the CPU."""
        return self.once(("predictions", role, limit), lambda: _views.predict(self, role, limit))

    def features(self, layer: str, role: str = "train", *, limit: int | None = None) -> Tensor:
        """Activations of module ``layer`` as a matrix (rows, units), in the model's dtype, on its device.

        A layer that is used several times gives its last use; the rows are those of ``split(role).subset(limit)``.
        """
        return self.once(("features", layer, role, limit), lambda: _views.activations(self, layer, role, limit))

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the leaf modules in the order in which a forward pass uses them."""
        return _views.order_of_use(self)

    @property
    def classes(self) -> int | None:
        """Number of classes the model tells apart, None when it is not a classifier."""
        if self.judged.kind != "classification":
            return None
        outputs, targets = self.predictions(self.roles[0], limit=32)
        return 2 if outputs.numel() == targets.numel() else int(outputs.shape[1])

    # ---- the same subject elsewhere ------------------------------------------------------------------------------

    def initial(self) -> Initial | None:
        """The subject before training: as given, from checkpoint 0, or re-initialised by ``reset_parameters``.

        None when a module with parameters cannot re-initialise itself.
        """
        return self.once("initial", lambda: _views.find_initial(self))

    def at(self, step: int) -> Subject:
        """The same subject with the weights of checkpoint ``step``, nothing remembered."""
        if not self.checkpoints or step not in self.checkpoints:
            known = sorted(self.checkpoints or ())
            raise RefusedError(f"there is no checkpoint at step {step}; there are {known}")
        return self._with_state(read_state(self.checkpoints[step]))

    def _with_state(self, state: Mapping[str, Tensor]) -> Subject:
        model = copy.deepcopy(self.net)
        model.load_state_dict(dict(state))
        return self._with(model)

    def _with(self, model: nn.Module) -> Subject:
        other = replace(
            self, model=model, init=None, checkpoints=None, history=None, recipe=None, outputs=None, shuffled=None
        )
        other.__dict__["judged"] = self.judged
        return other

    def once(self, key: object, compute: Callable[[], T]) -> T:
        """Compute once; ``key`` names all the value depends on. The least recently used go when memory is short."""
        if key in self._memo:
            self._memo.move_to_end(key)
            return self._memo[key]  # type: ignore[no-any-return]
        value = self._memo[key] = compute()
        while len(self._memo) > 1 and sum(map(_bytes, self._memo.values())) > REMEMBERED:
            self._memo.popitem(last=False)
        return value


def read_state(source: Any) -> Mapping[str, Tensor]:
    """A state dict from what a checkpoint may be: itself, a safetensors path, or a callable that returns one."""
    if isinstance(source, str | Path):
        from safetensors.torch import load_file

        return load_file(str(source))
    return source() if callable(source) and not isinstance(source, Mapping) else source  # type: ignore[no-any-return]


def _as_given(model: nn.Module, batch: Batch) -> tuple[Any, Any]:
    """The forward of a subject without a model: its batches are outputs and targets."""
    outputs, targets = batch
    return outputs, targets


def _bytes(value: Any) -> int:
    return sum(x.numel() * x.element_size() for x in pytree.tree_leaves(value) if isinstance(x, Tensor))
