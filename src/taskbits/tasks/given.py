"""A task given as Python objects: a dict like a task's YAML file, with rows and a function in it.

Guarantees that what is written to a folder (`write`) is read as the same task again, in any process.
"""

import ast
import builtins
import hashlib
import importlib.metadata
import inspect
import json
import re
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from taskbits.atomic import write_atomically
from taskbits.errors import UserError
from taskbits.tasks.rows import SPLITS, Row, read_rows

_MODULE = "metric"


def read(given: dict) -> tuple[dict, dict[str, list[Row]], str]:
    """What a task's YAML file would say, the rows under the keys that name files there, and the metric's source.

    Rows may be lists of dicts, a `datasets.Dataset`, or paths of JSONL files. Raises UserError where JSON can't hold
    something, or where the metric is a function that can't be written down (`_source`).
    """
    given, source = dict(given), ""
    rows = {name: _rows(given.pop(name), name) for name in (*SPLITS, "data") if name in given}
    if callable(judge := given.get("metric")):
        given["metric"], source = _written(judge)
    try:
        settings = json.loads(json.dumps(given, default=str))
    except (TypeError, ValueError) as error:
        raise UserError(f"the task's settings must be texts, numbers and lists of them: {error}") from error
    return settings, rows, source


def write(settings: dict, splits: dict[str, list[Row]], source: str, folder: Path) -> None:
    """Write the task as a folder that `load_task` reads. Raises UserError if another task lies there."""
    files = {"task.yaml": yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)}
    for name, rows in splits.items():
        files[f"{name}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if source:
        files[f"{_MODULE}.py"] = source
    try:
        for name, text in files.items():
            path = folder / name
            if path.exists() and path.read_text(encoding="utf-8") != text:
                raise UserError(f"{folder} holds another task: its {name} is not the same; name another --out")
            write_atomically(path, text.encode())
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}: name another --out") from error


def digest(source: str) -> tuple[str, ...]:
    """What stands in a task's fingerprint for a metric of this source, written to its folder."""
    return (f"{_MODULE}.py {hashlib.sha256(source.encode()).hexdigest()}",) if source else ()


def _rows(rows: str | Path | Iterable[Row], name: str) -> list[Row]:
    if isinstance(rows, str | Path):
        return read_rows(Path(rows), [])
    try:
        listed = list(rows)
    except TypeError as error:
        raise UserError(f"'{name}' must be a list of rows, a data set or the path of a JSONL file") from error
    found = []
    for number, row in enumerate(listed, 1):
        try:
            found.append(json.loads(json.dumps(dict(row))))
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}, row {number}: not a dict of texts, numbers and lists of them: {error}") from error
    return found


def _written(judge: Callable) -> tuple[str, str]:
    """The metric's name in a task's YAML file, and its source: empty where it comes with an installed package."""
    name = getattr(judge, "__qualname__", "")
    if _is_installed(judge):
        return f"python:{judge.__module__}.{name}", ""
    if not isinstance(judge, types.FunctionType):
        raise UserError(f"the metric must be a function (output, row) -> float, not {judge!r}")
    name = "judge" if name.endswith("<lambda>") else judge.__name__
    imports, parts = {}, {}
    _source(judge, name, imports, parts)
    source = "\n".join(imports) + "\n" * bool(imports) + "\n\n".join(parts.values()) + "\n"
    return f"python:{_MODULE}.{name}", source


def _is_installed(thing) -> bool:
    """Whether it is imported in the same way by every process with the same packages."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if not module or module == "__main__" or getattr(sys.modules.get(module), name, None) is not thing:
        return False
    places = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed = file is None or any(Path(file).is_relative_to(place) for place in places)
    return installed or module.partition(".")[0] in importlib.metadata.packages_distributions()


def _source(thing, name: str, imports: dict[str, None], parts: dict[str, str]) -> None:
    """Collect the source of a function or class under this name, and of all that it uses.

    Raises UserError where there is none, or where something is used that no source stands for.
    """
    if name in parts:
        return
    parts[name] = ""  # it may use itself
    text, node = _text(thing, name)
    used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    scope = inspect.getclosurevars(thing) if isinstance(thing, types.FunctionType) else None
    known = {**scope.globals, **scope.nonlocals} if scope else vars(sys.modules[thing.__module__])
    for other in sorted(used & known.keys() - {name}):
        value = known[other]
        if isinstance(value, types.ModuleType):
            imports[f"import {value.__name__} as {other}" if value.__name__ != other else f"import {other}"] = None
        elif isinstance(value, types.FunctionType | type) and not _is_installed(value):
            _source(value, other, imports, parts)
        elif isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
            if getattr(builtins, other, None) is not value:
                imports[f"from {value.__module__} import {value.__qualname__} as {other}"] = None
        elif isinstance(value, re.Pattern):
            imports["import re"] = None
            parts[other] = f"{other} = re.compile({value.pattern!r}, {value.flags})\n"
        elif _is_literal(value):
            parts[other] = f"{other} = {value!r}\n"
        else:
            raise UserError(f"the metric uses {other}, a {type(value).__name__}: put both into a module in a folder")
    parts[name] = parts.pop(name, "") or text  # behind what it uses


def _text(thing, name: str) -> tuple[str, ast.AST]:
    """The source of a function or class as it stands in its file or cell, and its tree."""
    try:
        lines, _ = inspect.findsource(thing)
        tree = ast.parse("".join(lines))
    except (OSError, TypeError, SyntaxError) as error:
        raise UserError(f"the source of the metric's {name} can't be had: put it into a file") from error
    if isinstance(thing, type):
        found = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == thing.__name__]
    else:
        line = thing.__code__.co_firstlineno
        found = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.Lambda)
            and line in (node.lineno, *(d.lineno for d in getattr(node, "decorator_list", [])))
            and [arg.arg for arg in node.args.args] == list(thing.__code__.co_varnames[: thing.__code__.co_argcount])
        ]
    if len(found) != 1:
        raise UserError(f"the source of the metric's {name} can't be told from others: write it as a def of its own")
    code = ast.unparse(found[0])
    return (f"{name} = {code}\n" if isinstance(found[0], ast.Lambda) else f"{code}\n"), found[0]


def _is_literal(value) -> bool:
    try:
        return ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError, TypeError):
        return False
