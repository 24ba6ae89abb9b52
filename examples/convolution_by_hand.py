# %% [markdown]
# # Convolution and pooling by hand
#
# A 5x5 image, a 3x3 filter that looks for upright edges, and max pooling of 2x2, computed with loops; then by Keras.
# Both give the same numbers. What deep learning calls convolution is, as here, a filter that is not turned round.

# %%
import keras
import numpy as np

image = np.array(
    [
        [10, 10, 10, 200, 200],
        [10, 10, 10, 200, 200],
        [10, 10, 10, 200, 200],
        [10, 10, 90, 200, 200],
        [10, 90, 90, 200, 200],
    ],
    dtype=np.float32,
)
upright = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=np.float32)


def convolve(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(h, w), (k, k) -> (h - k + 1, w - k + 1): at each place, the sum of the products below the filter."""
    side = len(kernel)
    out = np.zeros([length - side + 1 for length in values.shape], dtype=np.float32)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            out[row, column] = (values[row : row + side, column : column + side] * kernel).sum()
    return out


def pool(values: np.ndarray, side: int = 2) -> np.ndarray:
    """(h, w) -> (h // 2, w // 2): the largest value of each square; a row or column left over is dropped."""
    out = np.zeros([length // side for length in values.shape], dtype=np.float32)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            out[row, column] = values[row * side : (row + 1) * side, column * side : (column + 1) * side].max()
    return out


# %%
edges = np.maximum(convolve(image, upright), 0)  # ReLU
print("edges, 3x3\n", edges)
print("pooled, 1x1 of them and 2x2 of the image\n", pool(edges), "\n", pool(image))

# %% [markdown]
# The same by Keras: images are (batch, height, width, channels), filters (height, width, channels in, channels out).

# %%
batch = image[None, :, :, None]
layer = keras.layers.Conv2D(1, 3, activation="relu")
layer.build(batch.shape)
layer.set_weights([upright[:, :, None, None], np.zeros(1)])
theirs = np.asarray(layer(batch))
theirs_pooled = np.asarray(keras.layers.MaxPooling2D(2)(batch))

difference = max(np.abs(theirs[0, :, :, 0] - edges).max(), np.abs(theirs_pooled[0, :, :, 0] - pool(image)).max())
print(f"largest difference from Keras: {difference:g}")
assert difference == 0
