"""Packaging of ssl_zoo. The top-level folder methods/ is installed as the import package ssl_zoo.methods."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r"__version__ = '([^']+)'", (ROOT / 'ssl_zoo' / '__init__.py').read_text()
).group(1)
LINUX_X86 = 'sys_platform == "linux" and platform_machine == "x86_64"'
ONNX = [
    'onnx>=1.18',
    'onnxscript>=0.5',
    'onnxruntime>=1.22',
]  # 40 MB to fetch, 120 MB on disk, Python 3.11 and 3.12
OTHER = 'sys_platform != "linux" or platform_machine != "x86_64"'

setup(
    name='ssl_zoo',
    version=VERSION,
    description='Self-supervised learning on images: BYOL, its rivals and their evaluation, one file and one config each',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['ssl_zoo', 'ssl_zoo.*']) + ['ssl_zoo.methods'],
    package_dir={'ssl_zoo.methods': 'methods'},
    install_requires=[
        'torch>=2.11',
        'torchvision>=0.26',
        'timm>=1.0.20',
        'mmengine>=0.10.7,<0.11',
        'setuptools; python_version >= "3.12"',  # mmengine 0.10.7 imports distutils
        'scikit-learn>=1.4',
        'scipy>=1.11',
        'tqdm>=4.64',
        f'faiss-gpu>=1.14; {LINUX_X86}',  # runs without a GPU as well
        f'faiss-cpu>=1.9; {OTHER}',
        'numpy>=1.26',
        'pillow>=10.1',
        'simplejpeg>=1.8',
        'matplotlib>=3.8',
        'tensorboard>=2.16',
    ],
    extras_require={
        'test': ['pytest>=8', 'pytest-xdist>=3', 'hypothesis>=6', *ONNX],
        'bench': ['lightly>=1.5'],
        'export': ONNX,
    },
)
