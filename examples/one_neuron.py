# %% [markdown]
# # One neuron learns a line
#
# Six points of y = 2x - 1, one weight, one bias. After 500 rounds of gradient descent the neuron answers about 19 for
# 10: not exactly, as six points and a finite number of steps only come close.

# %%
import keras
import numpy as np

keras.utils.set_random_seed(0)
x = np.array([[-1.0], [0.0], [1.0], [2.0], [3.0], [4.0]])
y = 2 * x - 1

neuron = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
neuron.compile(optimizer="sgd", loss="mean_squared_error")
# All six points are one batch, so an epoch is a step; `fit(x, y, epochs=500)` does the same, more slowly.
losses = [float(neuron.train_on_batch(x, y)) for _ in range(500)]

# %%
answer = np.asarray(neuron(np.array([[10.0]]))).item()
weight, bias = (np.asarray(value).item() for value in neuron.get_weights())
print(f"for 10: {answer:.3f}; learnt y = {weight:.3f} x {bias:+.3f}; loss {losses[0]:.2f} -> {losses[-1]:.1e}")
assert abs(answer - 19) < 0.1
