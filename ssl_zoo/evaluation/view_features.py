"""Features of training views of a few fixed images, for measures that compare views of an image."""

import numpy as np
import torch
from torch import nn

from ssl_zoo.data.photometric import Photometric
from ssl_zoo.data.sources import Source
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.evaluation.features import Preprocessing, device_of, eval_mode

VIEWS = 10  # of each image, as in stable-pretraining's LiDAR
SEED = 0  # of the views: the same for all runs, so that runs on the same data have the same views
BATCH = 256  # views in a forward pass


def full_size_views(recipes: list[View]) -> list[View]:
    """Return the recipes of the largest views: all but the small crops of multi-crop."""
    largest = max(view.size for view in recipes)
    return [view for view in recipes if view.size == largest]


@torch.no_grad()
def view_features(
    network: nn.Module,
    source: Source,
    recipes: list[View],
    preprocessing: Preprocessing,
    views: int = VIEWS,
) -> np.ndarray:
    """Extract features of training views of every readable image of a source.

    The views are made as in training, by the recipes of the largest views in turn. Their random
    numbers are counter-based, and the network is in eval mode: the training's random state and the
    statistics of BatchNorm do not change.

    Args:
        network: (B, 3, H, W) -> (B, D); takes images of the size of the largest views.
        source: n images.
        recipes: recipes of the views of a training image.
        preprocessing: gives normalisation, precision and memory format.
        views: number of views q of each image.

    Returns:
        (m, q, D) float32, m readable images in the order of the source; (0, q, 0) for none.
    """
    full_size = full_size_views(recipes)
    in_turn = [full_size[number % len(full_size)] for number in range(views)]
    dataset = ViewDataset(source, in_turn, SEED)
    device = device_of(network)
    mean, std = preprocessing.mean, preprocessing.std
    photometric = Photometric(in_turn, mean, std, preprocessing.channels_last).to(device)
    parts = [np.empty((0, views, 0), np.float32)]
    with eval_mode(network):
        for images in np.array_split(np.arange(len(source)), -(-len(source) * views // BATCH)):
            batch = dataset.__getitems__([(0, int(i)) for i in images])
            if batch['views'] is None:
                continue
            with preprocessing.autocast(device):
                features = network(torch.cat(photometric(batch)['views']))  # view by view
            features = features.float().cpu().numpy().reshape(views, len(images), -1)
            # An unreadable image was replaced by another one, which would count twice.
            own = batch['index'].numpy() == images
            parts.append(features.swapaxes(0, 1)[own])
    return np.concatenate(parts[1:] or parts)
