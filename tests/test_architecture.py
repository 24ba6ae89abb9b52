"""The rules of the house, read from the code itself."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tellapart
from tools.modules import BEGINS, ENDS, lines_by_room, lines_told, listing

ROOT = Path(tellapart.__file__).parent

HOME = ROOT.parents[1]
ROOMS = re.findall(r"^\| `(\w+)` \|", (HOME / "docs/design.md").read_text(encoding="utf-8"), re.MULTILINE)
LIGHT = ("keras", "tensorflow", "torch", "jax")


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room_of(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every import, those inside functions too; not those for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_from_rooms_before_it(path: Path) -> None:
    relative = path.relative_to(ROOT)
    if relative.name in ("__init__.py", "__main__.py") and len(relative.parts) == 1:
        return
    own = relative.parts[0].removesuffix(".py")
    assert own in ROOMS, f"{relative} stands in no room of docs/design.md"
    wrong = [
        (line, name)
        for line, name in imports(path)
        if name.startswith("tellapart.") and room_of(name) in ROOMS and ROOMS.index(room_of(name)) > ROOMS.index(own)
    ]
    assert not wrong, f"{relative} imports from later rooms: {wrong}"


def test_the_page_of_the_design_names_no_room_that_is_not_there() -> None:
    assert len(ROOMS) == len(set(ROOMS))
    assert set(ROOMS) <= {path.stem for path in ROOT.iterdir()}


@pytest.mark.parametrize("room", [*ROOMS[: ROOMS.index("models")], "runs", "evaluation"])
def test_no_room_before_the_models_knows_keras(room: str) -> None:
    paths = [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).rglob("*.py"))
    heavy = [(path.name, name) for path in paths for _, name in imports(path) if name.split(".")[0] in LIGHT]
    assert not heavy


def test_keras_is_written_against_and_not_tensorflow() -> None:
    named = [
        str(path.relative_to(ROOT))
        for path in modules()
        for _, name in imports(path)
        if name.split(".")[0] in ("tensorflow", "torch", "jax")
    ]
    assert not named, "only models/backend.py may reach the backend, and it does so late"


def test_what_tells_its_maker_of_us_and_json_that_is_not_strict_have_one_place() -> None:
    places = {
        r"(import|from) (onnxruntime)\b|import_module\(f?\"onnxruntime": ("models/runtime.py",),
        r"(import|from) (mlflow)\b": ("inference/mlflow_export.py", "training/tracker_backends.py"),
        r"import_module\(\"openvino": ("models/openvino_runtime.py",),
        r"json\.(dumps?|loads?)\(": ("files.py", "models/keras_file.py", "serve/middleware.py", "serve/service.py"),
    }
    for pattern, allowed in places.items():
        found = [
            str(path.relative_to(ROOT))
            for path in modules()
            if re.search(pattern, re.sub(r"if TYPE_CHECKING:\n(    .*\n|\n)+", "", path.read_text("utf-8")))
        ]
        assert set(found) <= set(allowed), pattern


HOME = ROOT.parents[1]
WRITTEN = [
    path
    for room in ("src", "tests", "benchmarks", "tools", "examples")
    for path in sorted(HOME.glob(f"{room}/**/*.py"))
]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(HOME)))
def test_a_file_has_at_most_400_lines_and_a_function_60_after_its_parameters(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not [f.name for f in functions if (f.end_lineno or 0) - f.body[0].lineno >= 60]


def loaded_by(code: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has loaded after the code."""
    script = f"{code}\nimport sys, json\nprint('\\n' + json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_and_its_help_load_nothing_heavy() -> None:
    loaded = loaded_by("import tellapart, tellapart.cli.main; from tellapart.plugins import command, tracker")
    assert not loaded & {
        *LIGHT,
        "numpy",
        "onnxruntime",
        "matplotlib",
        "pandas",
        "sklearn",
        "scipy",
        "cv2",
        "PIL",
        "pydantic",
    }


def test_predicting_loads_no_training_library() -> None:
    loaded = loaded_by(
        "import tellapart.api.runs, tellapart.inference.predictor, tellapart.inference.inputs, onnxruntime"
    )
    assert not loaded & {*LIGHT, "matplotlib", "pandas", "sklearn", "scipy"}


def test_a_deep_check_loads_no_training_library(shapes: Path) -> None:
    loaded = loaded_by(f"import tellapart as ta; ta.check({str(shapes)!r}, deep=True)")
    assert "onnxruntime" in loaded
    assert not loaded & {"tensorflow", "keras", "onnx", "safetensors"}


def test_a_studio_and_its_doubts_load_no_training_library(shapes: Path) -> None:
    loaded = loaded_by(
        "from pathlib import Path; from tellapart.config import Config; import tellapart as ta\n"
        "import tellapart.cli.studio, tellapart.studio.app; from tellapart.studio.session import Session\n"
        f"Session({str(shapes)!r}, Path('no.csv'), Config()); ta.doubts({str(shapes)!r})"
    )
    assert "starlette" in loaded
    assert not loaded & {"tensorflow", "keras", "onnx", "safetensors"}


def test_every_public_name_is_there() -> None:
    assert set(tellapart.__all__) == {"__version__", *tellapart._HOMES}
    for name in tellapart.__all__:
        assert getattr(tellapart, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tellapart.nonsense


def test_the_page_of_the_design_lists_each_module_with_its_own_first_sentence() -> None:
    """`python -m tools.modules` writes the list."""
    page = (HOME / "docs/design.md").read_text(encoding="utf-8")
    assert page.partition(BEGINS)[2].partition(ENDS)[0].strip() == listing()


def test_the_lines_of_each_room_are_told_with_a_reason_for_each_large_one() -> None:
    told = lines_told((HOME / "docs" / "design.md").read_text(encoding="utf-8"))
    found = lines_by_room()
    assert told.keys() == found.keys()
    for room, counts in found.items():
        said, why = told[room]
        assert said == [pytest.approx(count, rel=0.1, abs=100) for count in counts], "python -m tools.modules"
        assert counts[0] <= 2000 or why, f"{room} has {counts[0]} lines: why?"
