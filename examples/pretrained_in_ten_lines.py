# %% [markdown]
# # A pretrained backbone, in ten lines
#
# EfficientNet-Lite0 has seen 1.2 million photographs; its weights ship inside tellapart. It looks at each image once,
# and a small head learns the three breeds from what it says. Nothing is downloaded.

# %%
import tempfile

import tellapart as ta

folder = tempfile.TemporaryDirectory()
catalog = ta.read("builtin:pets")
run = ta.train(catalog, out=f"{folder.name}/run", model="efficientnet-lite0")
accuracy = run.evaluate().accuracy
print(f"{len(catalog)} images, test accuracy {accuracy}")

# %% [markdown]
# The run predicts through ONNX Runtime; each answer has a calibrated probability and a verdict.

# %%
images = [catalog.root / image.path for image in catalog.split("test").images[::24]]
for prediction in run.predict(images):
    print(f"{prediction.label:12} {prediction.probability:.3f} {prediction.verdict}")
folder.cleanup()
assert accuracy.value > 0.9
