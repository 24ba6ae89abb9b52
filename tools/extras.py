"""Installs each extra alone, in an environment of its own, and runs what it is for.

    python -m tools.extras [EXTRA ...]

An extra that lacks a package works wherever another extra brings it, and nowhere else: so no environment here has two.
Takes minutes an extra; exit code 1 if one fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.constraints import ROOT

_TINY = "builtin:pets --model cnn --image-size 32 --epochs 1 --set model.filters=[4]"
_SERVED = "for _ in $(seq 100); do curl -fs http://127.0.0.1:8792/{} >/dev/null && break || sleep 0.3; done"
_NETWORK = """
import keras
class Twice(keras.layers.Layer):
    def call(self, x):
        return keras.ops.relu(2 * x)
def small(spec):
    image = keras.Input(spec.shape)
    return keras.Model(image, Twice()(keras.layers.Conv2D(4, 3)(image)))
"""
_PARQUET = "import pandas as p; d = p.read_csv('answers.csv'); d['label'] = d.path.str.split('/').str[1]; "

PROOFS = {
    "train": f"tellapart train {_TINY} --out tiny && tellapart export demo --to keras",
    "int8": "tellapart export demo --to onnx --quantize int8",
    "jax": f"tellapart train {_TINY} --out tiny",
    "litert": "tellapart export demo --to litert && tellapart export demo --to mediapipe",
    "coreml": "tellapart export demo --to coreml",
    "openvino": "tellapart export demo --to openvino",
    "export": f"cat > mine.py <<'END'{_NETWORK}END\n"
    "PYTHONPATH=. tellapart train builtin:pets --model mine:small --image-size 32 --epochs 1 --out tiny",
    "fetch": "python -c 'import kagglehub'",
    "tables": f"python -c \"{_PARQUET}d[['path', 'label']].to_parquet('a.parquet'); d.to_excel('a.xlsx')\"\n"
    "tellapart check a.parquet --root . && tellapart check a.xlsx --root .",
    "hf": "tellapart push demo hf://me/pets --dry-run && python -c 'import datasets'",
    "remote": "python -m http.server 8792 --bind 127.0.0.1 --directory pets & trap 'kill %1' EXIT\n"
    f"{_SERVED.format('')}\ntellapart predict demo http://127.0.0.1:8792/Bengal/ && python -c 'import s3fs'",
    "gs": 'python -c \'import fsspec; fsspec.filesystem("gs", token="anon")\'',
    "az": 'python -c \'import fsspec; fsspec.filesystem("az", account_name="me", anon=True)\'',
    "tfrecord": "python -c 'from tellapart.data.sources import tfrecord_file; import google_crc32c'",
    "tfds": "python -c 'import tensorflow_datasets, google_crc32c'",
    "heif": "python -c 'import pillow_heif, PIL.Image; pillow_heif.register_heif_opener(); "
    'PIL.Image.open("pets/Bengal/Bengal_1.jpg").save("a.heic")\' && tellapart predict demo a.heic',
    "serve": f"tellapart serve demo --port 8792 & trap 'kill %1' EXIT\n{_SERVED.format('readyz')}\n"
    "curl -fs --data-binary @pets/Bengal/Bengal_1.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8792/v1/predict",
    "check": "tellapart check builtin:pets --deep || test $? -eq 1",
    "map": "python -c 'import numpy as n; from tellapart.data.map import UmapMaker; "
    "assert UmapMaker().make(n.random.rand(60, 9).astype(n.float32)).shape == (60, 2)'",
    "tune": f"tellapart tune {_TINY.replace('--epochs 1', '--set train.epochs=1')} --trials 1 --out search",
    "track": f"tellapart train {_TINY} --track tensorboard --out tiny && python -c 'import mlflow.tracking'",
    "cluster": "ray start --head --port 6391 --num-cpus 1 --include-dashboard false >/dev/null; trap 'ray stop' EXIT\n"
    "tellapart predict demo pets --cluster 127.0.0.1:6391 --out answers",
}
"""What each extra is for, as lines of bash in a folder with a run, `demo`, images, `pets`, and `answers.csv`."""
NOT_HERE = {
    "gpu": "CUDA's libraries of some gigabytes, which do nothing without a GPU",
    "docs": "`make docs` is what it is for",
    "dev": "what CI installs",
}


def tried(extra: str, wheel: Path, work: Path) -> str:
    """What it printed, where it failed; else nothing."""
    place = work / extra
    subprocess.run([sys.executable, "-m", "venv", place / "env"], check=True)
    install = [place / "env/bin/pip", "install", "-q", "--no-compile", f"{wheel}[{extra}]"]
    subprocess.run(install, check=True)
    environment = {
        **os.environ,
        "PATH": f"{place / 'env/bin'}:{os.environ['PATH']}",
        "TELLAPART_CACHE": str(work / "cache"),
    }
    environment.pop("PYTHONPATH", None)
    script = "set -euo pipefail\ntellapart demo --fast --out demo >/dev/null\nln -s $PETS pets\n"
    script += "tellapart predict demo pets --out answers.csv >/dev/null\n" + PROOFS[extra]
    environment["PETS"] = str(ROOT / "src/tellapart/data/builtin/pets")
    done = subprocess.run(
        ["bash", "-c", script], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    shutil.rmtree(place)
    return "" if done.returncode == 0 else f"exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Install each extra alone and run what it is for.")
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help=f"of {', '.join(PROOFS)}; all by default")
    extras = parser.parse_args().extras or list(PROOFS)
    if unknown := set(extras) - set(PROOFS):
        parser.error(f"not here: {', '.join(sorted(unknown))}")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", work, ROOT], check=True)
        (wheel,) = work.glob("*.whl")
        for extra in extras:
            started = time.monotonic()
            said = tried(extra, wheel, work)
            print(f"{extra}: {said or 'works alone'} ({time.monotonic() - started:.0f} s)", flush=True)
            failed += [extra] if said else []
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
