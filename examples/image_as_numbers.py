"""An image is numbers: height x width x three channels of 0..255; what grey, a crop and a resize do to them."""

from pathlib import Path

import numpy as np
from PIL import Image

import tellapart
from tellapart.data import pixels
from tellapart.task import ImageSpec

pets = Path(tellapart.__file__).parent / "data" / "builtin" / "pets"
path = sorted(pets.rglob("*.jpg"))[0]
with Image.open(path) as opened:
    width, height = opened.size

# One road from bytes to pixels, the one that training, prediction and the server take.
image = pixels.read(path, ImageSpec(height, width, channels=3))
print(f"{path.name}: {image.shape} {image.dtype}, {image.min()} to {image.max()}, {image.size:,} numbers")
print("red, green and blue of its middle:", image[height // 2, width // 2])

grey = pixels.read(path, ImageSpec(height, width, channels=1))
weighted = image @ np.array([0.299, 0.587, 0.114])
# A JPEG stores grey and colour apart, and its grey is read as stored, before the colours are rounded.
apart = np.abs(grey[:, :, 0] - weighted)
print(f"grey: {grey.shape}; 0.299 red + 0.587 green + 0.114 blue, but for {apart.mean():.2f} on average")

small = pixels.read(path, ImageSpec(28, 28, channels=1))[:, :, 0]
print(f"as a network for 28x28 sees it, every other row of its {small.size} numbers drawn as letters:")
for line in small[::2]:
    print("".join(" .:-=+*#%@"[int(value) * 10 // 256] for value in line for _ in (0, 1)))

assert image.shape == (height, width, 3)
assert image.dtype == np.uint8
assert apart.mean() < 0.5
assert small.shape == (28, 28)
