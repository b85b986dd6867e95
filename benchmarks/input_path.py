"""Measure images/s of one CPU core from JPEG bytes to two BYOL views of 224 px.

    pip install -e '.[bench]'
    python benchmarks/input_path.py --images data/imagenet/train [--rounds 5] [--json FILE]

The peers get the same bytes and one thread: lightly's BYOLTransform on Pillow images, as in its
BYOL examples, and torchvision's v2 classes on uint8 tensors.

The work is equal: two antialiased crops of 224 px (ours and torchvision's bicubic; lightly's
bilinear, which costs less) with the same areas, and the same colour jitter, grayscale, blur,
solarize and normalisation with the same probabilities; the result is float32. ``host part`` is the
work of our loader's workers when the device does the photometric step: decoding and cropping to
uint8 (flips are then also done on the device).

Before the timing, our crops are compared with Pillow's crops of the same boxes: they may differ by
one grey level on average.
"""

import io
import statistics
import time

import numpy as np
import simplejpeg
import torch
from common import alternate, arguments, jpegs, machine, rows_of, table, write
from PIL import Image

from ssl_zoo.data.crop import crop, crop_box
from ssl_zoo.data.decode import read_pixels
from ssl_zoo.data.loader import keep_freed_memory
from ssl_zoo.data.photometric import Photometric
from ssl_zoo.data.sources import Source
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View

BATCH = 64
_BOTH = dict(size=224, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2)
VIEWS = [
    View(**_BOTH, blur_p=1.0),
    View(**_BOTH, blur_p=0.1, solarize_p=0.2),
]  # as configs/byol/r50_imagenet.py
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Bytes(Source):
    """A source of JPEG files in memory."""

    def __init__(self, files: list[bytes]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def pixels(self, i: int) -> np.ndarray:
        return read_pixels(self.files[i])


class Ours:
    """Makes batches of BATCH images with the data set of the training loader."""

    def __init__(self, files: list[bytes], photometric: bool, compiled: bool = False):
        self.dataset = ViewDataset(Bytes(files), VIEWS, seed=0)
        self.photometric = Photometric(VIEWS, MEAN, STD) if photometric else None
        if photometric:
            self.photometric.compiled = compiled

    def __call__(self) -> None:
        for at in range(0, len(self.dataset), BATCH):
            batch = self.dataset.__getitems__(
                [(0, i) for i in range(at, min(at + BATCH, len(self.dataset)))]
            )
            if self.photometric is not None:
                self.photometric(batch)


class Lightly:
    def __init__(self, files: list[bytes]):
        from lightly.transforms.byol_transform import BYOLTransform

        self.files = files
        self.transform = BYOLTransform()

    def __call__(self) -> None:
        for data in self.files:
            with Image.open(io.BytesIO(data)) as image:
                self.transform(image.convert('RGB'))


class Torchvision:
    def __init__(self, files: list[bytes]):
        from torchvision.transforms import v2

        self.files = files

        def view(blur_p: float, solarize_p: float):
            return v2.Compose(
                [
                    v2.RandomResizedCrop(
                        224, antialias=True, interpolation=v2.InterpolationMode.BICUBIC
                    ),
                    v2.RandomHorizontalFlip(),
                    v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
                    v2.RandomGrayscale(0.2),
                    v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], blur_p),
                    v2.RandomSolarize(128, solarize_p),
                    v2.ToDtype(torch.float32, scale=True),
                    v2.Normalize(MEAN, STD),
                ]
            )

        self.views = view(1.0, 0.0), view(0.1, 0.2)

    def __call__(self) -> None:
        from torchvision.transforms.v2 import functional as F

        for data in self.files:
            with Image.open(io.BytesIO(data)) as image:
                pixels = F.pil_to_tensor(image.convert('RGB'))
            for view in self.views:
                view(pixels)


def fidelity(files: list[bytes]) -> tuple[float, float]:
    """Return the mean absolute difference between our crops and Pillow's, in grey levels.

    The first figure is the mean over all images, the second that of the worst image.
    """
    batch = ViewDataset(Bytes(files), VIEWS, seed=0).__getitems__(
        [(0, i) for i in range(len(files))]
    )
    differences = []
    for view, rows, got in zip(VIEWS, batch['params'], batch['views'], strict=True):
        for data, row, pixels in zip(files, rows.numpy(), got.numpy(), strict=True):
            with Image.open(io.BytesIO(data)) as image:
                box = crop_box(row, image.height, image.width)
                expected = np.asarray(
                    image.convert('RGB')
                    .crop(box)
                    .resize((view.size, view.size), Image.Resampling.BICUBIC)
                )
            differences.append(np.abs(pixels.astype(int) - expected.transpose(2, 0, 1)).mean())
    return float(np.mean(differences)), float(np.max(differences))


def parts(files: list[bytes], rounds: int) -> dict[str, float]:
    """Return milliseconds per image of decoding and cropping.

    Decoding at half the scale, which we do not do, is measured for comparison.
    """
    images = [read_pixels(data) for data in files]
    dataset = ViewDataset(Bytes(files), VIEWS, seed=0)
    out = [[torch.empty(3, 224, 224, dtype=torch.uint8) for _ in VIEWS] for _ in files]
    params = dataset._params(np.zeros(len(files), int), np.arange(len(files)))
    times = alternate(
        {
            'decode, Pillow': lambda: [
                np.asarray(Image.open(io.BytesIO(data)).convert('RGB')) for data in files
            ],
            'decode, ours': lambda: [read_pixels(data) for data in files],
            'decode at half the scale': lambda: [
                simplejpeg.decode_jpeg(data, 'RGB', min_height=1, min_width=1, min_factor=2)
                for data in files
            ],
            'two crops, ours': lambda: [
                crop(pixels, VIEWS, params[:, i], out[i]) for i, pixels in enumerate(images)
            ],
        },
        rounds,
    )
    return {name: 1e3 * statistics.median(t) / len(files) for name, t in times.items()}


def could_be_halved(files: list[bytes]) -> float:
    """Return the share of images with both crops at least twice as large as the views."""
    params = ViewDataset(Bytes(files), VIEWS, seed=0)._params(
        np.zeros(len(files), int), np.arange(len(files))
    )
    count = 0
    for i, data in enumerate(files):
        boxes = [crop_box(rows[i], *simplejpeg.decode_jpeg_header(data)[:2]) for rows in params]
        count += all(
            min(right - left, bottom - top) >= 2 * view.size
            for view, (left, top, right, bottom) in zip(VIEWS, boxes, strict=True)
        )
    return count / len(files)


def measure(files: list[bytes], rounds: int, peers: bool = True, compiled: bool = True) -> dict:
    torch.set_num_threads(1)
    keep_freed_memory()  # as in our loader's workers; here it also helps the peers
    mean, worst = fidelity(files)
    if mean >= 1:
        raise SystemExit(f"our crops differ from Pillow's by {mean:.2f} grey levels on average")
    runs = {'lightly BYOLTransform': Lightly(files)}
    if peers:
        runs['torchvision v2 classes, uint8 tensors'] = Torchvision(files)
    runs |= {'ssl_zoo, host part': Ours(files, False), 'ssl_zoo, all on the CPU': Ours(files, True)}
    if compiled:
        runs['ssl_zoo, all on the CPU, compiled'] = Ours(files, True, compiled=True)
        runs['ssl_zoo, all on the CPU, compiled']()  # the compiler's own time is not in it
    times = alternate(runs, rounds)
    return dict(
        rows=rows_of(times, len(files), 'lightly BYOLTransform'),
        difference=mean,
        worst=worst,
        images=len(files),
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        '--images',
        help='a folder of JPEG files, of which the first 100 are taken; without it, made here from '
        'noise',
    )
    args = parser.parse_args()
    files = jpegs(args.images)
    started = time.perf_counter()
    figures = measure(files, args.rounds)
    figures['parts'] = parts(files, args.rounds)
    figures['could be halved'] = could_be_halved(files)
    print(
        f'{len(files)} JPEG files of {np.mean([len(f) for f in files]) / 1e3:.0f} kB on average to '
        'two BYOL views of 224 px, one thread, '
        f'{machine()["cpu"]}, torch {torch.__version__}, median of {args.rounds} rounds'
    )
    table(figures['rows'], 'images', 'lightly')
    print(
        f"our crops against Pillow's: {figures['difference']:.3f} grey levels on average, "
        f'{figures["worst"]:.3f} in the worst image'
    )
    for name, value in figures['parts'].items():
        print(f'  {name:<52}{value:10.2f} ms per image')
    print(
        'images both of whose crops could come from half the scale: '
        f'{figures["could be halved"]:.0%}'
    )
    print(f'({time.perf_counter() - started:.0f} s in all)')
    write(args.json, command='input_path', **figures)


if __name__ == '__main__':
    main()
