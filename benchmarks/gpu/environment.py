"""Make the packages and images of prepare.py usable on a machine without network.

prepare.py fills the folder .gpu of a clone, which travels with it. Where there is no such folder,
nothing happens: the packages are those that are installed.
"""

import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / '.gpu'
UNPACKED = Path(tempfile.gettempdir(), 'ssl_zoo_gpu')
# mmengine imports OpenCV (60 MB) for drawings that this project does not make.
CV2 = '"""Stands in for OpenCV."""\n\n\ndef setNumThreads(n):\n    pass\n'
READY = 'SSL_ZOO_GPU_READY'  # environment variable: the packages are on the path


def use_packed_files() -> None:
    """Install the packed wheels, unpack the images, and start this command again with both."""
    if READY in os.environ or not PACK.is_dir():
        return
    site = UNPACKED / 'site'
    if importlib.util.find_spec('mmengine') is None and not (site / 'mmengine').is_dir():
        install = [sys.executable, '-m', 'pip', 'install', '-q', '--no-index', '--no-deps']
        wheels = map(str, sorted((PACK / 'wheels').glob('*.whl')))
        subprocess.run([*install, '--target', str(site), *wheels], check=True)
    if importlib.util.find_spec('cv2') is None:
        site.mkdir(parents=True, exist_ok=True)
        (site / 'cv2.py').write_text(CV2)
    # What an editable install does: methods/ is the package ssl_zoo.methods.
    link = ROOT / 'ssl_zoo/methods'
    if not link.exists():
        link.symlink_to('../methods')
    for archive in sorted(PACK.glob('*.tar*')) + sorted(PACK.glob('*.zip')):
        unpack(archive, UNPACKED / 'data')
    paths = [str(ROOT), str(site), os.environ.get('PYTHONPATH', '')]
    os.environ['PYTHONPATH'] = os.pathsep.join(path for path in paths if path)
    os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(UNPACKED / 'inductor'))
    os.environ[READY] = '1'
    os.execv(sys.executable, [sys.executable, *sys.argv])


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive of images into a folder, once."""
    done = folder / f'{archive.name}.unpacked'
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if archive.suffix == '.zip':
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
    else:
        with tarfile.open(archive) as file:
            file.extractall(folder, filter='data')
    done.touch()


def data_folder() -> Path:
    """Return the folder of the images: the unpacked ones, or data/ of the clone."""
    return UNPACKED / 'data' if PACK.is_dir() else ROOT / 'data'
