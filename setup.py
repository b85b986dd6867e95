"""Place methods/ and configs/ inside the installed package: ssl_zoo.methods and ssl_zoo/configs.

Everything else is in pyproject.toml, which cannot join found packages with packages from elsewhere.
"""

from setuptools import find_namespace_packages, find_packages, setup

CONFIGS = find_namespace_packages(include=['configs', 'configs.*'], exclude=['*.__pycache__'])

setup(
    packages=[
        *find_packages(include=['ssl_zoo', 'ssl_zoo.*']),
        'ssl_zoo.methods',
        *(f'ssl_zoo.{package}' for package in CONFIGS),
    ],
    package_dir={'ssl_zoo.methods': 'methods', 'ssl_zoo.configs': 'configs'},
    package_data={'ssl_zoo': ['py.typed'], 'ssl_zoo.configs.byol': ['README.md']},
)
