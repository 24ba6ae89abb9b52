"""Source + Config -> Plan: every open setting decided once, with the reasons; and the plan that a run was started with.

Imports no Keras.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from tellapart.config import AUGMENTATIONS, AUTO, Config, ModelConfig, Plan
from tellapart.data.scan import decide_spec, sample
from tellapart.data.sources.source import Source
from tellapart.errors import ModelError
from tellapart.models.backend import choose_precision, has_keras
from tellapart.models.build import require_image
from tellapart.models.pretrained import HeadOptions, PretrainedBackbone, options_of, require_offered
from tellapart.models.registry import choose, resolve
from tellapart.runs.run import RunFolder
from tellapart.task import Fit

AUGMENTED_VIEWS = 4


def decide(config: Config, source: Source) -> Plan:
    """The model, the image that it sees, augmentation and views, and the precision that suits this machine.

    Raises ModelError for an unknown model or option, for an option that only a pretrained backbone has, or for an image
    size that the backbone cannot take.
    """
    seen = cache(lambda: sample(source, config.data))
    model, reasons = config.model.model_dump(), []
    if config.model.name == AUTO:
        model["name"], reason = choose([(found.height, found.width) for found in seen()], len(source.rows), has_keras())
        reasons.append(reason)
    try:
        row, options = resolve(ModelConfig.model_validate(model))
        row.features(options)  # an unknown set of features is reported now
    except ModelError as error:
        if not reasons:
            raise
        raise ModelError(f"{error} It was chosen from the images; name the model you mean with --model.") from None
    if row.pretrained is None and (config.train.fine_tune or config.train.views is not None):
        raise ModelError(
            f"{row.name} is trained from scratch: train.fine_tune and train.views are for a pretrained backbone. "
            "Leave them out, or name a backbone with --model, such as efficientnet-lite0."
        )
    fit: Fit = row.pretrained.fit if row.pretrained else "squash"
    channels = 3 if row.pretrained else None
    spec, decided = decide_spec(config.image, seen, side=row.side, fit=fit, channels=channels)
    if row.pretrained:
        require_image(row.pretrained, spec)
        chosen = cast(HeadOptions, options)
        require_offered(chosen, row.pretrained, spec)
        if chosen.features != AUTO and chosen.root is None:
            model |= options_of(row.pretrained, chosen.features)
    image = {**config.image.model_dump(), **spec.to_dict()}
    values = {**config.to_dict(), "model": model, "image": image}
    preset, views = _augmentation(config, row.pretrained)
    if config.augment is None:
        values["augment"] = AUGMENTATIONS[preset]
    fast_bfloat16 = row.pretrained is None or row.pretrained.fast_bfloat16
    precision, _ = choose_precision(config.train.precision, fast_bfloat16)
    values["train"] = {**config.train.model_dump(exclude_none=True), "views": views, "precision": precision}
    return Plan(Config.from_dict(values), (*reasons, *decided))


def plan_of(run: RunFolder) -> Plan:
    """The plan that a run was started with. Runs before 0.2 store the precision beside their configuration."""
    config, record = run.config, run.record
    if config.train.precision == AUTO:
        config = config.with_values([f"train.precision={record.precision or choose_precision(AUTO)[0]}"])
    return Plan(config, record.decided)


def _augmentation(config: Config, pretrained: PretrainedBackbone | None) -> tuple[str, int | None]:
    """The augmentation preset if none is configured, and how often each image passes through a frozen backbone.

    Once is cheapest, and then without augmentation; if augmentation is requested, views are needed to use it.
    """
    wanted, train = config.augment, config.train
    if pretrained is None:
        return "light", None
    if train.views is not None:
        return "light" if train.views > 1 or train.fine_tune else "none", train.views
    if wanted is not None and wanted.active and not train.fine_tune:
        return "none", AUGMENTED_VIEWS
    if train.fine_tune and train.fine_tune_on == "activations":
        return "light", AUGMENTED_VIEWS if wanted is None or wanted.active else 1
    return "light" if train.fine_tune else "none", 1
