"""Task and ImageSpec -> what a file takes and gives, in words, for whoever uses it without tellapart."""

from __future__ import annotations

from tellapart.task import ImageSpec, Kind, Task


def input_in_words(spec: ImageSpec) -> str:
    """How an image is made ready, for whoever uses the file without tellapart."""
    size = f"{spec.height} x {spec.width} (height x width)"
    fits = {
        "crop": f"scaled to cover {size}, then centre-cropped",
        "pad": f"scaled to fit inside {size}, centred on black",
        "squash": f"stretched to {size}",
    }
    colours = "RGB, 3 channels last" if spec.channels == 3 else "grey, 1 channel"
    return (
        f"uint8, 0..255, shape (n, {spec.height}, {spec.width}, {spec.channels}): {colours}; scaling to the network's "
        "range is inside the file. For an image file: apply its EXIF orientation, composite transparency over "
        f"white, then {fits[spec.fit]}, with {spec.interpolation} interpolation, antialiased."
    )


def outputs_in_words(task: Task, *, every_class: bool = False) -> dict[str, str]:
    """What each output of the file holds; those that it lacks are told too, as they depend on the network. every_class:
    whether it has a probability for each of two classes."""
    columns = ", ".join(f"{number}: {name}" for number, name in enumerate(task.classes))
    words: dict[Kind, str] = {
        "binary": "calibrated probability of {1}; that of {0} is 1 minus this",
        "multiclass": "calibrated probabilities, which sum to 1; columns {columns}",
        "multilabel": "calibrated probability of each label, which is predicted from that in thresholds.labels on; "
        "columns {columns}",
    }
    kind: Kind = "multiclass" if every_class and task.kind == "binary" else task.kind
    units = len(task.classes) if every_class else task.units
    said = words[kind].format(*task.classes[:2], columns=columns)
    return {
        "probabilities": f"float32 (n, {units}): {said}",
        "similarity": f"float32 (n, {len(task.classes)}), if present: similarity of the image to each class: "
        f"the cosine of its features to the class's mean, with its logit weighed in; columns {columns}; 1 - the "
        "largest is the distance that thresholds.unlike bounds",
    }
