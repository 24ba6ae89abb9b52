"""`python -m benchmarks.plain_server RUN PORT`: FastAPI and model.predict, as tutorials serve a Keras model."""

from __future__ import annotations

import io
import sys
from typing import Any

from benchmarks.network import SIDE


def main(run: str, port: str) -> None:
    import keras
    import numpy as np
    import uvicorn
    from fastapi import FastAPI, File
    from PIL import Image

    model = keras.models.load_model(f"{run}/model.keras")
    app = FastAPI()

    # `bytes` instead of UploadFile: annotations then need no name of this function's scope.
    @app.post("/v1/predict")
    def predict(images: bytes = File()) -> dict[str, Any]:
        image = Image.open(io.BytesIO(images)).convert("RGB").resize((SIDE, SIDE))
        return {"probabilities": model.predict(np.asarray(image)[None], verbose=0)[0].tolist()}

    model.predict(np.zeros((1, SIDE, SIDE, 3), np.uint8), verbose=0)
    # Connections that pause between requests stay open, so that none counts as failed.
    uvicorn.run(app, port=int(port), log_level="error", access_log=False, timeout_keep_alive=600)


if __name__ == "__main__":
    main(*sys.argv[1:])
