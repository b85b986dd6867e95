"""Measure how many CIFAR-sized images per second become two views, beside lightly's loader.

    pip install -e '.[bench]'
    python benchmarks/on_device.py [--threads 1] [--rounds 5] [--json FILE]

The work: 5,120 images of 32 px, the two views of configs/byol/r18_cifar10.py (no blur, solarize in
the second), batches of 256, float32 at the end. lightly's loader is its BYOLTransform with
input_size=32 and without blur, as in its CIFAR-10 example, behind a DataLoader in this process;
with more threads, lightly's loader gets as many workers. Ours holds the images on the device
(data.on_device=True) and draws, crops, jitters and normalises whole batches there; on a CPU with
one thread, so that both have one core.
"""

import os

import numpy as np
import torch
from common import alternate, arguments, machine, rows_of, table, write
from PIL import Image

from ssl_zoo.data.loader import train_loader
from ssl_zoo.data.on_device import DeviceDataset
from ssl_zoo.data.photometric import Photometric
from ssl_zoo.data.sources import Source
from ssl_zoo.data.views import View

_BOTH = dict(size=32, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2)
VIEWS = [View(**_BOTH), View(**_BOTH, solarize_p=0.2)]
BATCH = 256


class Clouds(Source):
    """A source of smooth noise images of 32 px."""

    def __init__(self, n: int):
        rng = np.random.default_rng(0)
        self.images = np.stack(
            [
                np.asarray(
                    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
                        (32, 32)
                    )
                )
                for _ in range(n)
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, i: int) -> np.ndarray:
        return self.images[i]


class Ours:
    def __init__(self, source: Source, device: torch.device, compiled: bool):
        self.dataset = DeviceDataset(source, VIEWS, 0, device, compiled)
        self.step = Photometric(VIEWS, (0.5,) * 3, (0.25,) * 3).to(device)
        self.step.compiled = compiled

    def __call__(self) -> None:
        for batch in train_loader(self.dataset, BATCH, None, stop=len(self.dataset) // BATCH):
            self.step(batch)


class Lightly:
    def __init__(self, source: Source, workers: int):
        from lightly.transforms.byol_transform import (
            BYOLTransform,
            BYOLView1Transform,
            BYOLView2Transform,
        )

        small = dict(input_size=32, gaussian_blur=0.0)
        transform = BYOLTransform(BYOLView1Transform(**small), BYOLView2Transform(**small))

        class Views(torch.utils.data.Dataset):
            def __len__(self):
                return len(source)

            def __getitem__(self, i):
                return transform(source.read(i))

        self.loader = torch.utils.data.DataLoader(
            Views(),
            BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def __call__(self) -> None:
        for _ in self.loader:
            pass


def measure(images: int, rounds: int, threads: int = 1, compiled: bool = True) -> dict:
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    torch.set_num_threads(threads)
    source = Clouds(images)
    runs = {
        'lightly': Lightly(source, 0 if threads == 1 else threads),
        'ssl_zoo': Ours(source, device, False),
    }
    if compiled:
        runs['ssl_zoo, compiled'] = Ours(source, device, True)
        runs['ssl_zoo, compiled']()  # the compiler's own time is not in it
    return dict(
        rows=rows_of(alternate(runs, rounds), images // BATCH * BATCH, 'lightly'), images=images
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    figures = measure(5120, args.rounds, args.threads)
    print(
        f'{figures["images"]:,} images of 32 px to two views, {args.threads} of {os.cpu_count()} '
        'cores, '
        f'{machine()["gpu"] or machine()["cpu"]}, torch {torch.__version__}, median of '
        f'{args.rounds} rounds'
    )
    table(figures['rows'], 'images', 'lightly')
    write(args.json, command='on_device', threads=args.threads, **figures)


if __name__ == '__main__':
    main()
