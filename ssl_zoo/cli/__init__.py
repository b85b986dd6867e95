"""The commands: one module per command, each with ``main(argv) -> exit code``."""

import sys
from pathlib import Path


def program_name(command: str) -> str:
    """Return how the command was called, for its help: 'tools/train.py' or 'ssl-zoo train'."""
    script = Path(sys.argv[0]).absolute()
    if script.parent.name == 'tools' and script.suffix == '.py':
        return f'tools/{script.name}'
    return f'ssl-zoo {command}'
