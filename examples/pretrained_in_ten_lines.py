# %% [markdown]
# # A pretrained base, in ten lines
#
# EfficientNet-Lite0 has seen 1.2 million photographs; its weights ship inside tellapart. It looks at each picture once,
# and a small head learns the three breeds from what it says. Nothing is downloaded.

# %%
import tempfile

import tellapart as ta

folder = tempfile.TemporaryDirectory()
catalog = ta.read("builtin:pets")
run = ta.train(catalog, out=f"{folder.name}/run", model="efficientnet-lite0")
accuracy = run.evaluate().accuracy
print(f"{len(catalog)} pictures, test accuracy {accuracy}")

# %% [markdown]
# The run predicts through ONNX Runtime; each answer has a calibrated probability and a verdict.

# %%
pictures = [catalog.root / picture.path for picture in catalog.split("test").pictures[::24]]
for prediction in run.predict(pictures):
    print(f"{prediction.label:12} {prediction.probability:.3f} {prediction.verdict}")
folder.cleanup()
assert accuracy.low > 0.9
