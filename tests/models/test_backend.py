"""How Keras starts, each time in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tellapart.models import backend

pytest.importorskip("keras")
pytest.importorskip("pandas")


def said_by(script: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_command_line_starts_keras_without_what_is_for_others_and_leaves_it_to_every_other_import() -> None:
    script = """
import sys, threading
from tellapart.cli import main
sys.argv = ["tellapart", "--version"]
try:
    main.run()
except SystemExit:
    pass
from tellapart.models.backend import start_keras
starting = threading.Thread(target=start_keras)
starting.start()
while starting.is_alive() and "tensorflow" not in sys.modules:
    pass
import pandas
starting.join()
print(*(name for name in ("keras", "pandas", "sklearn", "matplotlib") if name in sys.modules))
import sklearn, matplotlib.pyplot
print("found")
"""
    assert said_by(script)[-3:] == ["keras", "pandas", "found"]


def test_in_a_process_of_somebody_else_keras_is_whole() -> None:
    script = """
from tellapart.models.backend import start_keras
start_keras()
from keras.src.trainers.data_adapters import array_slicing
from keras.src.visualization import plot_image_gallery
from keras.src.wrappers import sklearn_wrapper
print(array_slicing.pandas.__name__, plot_image_gallery.plt.__name__, sklearn_wrapper.sklearn.__name__)
"""
    assert said_by(script) == ["pandas", "matplotlib.pyplot", "sklearn"]


def test_a_machine_with_a_gpu_and_without_keras_computes_on_its_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(backend, "has_keras", lambda: False)
    monkeypatch.setattr(backend, "library", lambda: pytest.fail("There is no Keras to ask."))
    assert not backend.has_gpu()
    assert backend.choose_precision("auto", fast_bfloat16=False)[0] == "float32"
