"""Functions that a task names, `module.function`: from a file in its folder, or from what is installed.

Guarantees: a module in the folder is loaded from there under a name of its own, whatever else is called like it: a
library, or the module of another task. What it imports in turn is a library's if there is one of that name, else the
folder's. Nothing is written to the folder, and nothing of it can be imported by others.
"""

import hashlib
import importlib
import importlib.machinery
import os
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from taskbits.errors import UserError


def load_function(name: str, folder: str = "") -> tuple[Callable, tuple[str, ...]]:
    """The function `module.function`, and what it is made of: a text for each source file, with a hash of its content.

    Those are the files that were loaded from the folder, or the installed module and the one that the function is
    defined in. Nothing for the package's own, which its version tells. Runs the module.
    Raises UserError if it can't be imported, whatever it raises itself.
    """
    module, _, attribute = name.rpartition(".")
    if not module or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"python:{name} is not the name of a function: write python:module.function")
    is_own = module.split(".")[0] == "taskbits"
    try:
        if folder and not is_own and _file(Path(folder), module):
            with _beside(folder) as loaded:
                function = getattr(_import_from(folder, module), attribute)
                files = {file.relative_to(folder).as_posix(): file for file in loaded()}
        else:
            function = getattr(importlib.import_module(module), attribute)
            files = {} if is_own else _installed(module, getattr(function, "__module__", None))
    except BaseException as error:  # whatever a stranger's module raises
        if ends_process(error):
            raise
        raise UserError(f"python:{name} can't be imported: {described(error)}") from error
    if not callable(function):
        raise UserError(f"python:{name} is not a function")
    return function, tuple(f"{place} {hash_of(file)}" for place, file in sorted(files.items()))


def ends_process(error: BaseException) -> bool:
    """Whether a person or a signal (as the command line has it) ends this process: no fault of the code that ran."""
    by_signal = isinstance(error, SystemExit) and type(error.code) is int and error.code > 128
    return by_signal or isinstance(error, KeyboardInterrupt)


def described(error: BaseException) -> str:
    """An error in one line: its class, unless it is ours, and the beginning of its message."""
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def hash_of(file: Path) -> str:
    """The SHA-256 of a file's content."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _file(folder: Path, module: str) -> Path | None:
    """The file in the folder that is this module."""
    place = folder.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def _import_from(folder: str, module: str) -> types.ModuleType:
    root = types.ModuleType(f"_taskbits_{uuid.uuid4().hex}")  # a package of its own, so that relative imports work
    root.__path__ = [folder]
    sys.modules[root.__name__] = root
    return importlib.import_module(f"{root.__name__}.{module}")


@contextmanager
def _beside(folder: str) -> Iterator[Callable[[], list[Path]]]:
    """While this lasts, modules of the folder can be imported, after all others. Gives its files that were loaded."""
    before, writes_nothing = set(sys.modules), sys.dont_write_bytecode
    found_here = set()

    def find_spec(name: str, path, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, [folder]) if path is None else None
        if spec and (spec.loader or any(Path(folder, name).glob("*.py"))):  # a folder of data is no package
            found_here.add(name)
            return spec
        return None

    def loaded() -> dict[str, Path]:
        found = {}
        for name in set(sys.modules) - before:
            own = name.partition(".")[2] if name.startswith("_taskbits_") else name
            file = _file(Path(folder), own) if own else None
            origin = getattr(sys.modules[name], "__file__", None)
            if file and origin and os.path.realpath(origin) == os.path.realpath(file):
                found[name] = file
        return found

    finder = types.SimpleNamespace(find_spec=find_spec)
    importlib.invalidate_caches()
    sys.meta_path.append(finder)
    sys.dont_write_bytecode = True
    try:
        yield lambda: list(loaded().values())
    finally:
        sys.dont_write_bytecode = writes_nothing
        sys.meta_path.remove(finder)
        files = loaded()
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in found_here or name in files and not name.startswith("_taskbits_"):
                del sys.modules[name]


def _installed(*modules: str | None) -> dict[str, Path]:
    found = {}
    for name in modules:
        file = getattr(sys.modules.get(name or ""), "__file__", None)
        with suppress(OSError):
            if file and Path(file).is_file():
                found[name] = Path(file)
    return found
