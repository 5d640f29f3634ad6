"""A face detector's second stage, trained by others, on labelled crops: a network nobody here has trained."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from theorylens.core import RefusedError, Subject, read_weights
from theorylens.results import Message

INSTALL = (
    "    pip install --no-deps facenet-pytorch==2.6.0   (its weights only: the package is not imported)\n"
    "    pip install 'theorylens[demo]'"
)
SIDE = 24  # pixels that RNet looks at
BOX = "dense5_2."  # the head that corrects the box; whether there is a face does not depend on it


class Columns(nn.Module):
    """Feature maps (n, c, h, w) flattened in the order w, h, c, the order in which the weights were stored."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 3, 2, 1).flatten(1)


def rnet() -> nn.Sequential:
    """RNet of MTCNN (Zhang, Zhang, Li, Qiao 2016, IEEE Signal Processing Letters 23:1499) up to its face logits.

    From (n, 3, 24, 24) to (n, 2): not a face, a face. 99,662 parameters; the box head of 516 more is left out.
    """
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(3, 28, 3), prelu1=nn.PReLU(28), pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
        conv2=nn.Conv2d(28, 48, 3), prelu2=nn.PReLU(48), pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
        conv3=nn.Conv2d(48, 64, 2), prelu3=nn.PReLU(64), columns=Columns(),
        dense4=nn.Linear(576, 128), prelu4=nn.PReLU(128), dense5_1=nn.Linear(128, 2),
    ))  # fmt: skip


def face() -> Subject:
    """RNet with published weights on 200 crops, half of them faces, that scikit-image carries.

    There is a test split and nothing else. The network makes no error on it.

    Raises
    ------
    RefusedError
        The weights or the crops are not installed.
    """
    path = _weights_path()
    images, labels = _crops()
    state, _ = read_weights(path)
    network = rnet()
    network.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith(BOX)})
    text = (
        "what this network was trained on is not known here; that none of the {n} crops was among it is taken on trust"
    )
    return Subject(
        model=network.eval(), loss="cross_entropy", test=(images, labels), name="face",
        notes=(Message("demos.face_training", text, n=len(labels)),),
    )  # fmt: skip


def _weights_path() -> Path:
    # The package's own code wants torchvision and old versions of torch and numpy; only its folder is looked up.
    spec = importlib.util.find_spec("facenet_pytorch")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    paths = [Path(folder) / "data" / "rnet.pt" for folder in folders]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise RefusedError(f"the face demo needs the weights that the facenet-pytorch wheel carries:\n{INSTALL}")
    return found


def _crops() -> tuple[Tensor, Tensor]:
    """100 faces, then 100 crops without, as RNet takes them: (200, 3, 24, 24) from about -1 to 1, and labels."""
    try:
        from skimage.data import lfw_subset
    except ModuleNotFoundError as error:
        raise RefusedError(f"the face demo needs the face crops that scikit-image carries:\n{INSTALL}") from error
    grey = torch.tensor(lfw_subset(), dtype=torch.float32)[:, None]  # (200, 1, 25, 25) from 0 to 1
    resized = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", align_corners=False)
    images = ((resized * 255 - 127.5) / 128).expand(-1, 3, -1, -1).contiguous()
    return images, torch.cat([torch.ones(100), torch.zeros(100)]).long()
