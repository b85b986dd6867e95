"""The parent of the modules that ``import_file`` makes of Python files of a user.

Processes that are not forked, such as loader workers under spawn or forkserver, import the module
of a pickled object by its name. So the name holds the path of the file, and whoever imports this
parent can import them.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

__path__: list[str] = []  # makes this module a package, whose modules the finder below finds


def module_name(file: Path) -> str:
    """Return the name of the module of a Python file; dots of the path would be parents."""
    return f'{__name__}.{file.absolute().as_posix().replace("%", "%25").replace(".", "%2E")}'


class _Finder(MetaPathFinder):
    """Finds the files of the modules that ``module_name`` names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent, _, name = fullname.rpartition('.')
        if parent != __name__:
            return None
        file = name.replace('%2E', '.').replace('%25', '%')
        return importlib.util.spec_from_file_location(fullname, file)


sys.meta_path.append(_Finder())
