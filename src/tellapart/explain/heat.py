"""Pictures + the class of each -> heat: which places speak for the class; and heat laid over a picture.

Computed by ONNX Runtime from model.onnx alone, where export found that the network can tell its places
(inference.class_activation); by occlusion otherwise. Imports no TensorFlow. Read by: explain, report, serve.
"""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from tellapart.explain.occlusion import occlusion
from tellapart.inference.class_activation import OUTPUT
from tellapart.inference.predictor import Predictor, every_class, open_session
from tellapart.runs.run import RunFolder

if TYPE_CHECKING:
    import onnxruntime

BATCH = 4
QUICK_STEPS = 1
"""Of occlusion, where it stands in for what the network cannot tell."""
STRONGEST = 0.7
"""How much of the picture heat of 1 covers."""


def class_heat(run: RunFolder, pictures: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Heat of what speaks for the given class of each picture, (n, height, width), 0..1, the hottest place 1; all 0
    where nothing does.

    pictures: uint8 (n, height, width, channels) as the run's network takes them; classes: (n,) positions in its task.
    Raises RunError for an unfinished run. Many calls go faster through one HeatMaker.
    """
    return HeatMaker(Predictor(run.require(run.onnx_file, "exported network"))).heat(pictures, classes)


class HeatMaker:
    """class_heat of one network, again and again, from several threads. method: how it is made, in words."""

    def __init__(self, predictor: Predictor, *, threads: int | None = None) -> None:
        self._predictor = predictor
        self._threads = threads
        self._session: onnxruntime.InferenceSession | None = None
        self._opening = threading.Lock()

    @property
    def method(self) -> str:
        return "class activation" if self._predictor.class_activation else "occlusion"

    def heat(self, pictures: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """See class_heat."""
        shares = self.shares(pictures, classes)
        found = occlusion(self._predictor, pictures, classes, steps=QUICK_STEPS) if shares is None else shares
        return np.stack([_normalised(one, pictures.shape[1:3]) for one in found])

    def shares(self, pictures: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Each place's share of the class's lead over the others, float32 (n, rows, columns) of the feature map, below
        0 where the place speaks against it; None where the network cannot tell.

        For more than two classes the others count as much as each is likely: the shares are of the log odds.
        """
        if not self._predictor.class_activation:
            return None
        session = self._open()
        name, answer = session.get_inputs()[0].name, session.get_outputs()[0].name
        task = self._predictor.task
        found = []
        for start in range(0, len(pictures), BATCH):
            said, shares = session.run([answer, OUTPUT], {name: pictures[start : start + BATCH]})
            for row, share, label in zip(every_class(task, said), shares, classes[start : start + BATCH], strict=True):
                if task.kind == "binary":
                    found.append(share[..., 0] if label else -share[..., 0])
                else:
                    others = np.delete(row, label)
                    rivals = np.delete(share, label, axis=-1) @ (others / others.sum()).astype(np.float32)
                    found.append(share[..., label] - rivals)
        return np.stack(found)

    def _open(self) -> onnxruntime.InferenceSession:
        with self._opening:
            if self._session is None:
                addition = base64.b64decode(self._predictor.class_activation)
                self._session = open_session(self._predictor.path, self._threads, addition)
            return self._session


def _normalised(shares: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """What speaks for the class alone, as large as the picture, the hottest place 1."""
    large = cv2.resize(np.maximum(shares, 0), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    top = float(large.max())
    return np.asarray(large / top if top > 0 else large, np.float32)


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Heat (h, w), 0..1, over a picture, uint8 (h, w, 1 or 3) -> uint8 (h, w, 3).

    The colours are inferno's, which rise in lightness evenly and are told apart by eyes of every kind; cold places keep
    the picture, turned grey so that no colour of it looks hot.
    """
    grey = pixels[..., 0] if pixels.shape[-1] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    strength = np.clip(np.asarray(heat, np.float32), 0, 1)
    coloured = cv2.applyColorMap(np.round(255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = (STRONGEST * np.sqrt(strength))[..., None]
    return np.asarray(np.round((1 - share) * grey[..., None] + share * coloured), np.uint8)
