"""Every public function of the package has complete type hints."""

import ast
from collections.abc import Iterator
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
CONSTRUCTORS = ('__init__', '__call__', '__new__')


def is_public(name: str) -> bool:
    return not name.startswith('_') or name in CONSTRUCTORS


def public_functions(
    body: list[ast.stmt], is_class: bool = False
) -> Iterator[tuple[Function, bool]]:
    """Functions of a module, and methods of its public classes; whether each is a method."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
            yield from public_functions(node.body, is_class=True)
        elif isinstance(node, Function) and is_public(node.name):
            yield node, is_class


def missing_hints(function: Function, is_method: bool) -> list[str]:
    """Names of the parameters without a hint, and 'return' where the return has none."""
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args]
    is_static = any(getattr(node, 'id', '') == 'staticmethod' for node in function.decorator_list)
    if is_method and not is_static:
        parameters = parameters[1:]  # self or cls
    parameters += arguments.kwonlyargs
    parameters += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
    missing = [parameter.arg for parameter in parameters if parameter.annotation is None]
    if function.returns is None and function.name not in CONSTRUCTORS:
        missing.append('return')
    return missing


def untyped(file: Path) -> list[str]:
    return [
        f'{file}:{function.lineno} {function.name}: {", ".join(missing)}'
        for function, is_method in public_functions(ast.parse(file.read_text()).body)
        if (missing := missing_hints(function, is_method))
    ]


def test_public_functions_have_complete_type_hints(root):
    files = [*(root / 'ssl_zoo').rglob('*.py'), *(root / 'methods').glob('*.py')]
    assert len(files) > 100
    assert [line for file in files for line in untyped(file)] == []


def test_what_counts_as_missing(tmp_path):
    file = tmp_path / 'module.py'
    file.write_text(
        'def right(a: int, *b: int, **c: int) -> None: ...\n'
        'def no_return(a: int): ...\n'
        'def _private(a): ...\n'
        'class Public:\n'
        '    def __init__(self, a: int, *, b): ...\n'
        '    @staticmethod\n'
        '    def static(a) -> int: ...\n'
    )
    messages = [line.split(' ', 1)[1] for line in untyped(file)]
    assert messages == ['no_return: return', '__init__: b', 'static: a']
