"""Images + the class of each -> heat maps of the evidence for the class; and a heat map overlaid on an image.

Computed by ONNX Runtime from model.onnx alone, where the file tells its places (models.classifier, or
inference.class_activation); by occlusion otherwise. Imports no TensorFlow.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tellapart.explain.occlusion import occlusion
from tellapart.inference.predictor import Predictor
from tellapart.runs.run import RunFolder

BATCH = 4
QUICK_STEPS = 2
"""Steps of occlusion, if it replaces class activation."""
STRONGEST = 0.7
"""Opacity of the heat map where it is 1."""


def class_heat(run: RunFolder, images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Heat maps of the evidence for the given class of each image, (n, height, width), 0..1, the maximum 1; all 0
    without evidence.

    images: uint8 (n, height, width, channels) as the run's network takes them; classes: (n,) positions in its task.
    Raises RunError for an unfinished run. For many calls, one HeatMaker is faster.
    """
    return HeatMaker(Predictor(run.require(run.onnx_file, "exported network"))).heat(images, classes)


class HeatMaker:
    """class_heat for repeated calls on one network, from several threads."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    @property
    def method(self) -> str:
        """How the heat is made."""
        return "class activation" if self.predictor.tells_places else "occlusion"

    def heat(self, images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """See class_heat."""
        shares = self.shares(images, classes)
        found = occlusion(self.predictor, images, classes, steps=QUICK_STEPS) if shares is None else shares
        return np.stack([normalised(one, images.shape[1:3]) for one in found])

    def shares(self, images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """The contribution of each position to the class's lead over the others, float32 (n, rows, columns) of the
        feature map, negative for evidence against it; None if the network has no class activation map.

        With more than two classes, the others are weighted by their probability, as in the gradient of the log odds; on
        three breeds this agreed better with occlusion than the score of the class alone (0.45 against 0.40). Several
        labels of an image are no rivals: each has the contribution to its own score.
        """
        if not self.predictor.tells_places:
            return None
        found = []
        for start in range(0, len(images), BATCH):
            probabilities, shares = self.predictor.class_activation(images[start : start + BATCH])
            for row, share, label in zip(probabilities, shares, classes[start : start + BATCH], strict=True):
                if self.predictor.task.several:
                    found.append(share[..., label])
                elif share.shape[-1] == 1:
                    found.append(share[..., 0] if label else -share[..., 0])
                else:
                    others = np.delete(row, label)
                    weights = others / max(others.sum(), np.finfo(np.float32).tiny)
                    rivals = np.delete(share, label, axis=-1) @ weights.astype(np.float32)
                    found.append(share[..., label] - rivals)
        return np.stack(found)


def normalised(shares: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """The evidence for the class above the median of all positions: float32 (height, width), 0..1.

    Without the median, an image whose background contributes a part of the biases would be hot everywhere.
    """
    hot = np.maximum(shares - max(0.0, float(np.median(shares))), 0)
    large = cv2.resize(hot, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    top = float(large.max())
    return np.asarray(large / top if top > 0 else large, np.float32)


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Heat (h, w), 0..1, over an image, uint8 (h, w, 1 or 3) -> uint8 (h, w, 3).

    The colours are inferno's, which increase evenly in lightness and suit colour-blind readers; cold regions keep the
    image, in grey so that none of its colours looks hot.
    """
    grey = pixels[..., 0] if pixels.shape[-1] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    strength = np.clip(np.asarray(heat, np.float32), 0, 1)
    coloured = cv2.applyColorMap(np.round(255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = (STRONGEST * np.sqrt(strength))[..., None]
    return np.asarray(np.round((1 - share) * grey[..., None] + share * coloured), np.uint8)
