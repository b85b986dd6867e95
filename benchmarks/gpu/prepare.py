"""Pack what the pieces need on a machine without network, into the ignored folder .gpu.

    python benchmarks/gpu/prepare.py                       # pieces a to e, g and h
    python benchmarks/gpu/prepare.py --pieces f            # Imagenette takes all the room

That machine has Python 3.12, torch 2.11 or newer with torchvision, timm, scikit-learn, SciPy,
matplotlib and TensorBoard. The pack holds wheels of what it lacks, CIFAR-10 as image folders, and
100 JPEGs of ImageNet's size; for piece f Imagenette, encoded anew so small that it fits. It has
at most 64 MiB. Give the images with --cifar10, --jpegs and --imagenette.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from environment import PACK, ROOT
from PIL import Image

LIMIT = 64 << 20
WHEELS = ['mmengine==0.10.7', 'addict', 'yapf', 'termcolor', 'platformdirs', 'rich', 'simplejpeg']
WHEELS += ['markdown-it-py', 'mdurl', 'pygments', 'faiss-cpu', 'lightly', 'lightly_utils']
PLATFORMS = [f'manylinux_2_{minor}_x86_64' for minor in (28, 27, 17)]
PLATFORMS += ['manylinux2014_x86_64', 'manylinux1_x86_64']
# Short side in pixels and JPEG quality of Imagenette, from the best on; BYOL's recipe evaluates a
# crop of 128 px from a short side of 160.
ENCODINGS = ((160, 85), (160, 70), (144, 70), (128, 75), (128, 60), (128, 45), (112, 40))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--pieces', nargs='+', choices='abcdefgh', default=list('abcdegh'))
    parser.add_argument('--cifar10', type=Path, default=ROOT / 'data/cifar10')
    parser.add_argument('--imagenette', type=Path, default=ROOT / 'data/imagenette')
    parser.add_argument('--jpegs', type=Path, default=ROOT / 'data/imagenet_sample100')
    args = parser.parse_args(argv)
    PACK.mkdir(exist_ok=True)
    for archive in (*PACK.glob('*.tar*'), *PACK.glob('*.zip')):
        archive.unlink()  # of another choice of pieces
    download_wheels(PACK / 'wheels')
    (PACK / 'commit').write_text(current_commit() + '\n')
    if set(args.pieces) & set('bcde'):
        pack_folder(args.cifar10, PACK / 'cifar10.tar.xz', 'cifar10')
    if 'a' in args.pieces:
        zip_jpegs(args.jpegs, PACK / 'imagenet_sample100.zip')
    if 'f' in args.pieces:
        pack_imagenette(args.imagenette, PACK / 'imagenette.tar', LIMIT - size_of(PACK))
    size = size_of(PACK)
    print(f'{PACK}: {size / 2**20:.1f} MiB of {LIMIT >> 20}')
    return int(size > LIMIT)


def download_wheels(folder: Path) -> None:
    """Download wheels for Python 3.12 on Linux, whatever Python runs this script."""
    platforms = [argument for name in PLATFORMS for argument in ('--platform', name)]
    command = [sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '-d', str(folder)]
    command += ['--only-binary=:all:', '--python-version', '3.12', '--implementation', 'cp']
    subprocess.run([*command, *platforms, *WHEELS], check=True)


def current_commit() -> str:
    """Return the commit of the clone, for machines to which its .git does not travel."""
    sys.path.insert(0, str(ROOT))
    from ssl_zoo.versions import source_commit

    return source_commit() or 'unknown'


def pack_folder(folder: Path, archive: Path, name: str) -> None:
    with tarfile.open(archive, 'w:xz') as file:
        file.add(folder, name)


def zip_jpegs(folder: Path, archive: Path) -> None:
    paths = sorted(folder.rglob('*.jp*g'), key=str)[:100]
    if not paths:
        raise SystemExit(f'{folder} holds no JPEGs; give a folder of photographs with --jpegs')
    with zipfile.ZipFile(archive, 'w') as file:  # JPEGs do not get smaller
        for path in paths:
            file.write(path, f'imagenet_sample100/{path.name}')


def pack_imagenette(folder: Path, archive: Path, room: int) -> None:
    """Encode the photographs anew, at the highest quality for which they fit, and note it."""
    if next(encoded(folder, 64, 50), None) is None:
        raise SystemExit(f'{folder} holds no JPEGs; give the folder of Imagenette')
    for side, quality in ENCODINGS:
        size = 0
        with tarfile.open(archive, 'w') as file:
            for name, content in encoded(folder, side, quality):
                info = tarfile.TarInfo(f'imagenette/{name}')
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
                size += 512 + -(-len(content) // 512) * 512  # as a tar archive stores it
                if size > room:
                    break
        if size <= room:
            text = f'short side at most {side} px, JPEG quality {quality}, not as distributed'
            (PACK / 'imagenette.json').write_text(json.dumps(dict(encoding=text)) + '\n')
            return
    raise SystemExit(f'Imagenette does not fit into {room / 2**20:.0f} MiB: {ENCODINGS}')


def encoded(folder: Path, side: int, quality: int) -> Iterator[tuple[str, bytes]]:
    """Yield (path below the folder, JPEG bytes) of each image; larger images are shrunk."""
    for path in sorted(folder.rglob('*.JPEG')) + sorted(folder.rglob('*.jpg')):
        image = Image.open(path).convert('RGB')
        scale = side / min(image.size)
        if scale < 1:
            image = image.resize(
                (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
            )
        file = io.BytesIO()
        image.save(file, 'JPEG', quality=quality, optimize=True)
        yield path.relative_to(folder).with_suffix('.jpg').as_posix(), file.getvalue()


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())


if __name__ == '__main__':
    sys.exit(main())
