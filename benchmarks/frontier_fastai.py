"""fastai's `fine_tune` of timm's EfficientNet-Lite0 with the weights that tellapart ships.

`python benchmarks/frontier_fastai.py FOLDER SEED`, FOLDER with train, validation and test; prints accuracy as JSON. It
runs in an environment of its own (`pip install torch==2.13.0 torchvision==0.28.0 fastai timm safetensors`), without
tellapart. Transforms and epochs are those of fastai's tutorial on pets: `Resize(460)`, `aug_transforms(size=224)`, and
five epochs after one of the head alone.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import torch

WEIGHTS = Path(__file__).parents[1] / "src" / "tellapart" / "models" / "weights" / "efficientnet-lite0.safetensors"
SIDE, BIG_SIDE, EPOCHS = 224, 460, 5
MEAN, DEVIATION = 127 / 255, 128 / 255
OPERATORS = ("nms", "qnms")
"""Of torchvision, which its import describes and some wheels for processors lack. None is called here."""
NAMES = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
CONVOLUTIONS = {"expansion": "conv_pw", "depthwise": "conv_dw", "projection": "conv_pwl"}
FIRST_STAGE = {"depthwise": "conv_dw", "projection": "conv_pw"}


def timm_name(name: str) -> str:
    """The name of a weight in timm's network: stage_2_block_1_expansion/kernel -> blocks.1.0.conv_pw.weight."""
    layer, kind = name.split("/")
    last = NAMES.get(kind, "running_var")
    if not layer.startswith("stage_"):
        place, normalised = layer.split("_")[0], layer.endswith("normalization")
        convolution, normalization = {"stem": ("conv_stem", "bn1"), "end": ("conv_head", "bn2")}[place]
        return f"{normalization if normalised else convolution}.{last}"
    _, stage, _, block, part, *normalised = layer.split("_")
    parts = FIRST_STAGE if stage == "1" else CONVOLUTIONS
    what = f"bn{list(parts).index(part) + 1}" if normalised else parts[part]
    return f"blocks.{int(stage) - 1}.{int(block) - 1}.{what}.{last}"


def timm_weights() -> dict[str, torch.Tensor]:
    """The weights by timm's names; kernels from (height, width, in, out) to (out, in, height, width)."""
    from safetensors.torch import load_file

    weights = {}
    for name, value in load_file(WEIGHTS).items():
        if name.endswith("depthwise/kernel"):
            value = value.permute(2, 3, 0, 1)
        elif name.endswith("kernel"):
            value = value.permute(3, 2, 0, 1)
        weights[timm_name(name)] = value.contiguous()
    return weights


def main(folder: Path, seed: int) -> None:
    library = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        with contextlib.suppress(RuntimeError):  # the wheel has it
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from fastai.vision.all import (
        ImageDataLoaders,
        Normalize,
        Resize,
        accuracy,
        aug_transforms,
        get_image_files,
        set_seed,
        vision_learner,
    )

    set_seed(seed, reproducible=True)
    transforms = [*aug_transforms(size=SIDE), Normalize.from_stats([MEAN] * 3, [DEVIATION] * 3)]
    loaders = ImageDataLoaders.from_folder(
        folder, train="train", valid="validation", item_tfms=Resize(BIG_SIDE), batch_tfms=transforms
    )
    learner = vision_learner(loaders, "tf_efficientnet_lite0", pretrained=False, metrics=accuracy)
    missing = learner.model[0].model.load_state_dict(timm_weights(), strict=False)
    if missing.unexpected_keys or any("num_batches_tracked" not in key for key in missing.missing_keys):
        raise RuntimeError(f"timm's network has other weights: {missing}")
    with learner.no_bar():
        learner.fine_tune(EPOCHS)
        images = get_image_files(folder / "test")
        _, reached = learner.validate(dl=loaders.test_dl(images, with_labels=True))
    print(json.dumps({"accuracy": float(reached), "n": len(images)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
