"""Files that attack: checkpoints, images, configs, rows of results, and places for outputs."""

import io
import json
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import torch
from inputs import CONFIG
from PIL import Image

YAML = "epochs: !!python/object/apply:os.system ['touch {marker}']\n"
# What Ghostscript would run: Pillow calls it for a file that begins like this, whatever its name.
POSTSCRIPT = '%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\nshowpage\n'
WORD = '<script>\x1b]0;title\x07'
# Folder -> rows of results.jsonl; the first row is correct, and changed by the items.
ROWS = dict(
    numbers=[dict(value=10**400), dict(value=1e999), dict(n=-1), dict(seed=2**70), dict(value='9')],
    types=[dict(config=3), dict(config=[1]), dict(metric=[]), dict(protocol={}), dict(seed={})],
    text=[dict(metric=WORD), dict(checkpoint='a\udcff' + WORD), dict(test='n' * 100_000)],
    formula=[dict(metric='=cmd|x'), dict(config=dict(method=dict(type='=cmd|x')))],
)


def make_hostile_files(home: Path, marker: Path, names: dict[str, str]) -> None:
    """Make the files.

    Args:
        home: the folder of the campaign.
        marker: the file that appears if code in a hostile file runs.
        names: values for the names in braces of inputs.py.
    """
    make_ghostscript(home, marker)
    make_hostile_configs(home, marker)
    make_hostile_images(home, names)
    make_hostile_shards(home)
    make_hostile_checkpoints(home, Path(names['ckpt']))
    make_hostile_rows(home)


def make_ghostscript(home: Path, marker: Path) -> None:
    """Make a Ghostscript that tells that it was called, and put it first on the PATH."""
    program = home / 'bin' / 'gs'
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ntouch {marker}\n')
    program.chmod(0o755)
    os.environ['PATH'] = f'{program.parent}{os.pathsep}{os.environ["PATH"]}'


def make_hostile_configs(home: Path, marker: Path) -> None:
    good = CONFIG.format(root=str(home))
    for suffix in ('yaml', 'yml', 'json'):
        (home / f'hostile.{suffix}').write_text(YAML.format(marker=marker))
    (home / 'base_yaml.py').write_text(f"_base_ = 'hostile.yaml'\n{good}")
    (home / 'base_list_yaml.py').write_text(f"_base_ = ['empty.py', 'hostile.json']\n{good}")
    (home / 'imports_yaml.py').write_text(f"{good}\nimports = ['hostile.yaml']")
    (home / 'study_yaml.py').write_text("methods = dict(a='hostile.yaml')\nseeds = [0]\n")


def make_hostile_images(home: Path, names: dict[str, str]) -> None:
    images = home / 'images'
    shutil.copytree(images / 'train', home / names['bytes'])
    for path in sorted((home / names['bytes']).rglob('*.png')):
        path.rename(path.with_name(f'\udcfe{path.name}'))
    bombs = [one_bit_png(20_000), sixteen_bit_png(14_500), claiming_jpeg(home, 13_000), None]
    for class_name in 'abc':
        for folder in ('postscript', 'bombs'):
            (images / folder / class_name).mkdir(parents=True)
        for i, bomb in enumerate(bombs):
            (images / 'postscript' / class_name / f'{i}.jpg').write_text(POSTSCRIPT)
            path = images / 'bombs' / class_name / f'{i}.jpg'
            path.write_bytes(bomb or b'\xff\xd8\xff')
            if bomb is None:
                os.truncate(path, 1 << 40)  # sparse: it takes no space


def one_bit_png(side: int) -> bytes:
    """Return a PNG of side x side black pixels, a small file."""
    return png(side, 1, (side + 7) // 8)


def sixteen_bit_png(side: int) -> bytes:
    return png(side, 16, side * 2)


def png(side: int, bits: int, row: int) -> bytes:
    """Return a PNG of grey zeros; a row has ``row`` bytes."""
    compressor = zlib.compressobj(1)
    line = bytes(row + 1)
    data = b''.join(compressor.compress(line) for _ in range(side)) + compressor.flush()
    header = struct.pack('>IIBBBBB', side, side, bits, 0, 0, 0, 0)
    chunks = ((b'IHDR', header), (b'IDAT', data), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(content))
        + kind
        + content
        + struct.pack('>I', zlib.crc32(kind + content))
        for kind, content in chunks
    )


def claiming_jpeg(home: Path, side: int) -> bytes:
    """Return a small JPEG whose header claims side x side pixels."""
    path = home / 'small.jpg'
    Image.new('L', (16, 16)).save(path)
    data = bytearray(path.read_bytes())
    path.unlink()
    start = data.index(b'\xff\xc0') + 5  # start of frame: length, precision, height, width
    data[start : start + 4] = struct.pack('>HH', side, side)
    return bytes(data)


def make_hostile_shards(home: Path) -> None:
    image = next((home / 'images/train/a').glob('*.png')).read_bytes()
    files = [('0.png', image), ('0.cls', b'0'), ('0.CLS', b'1'), ('1.png', image), ('1.cls', b'1')]
    two_labels = home / 'shards_two_labels' / 'a.tar'
    two_labels.parent.mkdir()
    with tarfile.open(two_labels, 'w') as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    for name, text in dict(few='a\n', other='x\ny\nz\n').items():
        shutil.copytree(home / 'shards', home / f'shards_{name}_names')
        (home / f'shards_{name}_names' / 'classes.txt').write_text(text)


def make_hostile_checkpoints(home: Path, checkpoint: Path) -> None:
    """Make checkpoints that plant or fetch files, or that cost more than their bytes.

    Their digest is right wherever it can be computed.
    """
    from ssl_zoo.checkpoint import add_digest

    content = torch.load(checkpoint, weights_only=True)
    del content['sha256']
    planted = home.parent / 'planted'
    overlay = dict(url=f'file://{checkpoint}', hf_hub_id='', file='')
    backbones = dict(
        planted_overlay=dict(
            pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=str(planted)
        ),
        planted_path=dict(checkpoint_path=str(checkpoint)),
        absurd_layers=dict(layers=[10**6] * 4),
        absurd_width=dict(width=1e5),
    )
    for name, more in backbones.items():
        method = content['config']['method']
        changed = dict(method, backbone=dict(method['backbone'], **more))
        config = dict(content['config'], method=changed)
        torch.save(add_digest(dict(content, config=config)), home / f'{name}.pth')
    train = dict(type='CIFAR10', root=str(planted), download=True)
    configs = dict(
        planted_download=dict(data=dict(content['config']['data'], train=train, test=train)),
        absurd_views=dict(views=[dict(size=16_000)] * 10_000),
        accumulate_zero=dict(accumulate=0),
    )
    for name, changes in configs.items():
        config = dict(content['config'], **changes)
        torch.save(add_digest(dict(content, config=config)), home / f'{name}.pth')
    make_costly_checkpoints(home, content)
    torch.save({'layer4.1000000000.conv1.weight': torch.zeros(1)}, home / 'huge_layer.pth')
    weights = {'conv1.weight': torch.full((64, 3, 7, 7), 1e39, dtype=torch.float64)}
    torch.save(weights, home / 'infinite.pth')


def make_costly_checkpoints(home: Path, content: dict) -> None:
    content = dict(content, sha256='0' * 64)
    huge = torch.zeros(1).expand(10**12)
    cycle: list = []
    cycle.append(cycle)
    shared: list = [0]
    for _ in range(60):
        shared = [shared, shared]
    items = dict(huge_tensor=dict(method={'a': huge}), cycle=dict(method=cycle))
    items['shared_lists'] = dict(optimizer=shared)
    for name, changes in items.items():
        torch.save(dict(content, **changes), home / f'{name}.pth')
    plain = home / 'plain_zeros.pth'
    torch.save(dict(content, method={'a': torch.zeros(50_000_000)}), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(home / 'zip_bomb.pth', 'w') as target:
        for name in source.namelist():
            target.writestr(name, source.read(name), zipfile.ZIP_DEFLATED)
    plain.unlink()


def make_hostile_rows(home: Path) -> None:
    """Make folders with results.jsonl or log.jsonl that a reader must not trust."""
    [row, *_] = (home / 'run/results.jsonl').read_text().splitlines()
    for name, changes in ROWS.items():
        rows = [json.dumps(dict(json.loads(row), **change)) for change in changes]
        write(home / f'rows_{name}' / 'results.jsonl', '\n'.join([row, *rows, '']).encode())
    write(home / 'rows_deep' / 'results.jsonl', b'[' * 100_000)
    write(home / 'rows_binary' / 'results.jsonl', bytes(range(256)) * 40)
    large = b'1' + b'0' * 400
    logs = dict(
        numbers=b'{"step": 1, "train/loss": 1e999}\n{"step": %s, "train/loss": 1}\n' % large,
        types=b'{"step": "a", "train/loss": []}\n3\n[]\n{"step": {}, "train/loss": "\\u001b"}\n',
        binary=bytes(range(256)),
    )
    for name, text in logs.items():
        write(home / f'log_{name}' / 'log.jsonl', text)
    for folder, name in (('rows_fifo', 'results.jsonl'), ('log_fifo', 'log.jsonl')):
        (home / folder).mkdir()
        os.mkfifo(home / folder / name)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def make_odd_folder(folder: Path) -> None:
    """Make a folder of places that an output must not replace."""
    folder.mkdir(exist_ok=True)
    if (folder / 'fifo').exists():
        return
    os.mkfifo(folder / 'fifo')
    (folder / 'notes.txt').write_text('notes of the user\n')
    (folder / 'results.jsonl').write_text('{"value": 1}\n')
    (folder / 'image.png').write_bytes(b'an image of the user')
    (folder / 'link').symlink_to('notes.txt')
    (folder / 'link.png').symlink_to('image.png')
    (folder / 'folder').mkdir()
    (folder / 'folder' / 'notes.txt').write_text('more notes\n')
    with suppress(OSError):  # not everybody may make a device, here /dev/null
        os.mknod(folder / 'device', stat.S_IFCHR | 0o666, os.makedev(1, 3))
