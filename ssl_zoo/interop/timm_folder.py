"""The folder that ``timm.create_model('local-dir:FOLDER')`` and the Hugging Face Hub load.

``model.safetensors`` holds the weights. ``config.json`` holds the model of timm, its arguments, and
the images that it takes, as timm's own ``save_for_hf`` writes them.
"""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import nn

from ssl_zoo.evaluation.features import Preprocessing

WEIGHTS = 'model.safetensors'
CONFIG = 'config.json'
# Arguments for training alone: timm's save_for_hf leaves them out, too.
DROP_RATES = ('drop_rate', 'drop_path_rate', 'drop_block_rate')


def timm_config(
    encoder: nn.Module, name: str, arguments: dict[str, Any], preprocessing: Preprocessing
) -> dict[str, Any]:
    """Return the content of config.json.

    Args:
        encoder: the backbone, built by timm.
        name: name of the model of timm.
        arguments: further arguments of timm.create_model.
        preprocessing: what happens to an image before the encoder.
    """
    own = encoder.pretrained_cfg  # of the model that timm knows under this name
    is_flexible = arguments.get('dynamic_img_size') or arguments.get('strict_img_size') is False
    pretrained_cfg = PretrainedCfg(
        input_size=(3, preprocessing.size, preprocessing.size),
        fixed_input_size=bool(own.get('fixed_input_size')) and not is_flexible,
        interpolation=preprocessing.interpolation,
        crop_pct=_crop_share(preprocessing.size, preprocessing.resize),
        mean=tuple(preprocessing.mean),
        std=tuple(preprocessing.std),
        num_classes=0,
        first_conv=own.get('first_conv'),
        classifier=own.get('classifier'),
    )
    kept = {key: value for key, value in arguments.items() if not key.endswith(DROP_RATES)}
    config = dict(
        architecture=name.partition('.')[0],  # a tag names weights of timm
        num_classes=0,
        num_features=encoder.num_features,
        global_pool=_pooling(encoder),
        model_args=kept,
        pretrained_cfg=pretrained_cfg.to_dict(remove_source=True),
    )
    return {key: value for key, value in config.items() if value is not None}


def _crop_share(size: int, resize: int) -> float:
    """Return the ``crop_pct`` from which timm computes ``resize``: floor(size / crop_pct)."""
    share = size / resize
    while math.floor(size / share) < resize:  # the quotient was rounded
        share = math.nextafter(share, 0)
    return share


def _pooling(encoder: nn.Module) -> str | None:
    """Return the name of the pooling, which timm notes and does not read."""
    for owner in (getattr(encoder, 'head', None), encoder):
        pool = getattr(owner, 'global_pool', None)
        pool = getattr(pool, 'pool_type', pool)
        if isinstance(pool, str) and pool:
            return pool
    return None


def load_from_timm_folder(weights: Path, config: dict[str, Any]) -> nn.Module:
    """Load a network as timm loads it from a folder.

    Args:
        weights: file of the weights, under any name.
        config: content of config.json.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, WEIGHTS).symlink_to(weights.absolute())
        Path(folder, CONFIG).write_text(json.dumps(config))
        return timm.create_model(f'local-dir:{folder}', pretrained=True, num_classes=0).eval()
