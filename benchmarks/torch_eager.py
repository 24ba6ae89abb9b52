"""PyTorch's figures, in its own Python: order as JSON on standard input, images a second as JSON on standard output.

EfficientNet-Lite0 from plain torch.nn modules with the weights of the package and the head of the run. Imports from
tellapart only what needs nothing but the standard library. Started by predict_backbone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

import tellapart
from tellapart.models.efficientnet_lite import FEATURES, OFFSET, SCALE, STEM, VARIANTS, stages

WEIGHTS = Path(tellapart.__file__).parent / "models" / "weights" / "efficientnet-lite0.safetensors"
STORED = {name: values.float() for name, values in load_file(WEIGHTS).items()}
BOUND = 1e-3


class Block(nn.Module):
    """Expand, filter each channel, project; add the input if the shape stays."""

    def __init__(self, given: int, channels: int, size: int, stride: int, expansion: int, name: str) -> None:
        super().__init__()
        inner = given * expansion
        self.expansion = convolution(given, inner, 1, 1, f"{name}_expansion") if expansion > 1 else nn.Identity()
        self.depthwise = convolution(inner, inner, size, stride, f"{name}_depthwise", groups=inner)
        self.projection = convolution(inner, channels, 1, 1, f"{name}_projection", activation=False)
        self.adds = stride == 1 and given == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.projection(self.depthwise(self.expansion(x)))
        return x + found if self.adds else found


def convolution(  # noqa: PLR0913 - as many as a convolution has
    given: int, channels: int, size: int, stride: int, name: str, *, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Convolution, normalisation, ReLU6, with the weights called `name` in the file."""
    # TensorFlow's `same` for an even side: the extra pixel is right and below.
    before = (size - stride) // 2
    after = size - stride - before
    layer = nn.Conv2d(given, channels, size, stride, groups=groups, bias=False)
    normal = nn.BatchNorm2d(channels, eps=1e-3)
    kernel = STORED[f"{name}/kernel"] if f"{name}/kernel" in STORED else STORED[f"{name}_convolution/kernel"]
    layer.weight.data = kernel.permute(2, 3, 0, 1) if groups > 1 else kernel.permute(3, 2, 0, 1)
    normal.weight.data, normal.bias.data = STORED[f"{name}_normalization/gamma"], STORED[f"{name}_normalization/beta"]
    normal.running_mean = STORED[f"{name}_normalization/moving_mean"]
    normal.running_var = STORED[f"{name}_normalization/moving_variance"]
    parts = [nn.ZeroPad2d((before, after, before, after)), layer, normal]
    return nn.Sequential(*parts, *([nn.ReLU6()] if activation else []))


def network(head: Any) -> nn.Module:
    """Images (n, 3, height, width), 0..255 -> logits."""
    parts: list[nn.Module] = [convolution(3, STEM, 3, 2, "stem")]
    channels = STEM
    for number, stage in enumerate(stages(VARIANTS["efficientnet-lite0"]), start=1):
        for block in range(1, stage.blocks + 1):
            stride, name = stage.stride if block == 1 else 1, f"stage_{number}_block_{block}"
            parts.append(Block(channels, stage.channels, stage.size, stride, stage.expansion, name))
            channels = stage.channels
    parts += [convolution(channels, FEATURES, 1, 1, "end"), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    last = nn.Linear(*head["kernel"].shape)
    last.weight.data, last.bias.data = torch.from_numpy(head["kernel"].T.copy()), torch.from_numpy(head["bias"])
    return nn.Sequential(*parts, last).eval()


class Files(Dataset[torch.Tensor]):
    """Decoded and resized by Pillow, as by torchvision's ToTensor except for the scale."""

    def __init__(self, files: list[str], side: int) -> None:
        self.files, self.side = files, side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> torch.Tensor:
        with Image.open(self.files[number]) as image:
            small = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()


def probabilities(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    logits = model(images.float() * SCALE + OFFSET)
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, 1)


def main() -> None:
    order = json.load(sys.stdin)
    head = np.load(order["head"])
    model = network(head)
    with torch.inference_mode():
        found = probabilities(model, torch.from_numpy(head["images"]).permute(0, 3, 1, 2)).numpy()
        difference = float(np.abs(found - head["expected"]).max())
        if not difference < BOUND:
            raise RuntimeError(f"PyTorch's network differs from ours by {difference:.2g}: it is not the same one.")
        probabilities(model, torch.zeros(order["batch"], 3, order["side"], order["side"], dtype=torch.uint8))
        started, spent, count = time.perf_counter(), time.process_time(), 0
        for images in DataLoader(Files(order["files"], order["side"]), batch_size=order["batch"]):
            count += len(probabilities(model, images))
    seconds, spent = time.perf_counter() - started, time.process_time() - spent
    print(json.dumps({"value": count / seconds, "processor ms": 1000 * spent / count, "difference": difference}))


if __name__ == "__main__":
    main()
