"""Features of a data set, as evaluation sees it: no augmentation, the network in eval mode."""
from dataclasses import dataclass, field

import numpy as np
import torch

from ..data.loader import eval_loader
from ..data.sources import Source
from ..method import Method


@dataclass
class Features:
    """Attributes: values (N, D) float32; labels (N,) int64 or None; index (N,) int64, the rows' positions in the source;
    unreadable [(position, reason)], the images left out."""
    values: np.ndarray
    labels: np.ndarray | None
    index: np.ndarray
    unreadable: list = field(default_factory=list)


@torch.no_grad()
def extract_features(method: Method, source: Source, size: int, resize: int, batch_size: int = 256, workers: int = 0) -> Features:
    """What ``method.embed`` gives for every readable image of a source.

    The method comes back in the mode it was in, its statistics untouched.

    Args:
        method: with its Photometric step as ``data_preprocessor``.
        source: the images.
        size, resize: short side resized to ``resize`` (bicubic), then a centre crop of ``size``.
        batch_size, workers: of the loader.
    """
    mode = [(module, module.training) for module in method.modules()]
    method.eval()
    rows, index, unreadable = [], [], []
    try:
        for batch in eval_loader(source, size, resize, batch_size, workers):
            if len(batch['index']):
                rows.append(method.embed(method.data_preprocessor.normalise(batch['pixels'])).float().cpu().numpy())
            index.append(batch['index'].numpy())
            unreadable += batch['unreadable']
    finally:
        for module, training in mode:
            module.training = training
    index = np.concatenate(index)
    values = np.concatenate(rows) if rows else np.empty((0, method.embed_dim), np.float32)
    return Features(values, None if source.labels is None else source.labels[index], index, unreadable)
