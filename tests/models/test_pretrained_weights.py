from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.data import pixels
from tellapart.errors import ModelError
from tellapart.models.pretrained import PRETRAINED, PretrainedBackbone
from tellapart.task import ImageSpec, Task

keras = pytest.importorskip("keras")

import h5py  # noqa: E402
from keras.src.legacy.saving import legacy_h5_format  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

from tellapart.models import pretrained_weights  # noqa: E402
from tellapart.models.backbone import Backbone  # noqa: E402
from tellapart.models.classifier import Classifier  # noqa: E402
from tellapart.models.pretrained_weights import SERVER, load_pretrained, weights_digest  # noqa: E402
from tellapart.models.weights_file import named_variables  # noqa: E402
from tests.models.conftest import Application, official  # noqa: E402

SHARED = Path(__file__).resolve().parents[3] / "shared" / "weights"
PETS = Path(pixels.__file__).parent / "builtin" / "pets"
TWO = Task(("a", "b"))
MOBILENET = PRETRAINED["mobilenet-v2"]


@pytest.fixture(autouse=True)
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or fills the folder that Keras downloads to, and none reaches the real server."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(pretrained_weights, "SERVER", "http://127.0.0.1:9/")
    return tmp_path / "keras"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """A server in the place of the official one; gives the paths that were asked for."""
    servers = []

    def start(content: bytes, status: int = 200, announced: int | None = None) -> list[str]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(announced or len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setattr(pretrained_weights, "SERVER", f"http://127.0.0.1:{server.server_port}/")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def network(pretrained: PretrainedBackbone, side: int | None = None) -> Backbone:
    side = side or pretrained.smallest
    return Classifier.from_name(TWO, ImageSpec(side, side), pretrained.name).backbone


def write_older(model: keras.Model, path: Path) -> Path:
    """The layout of the official files."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def assert_same_weights(model: Backbone, other: keras.Model, reshaped: bool = False) -> None:
    for value, expected in zip(model.weights, other.get_weights(), strict=True):
        value = np.asarray(value)
        np.testing.assert_array_equal(value, expected.reshape(value.shape) if reshaped else expected, strict=True)


def test_the_file_of_the_table_is_the_one_that_keras_would_fetch(backbone_name: str, application: Application) -> None:
    pretrained = PRETRAINED[backbone_name]
    assert application.asked == [(pretrained.file, f"{SERVER}{pretrained.source}", pretrained.checksum)]


def test_a_backbone_without_an_application_has_no_file_to_fetch() -> None:
    assert {name for name, pretrained in PRETRAINED.items() if not pretrained.application} == {
        name for name, pretrained in PRETRAINED.items() if not pretrained.file
    }


@pytest.mark.parametrize("layout", ["older", "newer"])
def test_every_backbone_takes_the_weights_of_its_application_in_both_layouts(
    backbone_name: str, layout: str, tmp_path: Path, application: Application, on_backbone: Any
) -> None:
    pretrained = PRETRAINED[backbone_name]
    if layout == "older":
        path = write_older(application.model, tmp_path / pretrained.file)
    else:
        path = tmp_path / "given.weights.h5"
        application.model.save_weights(path)
    assert load_pretrained(on_backbone.backbone, pretrained, str(path)) == f"the weights of {path}"
    assert_same_weights(on_backbone.backbone, application.model, reshaped=pretrained.rebuild is not None)


def test_the_official_file_is_downloaded_once_and_kept_where_keras_keeps_it(serve, keras_home, tmp_path) -> None:
    theirs, ours = official(MOBILENET), network(MOBILENET)
    content = write_older(theirs, tmp_path / "served.h5").read_bytes()
    pretrained = replace(MOBILENET, checksum=hashlib.md5(content).hexdigest())
    asked = serve(content)
    kept = keras_home / "models" / pretrained.file
    for weights in ("auto", "imagenet"):
        words = load_pretrained(ours, pretrained, weights)
        assert words == f"ImageNet weights of Keras Applications (Apache-2.0), {kept}"
        assert_same_weights(ours, theirs)
    assert asked == [f"/mobilenet_v2/{pretrained.file}"]
    assert [path.name for path in kept.parent.iterdir()] == [pretrained.file]


def test_a_file_without_a_checksum_is_taken_as_it_comes(serve, tmp_path: Path) -> None:
    theirs, ours = official(MOBILENET), network(MOBILENET)
    serve(write_older(theirs, tmp_path / "served.h5").read_bytes())
    load_pretrained(ours, MOBILENET, "imagenet")
    assert_same_weights(ours, theirs)


def test_without_a_network_the_file_its_place_and_the_way_out_are_named(keras_home: Path) -> None:
    pretrained = PRETRAINED["inception-v3"]
    with pytest.raises(ModelError) as raised:
        load_pretrained(network(pretrained), pretrained, "auto")
    for word in (
        "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", str(keras_home / "models"), "--weights FILE",
        "http://127.0.0.1:9/inception_v3/", "refused", "efficientnet-lite0",
    ):  # fmt: skip
        assert word in str(raised.value)


@pytest.mark.parametrize("checksum", ["0" * 32, "0" * 64], ids=["md5", "sha256"])
def test_another_file_than_the_official_one_is_not_kept(serve, keras_home: Path, checksum: str) -> None:
    serve(b"<html>Please log in</html>")
    with pytest.raises(ModelError, match=rf"another file than expected: .*, not {checksum}\. Nothing was kept"):
        load_pretrained(network(MOBILENET), replace(MOBILENET, checksum=checksum), "imagenet")
    assert not (keras_home / "models").exists()


def test_a_download_that_breaks_off_or_is_refused_is_told_and_not_kept(serve, keras_home: Path) -> None:
    serve(b"\x89HDF", announced=1000)
    with pytest.raises(ModelError, match=r"could not be downloaded.*connection closed after 4 of 1,000 bytes"):
        load_pretrained(network(MOBILENET), MOBILENET, "imagenet")
    serve(b"", status=404)
    with pytest.raises(ModelError, match="404"):
        load_pretrained(network(MOBILENET), MOBILENET, "imagenet")
    assert not (keras_home / "models").exists()


@pytest.mark.parametrize("weights", ["auto", "imagenet"])
def test_the_weights_inside_the_package_need_no_network(weights: str) -> None:
    pretrained = PRETRAINED["efficientnet-lite0"]
    model = network(pretrained)
    before = weights_digest(model)
    assert load_pretrained(model, pretrained, weights) == "ImageNet weights bundled with tellapart (Apache-2.0)"
    assert weights_digest(model) != before


def test_random_weights_are_left_as_they_are() -> None:
    model = network(MOBILENET)
    before = weights_digest(model)
    assert load_pretrained(model, MOBILENET, "none") == "random weights"
    assert weights_digest(model) == before


@pytest.mark.parametrize("weights", ["auto", "imagenet"])
def test_a_backbone_whose_weights_no_server_has_says_how_to_get_them(weights: str) -> None:
    pretrained = PRETRAINED["efficientnet-lite1"]
    with pytest.raises(ModelError, match=r"efficientnet-lite1 .*convert_efficientnet_lite\.py.*--weights FILE"):
        load_pretrained(network(pretrained), pretrained, weights)


def test_safetensors_named_as_ours_are_read(tmp_path: Path) -> None:
    pretrained = PRETRAINED["efficientnet-lite1"]
    theirs, ours = network(pretrained), network(pretrained)
    path = tmp_path / "lite1.safetensors"
    save_file({name: np.array(value) for name, value in named_variables(theirs).items()}, path)
    load_pretrained(ours, pretrained, str(path))
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def refused(path: Path, model: Backbone, pretrained: PretrainedBackbone = MOBILENET) -> str:
    """What is said of the file; the network must stay as it was."""
    before = weights_digest(model)
    with pytest.raises(ModelError) as raised:
        load_pretrained(model, pretrained, str(path))
    assert weights_digest(model) == before
    assert str(path) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("layout", ["older", "newer"])
def test_files_of_another_network_with_the_top_or_misnamed_are_told_apart(tmp_path: Path, layout: str) -> None:
    right, wrong = (".h5", ".weights.h5") if layout == "older" else (".weights.h5", ".h5")

    def write(model: keras.Model, name: str) -> Path:
        path = tmp_path / name
        if layout == "older":
            return write_older(model, path)
        model.save_weights(tmp_path / "kept.weights.h5", overwrite=True)
        return (tmp_path / "kept.weights.h5").rename(path)

    model = network(MOBILENET)
    message = refused(write(official(PRETRAINED["resnet-50"]), f"resnet{right}"), model)
    assert "does not hold the 260 weights of mobilenet-v2" in message
    assert "--model" in message
    message = refused(write(official(MOBILENET, top=True), f"top{right}"), model)
    assert "2 arrays in addition to the weights of mobilenet-v2, of shapes (1000,), (1280, 1000)" in message
    assert "without the top" in message
    message = refused(write(official(MOBILENET), f"misnamed{wrong}"), model)
    assert f"rename {tmp_path / f'misnamed{wrong}'} to end in {right}" in message


def test_a_rebuilt_backbone_refuses_what_is_not_of_its_application(tmp_path: Path) -> None:
    pretrained = PRETRAINED["convnext-tiny"]
    model = network(pretrained)
    message = refused(write_older(official(MOBILENET), tmp_path / "mobilenet.h5"), model, pretrained)
    assert "does not hold the 180 weights of convnext_tiny" in message
    message = refused(write_older(official(pretrained, top=True), tmp_path / "top.h5"), model, pretrained)
    assert "2 arrays in addition to the weights of convnext_tiny, of shapes (768, 1000), (1000,)" in message


def test_the_same_shapes_in_another_order_are_refused_and_undone(tmp_path: Path) -> None:
    model = network(MOBILENET)
    path = write_older(official(MOBILENET), tmp_path / "given.h5")
    with h5py.File(path, "r+") as file:
        names = file.attrs["layer_names"]
        file.attrs["layer_names"] = np.concatenate([names[:-3], names[-3:][::-1]])
    assert "in another order" in refused(path, model)


def test_a_file_that_is_missing_or_no_weights_at_all_is_told(tmp_path: Path) -> None:
    model = network(MOBILENET)
    message = refused(tmp_path / "absent.h5", model)
    assert "No such file" in message
    assert "auto, imagenet, none" in message
    broken = tmp_path / "broken.h5"
    broken.write_bytes(b"\x89HDF\r\n\x1a\nand nothing more")
    assert "cannot be read as an HDF5 file" in refused(broken, model)
    text = tmp_path / "page.h5"
    text.write_text("<html>")
    assert "cannot be read as a safetensors file" in refused(text, model)
    assert "are not a file" in refused(tmp_path, model)


def test_equal_weights_have_equal_digests_in_any_process_and_one_value_changes_them() -> None:
    pretrained = PRETRAINED["inception-v3"]
    made = Classifier.from_name(TWO, ImageSpec(75, 75), pretrained.name)
    first, second = made.backbone, network(pretrained)
    for variable, value in zip(second.weights, first.weights, strict=True):
        variable.assign(value)
    assert weights_digest(first) == weights_digest(second)
    assert len(weights_digest(first)) == 32
    before = weights_digest(first)
    made.head.last.set_weights([value + 1 for value in made.head.last.get_weights()])
    assert weights_digest(first) == before, "the head is no part of the backbone"
    kernel = first.weights[0]
    kernel.assign(kernel + 1)
    assert weights_digest(first) != before


@pytest.mark.parametrize(
    ("name", "file"),
    [("inception-v3", "inception_v3_notop.weights.h5"), ("mobilenet-v2", "mobilenet_v2_notop.weights.h5")],
)
def test_the_real_weights_see_that_an_image_and_its_mirror_image_are_alike(name: str, file: str) -> None:
    path = SHARED / file
    if not path.exists():
        pytest.skip(f"shared/weights/{file} is not beside the checkout")
    pretrained = PRETRAINED[name]
    made = Classifier.from_name(TWO, ImageSpec(160, 160), pretrained.name)
    load_pretrained(made.backbone, pretrained, str(path))
    model = made.features_network()
    photographs = [pixels.read(image, ImageSpec(160, 160)) for image in sorted(PETS.rglob("*.jpg"))[:8]]
    features = [np.asarray(model(np.stack(views))) for views in (photographs, [view[:, ::-1] for view in photographs])]
    plain, mirrored = (value / np.linalg.norm(value, axis=1, keepdims=True) for value in features)
    assert (np.argmax(plain @ mirrored.T, axis=1) == np.arange(8)).all()
    assert features[0].std(axis=0).mean() > 0.1


def test_the_digest_of_the_bundled_weights_is_known_without_keras() -> None:
    for name, digest in pretrained_weights.BUNDLED_DIGESTS.items():
        model = Classifier.from_name(TWO, ImageSpec(64, 64), name).backbone
        load_pretrained(model, PRETRAINED[name], "auto")
        assert weights_digest(model) == digest
