"""Images as evaluation sees them, against torchvision's transforms."""

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.data.eval_dataset import EvalDataset
from ssl_zoo.data.loader import eval_loader
from ssl_zoo.data.sources.folder import ImageFolder

pytestmark = pytest.mark.quick


def test_a_very_long_image_does_not_fill_the_memory(image_folder):
    root = image_folder(classes=1, per_class=1)
    Image.new('RGB', (20000, 2), 'red').save(root / 'class_0' / 'long.png')
    [batch] = eval_loader(ImageFolder(str(root)), size=224, resize=256)
    assert batch['pixels'].shape == (2, 3, 224, 224) and batch['pixels'][1, 0].min() > 250


def test_evaluation_resizes_the_short_side_and_cuts_the_centre(image_folder):
    from torchvision import transforms

    rng = np.random.default_rng(0)
    root = image_folder(classes=1, per_class=1)
    Image.fromarray(rng.integers(0, 256, (90, 61, 3), dtype=np.uint8)).save(
        root / 'class_0' / '1.png'
    )
    (root / 'class_0' / '2.png').write_bytes(b'broken')
    source = ImageFolder(str(root))
    [batch] = eval_loader(source, size=28, resize=32)
    reference = transforms.Compose(
        [
            transforms.Resize(32, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(28),
            transforms.PILToTensor(),
        ]
    )
    assert batch['index'].tolist() == [0, 1] and batch['unreadable'][0][0] == 2
    for pixels, i in zip(batch['pixels'], batch['index'].tolist(), strict=True):
        assert torch.equal(pixels, reference(source.read(i)))


def test_evaluation_leaves_images_of_the_right_size_alone(digits):
    source = digits
    batch = EvalDataset(source, 32, 32).__getitems__([4])
    assert np.array_equal(batch['pixels'][0].numpy().transpose(1, 2, 0), source.images[4])
