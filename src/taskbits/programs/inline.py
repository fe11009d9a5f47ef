"""From legible functions to one short script: bodies joined, parameters made constants, single uses folded away.

Works on syntax trees and knows nothing of programs or models. It is for straight code such as the runners', not
for Python at large: a name is taken to mean the same thing in the whole script.
"""

import ast
import copy
import inspect
from collections import Counter
from collections.abc import Callable
from types import ModuleType

import python_minifier


def body(function: Callable, constants: dict, result: str = "_", suffix: str = "") -> list[ast.stmt]:
    """The function's statements; its parameters that are in `constants` become literals, its return sets `result`.

    Of a pair that it returns only the first counts. A value that is itself a syntax tree is put in as it is. suffix: to
    all names that it sets, so that they are no others'.
    """
    put = _Put(constants)
    whole = block = ast.parse(inspect.getsource(function)).body[0].body
    if suffix:
        _mark(whole, suffix)
    while isinstance(block[-1], ast.With):
        block = block[-1].body
    if isinstance(block[-1], ast.Return):
        value = block[-1].value
        value = value.elts[0] if isinstance(value, ast.Tuple) else value
        block[-1] = ast.Assign([ast.Name(result, ast.Store())], value)
    return [found for statement in whole for found in _listed(put.visit(statement))]


def _mark(statements: list[ast.stmt], suffix: str) -> None:
    """Put the suffix behind each name that is set in the statements."""
    names = {n.id for n in _nodes(statements) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    names |= {n.arg for n in _nodes(statements) if isinstance(n, ast.arg)}
    for node in _nodes(statements):
        slot = {ast.Name: "id", ast.arg: "arg"}.get(type(node))
        if slot and getattr(node, slot) in names:
            setattr(node, slot, getattr(node, slot) + suffix)


def script(modules: list[ModuleType], statements: list[ast.stmt]) -> bytes:
    """A minified script of these statements, with those of the modules' classes and imports that it uses.

    Of imports only `import name`; a class may come from elsewhere, with the imports of its own module.
    """
    statements = _fold(statements)
    classes = {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and _loads(statements, name)
    }
    modules = [*modules, *map(inspect.getmodule, classes.values())]
    statements = [*(ast.parse(inspect.getsource(value)).body[0] for value in classes.values()), *statements]
    used = {node.id for node in _nodes(statements) if isinstance(node, ast.Name)}
    imported = sorted(
        {
            alias.name
            for module in modules
            for node in ast.parse(inspect.getsource(module)).body
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name in used
        }
    )
    tree = _rename(ast.Module([ast.Import([ast.alias(name) for name in imported]), *statements], []))
    source = ast.unparse(ast.fix_missing_locations(tree))
    return python_minifier.minify(
        source, rename_locals=False, hoist_literals=False, remove_literal_statements=True
    ).encode()


def _rename(tree: ast.Module) -> ast.Module:
    """One letter for each name that the script sets, the most used first; an underscore for one that it never uses.

    A parameter has a letter in any case, since no two of a function may be the same; names like `__init__` stay.
    Letters that are common in the rest of the script come first: they cost the fewest bits when it is compressed.
    """
    letters = "etonsrialdmpucghfbvwyxkqjETONSRIALDMPUCGHFBVWYXKQJ"
    slots = {ast.Name: "id", ast.arg: "arg", ast.FunctionDef: "name", ast.ClassDef: "name"}
    places = [(node, slots[type(node)]) for node in ast.walk(tree) if type(node) in slots]
    set_here = {getattr(node, slot) for node, slot in places if not isinstance(getattr(node, "ctx", None), ast.Load)}
    set_here = {name for name in set_here if name != "_" and not name.startswith("__")}
    uses = Counter(getattr(node, slot) for node, slot in places if getattr(node, slot) in set_here)
    needed = {getattr(node, slot) for node, slot in places if not isinstance(getattr(node, "ctx", None), ast.Store)}
    names = [name for name, _ in uses.most_common()]
    short = dict.fromkeys(names, "_") | dict(zip([name for name in names if name in needed], letters, strict=False))
    for node, slot in places:
        setattr(node, slot, short.get(getattr(node, slot), getattr(node, slot)))
    return tree


class _Put(ast.NodeTransformer):
    """Constants for names, attributes for `getattr` with a constant, the branch that is taken for an `if`, copies for a
    loop over a constant tuple."""

    def __init__(self, constants: dict):
        self.constants = constants

    def visit_Name(self, node):
        if not isinstance(node.ctx, ast.Load) or node.id not in self.constants:
            return node
        value = self.constants[node.id]
        return copy.deepcopy(value) if isinstance(value, ast.AST) else ast.parse(repr(value), mode="eval").body

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and _is_text(node.args[-1]):
            return ast.Attribute(node.args[0], node.args[1].value, ast.Load())
        return node

    def visit_If(self, node):
        self.generic_visit(node)
        if isinstance(node.test, ast.Constant | ast.Tuple):
            kept = node.test.elts if isinstance(node.test, ast.Tuple) else node.test.value
            return node.body if kept else node.orelse
        return node

    def visit_BinOp(self, node):
        self.generic_visit(node)
        for side, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(side, ast.Constant):
                nothing = isinstance(node.op, ast.Add) and side.value == ""
                once = isinstance(node.op, ast.Mult) and type(side.value) is int and side.value == 1
                if nothing or once:
                    return other
        if isinstance(node.op, ast.Add) and _is_text(node.left):
            if _is_text(node.right):
                return ast.Constant(node.left.value + node.right.value)
            right = node.right
            if isinstance(right, ast.BinOp) and isinstance(right.op, ast.Mod) and _is_text(right.left):
                template = node.left.value.replace("%", "%%") + right.left.value
                return ast.BinOp(ast.Constant(template), right.op, right.right)
        return node

    def visit_For(self, node):
        values = self.constants.get(node.iter.id) if isinstance(node.iter, ast.Name) else None
        if not isinstance(values, tuple):
            return self.generic_visit(node)
        copies = []
        for value in values:
            put = _Put({**self.constants, node.target.id: value})
            for statement in ast.parse(ast.unparse(ast.Module(node.body, []))).body:
                copies += _listed(put.visit(statement))
        return copies


def _fold(statements: list[ast.stmt]) -> list[ast.stmt]:
    """Remove names that only carry a value to one place."""
    while True:
        names = {}
        for node in _nodes(statements):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names.setdefault(node.targets[0].id, []).append(node.value)
        simple = {
            name: values[0]
            for name, values in names.items()
            if len(values) == 1 and _is_simple(values[0]) and (_loads(statements, name) < 2 or _is_empty(values[0]))
        }
        folded = [_Put(simple).visit(statement) for statement in statements if _target(statement) not in simple]
        folded = _carry(folded, folded)
        if ast.dump(ast.Module(folded, [])) == ast.dump(ast.Module(statements, [])):
            return folded
        statements = folded


def _carry(block: list[ast.stmt], everything: list[ast.stmt]) -> list[ast.stmt]:
    """`x = value` and a next statement that alone uses x, once, become one statement."""
    out: list[ast.stmt] = []
    for statement in block:
        if isinstance(statement, ast.For | ast.While | ast.With | ast.If):
            statement.body = _carry(statement.body, everything)
        name = _target(out[-1]) if out else None
        at_once = [statement.iter] if isinstance(statement, ast.For) else [statement]
        if (
            name
            and not isinstance(statement, ast.While | ast.FunctionDef | ast.With | ast.If)
            and _loads(at_once, name) == 1
            and not _loads_later(at_once, name)
            and (_target(statement) == name or _loads(everything, name) == 1)
        ):
            put = _Put({name: out.pop().value})
            if isinstance(statement, ast.For):
                statement.iter = put.visit(statement.iter)
            else:
                statement.value = put.visit(statement.value)
        out.append(statement)
    return out


def _target(statement: ast.stmt) -> str | None:
    """The name that a plain assignment sets."""
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return None


def _is_simple(value: ast.expr) -> bool:
    """Safe to evaluate at another time: a constant or an attribute of a name."""
    return isinstance(value, ast.Constant) or isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name)


def _is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_empty(value: ast.expr) -> bool:
    return _is_text(value) and value.value == ""


def _loads(nodes: list[ast.AST], name: str) -> int:
    return sum(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load) for n in _nodes(nodes))


def _loads_later(nodes: list[ast.AST], name: str) -> bool:
    """Whether the name is used where it would be evaluated more than once, or after other names were changed."""
    repeated = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
    return any(isinstance(node, repeated) and _loads([node], name) for node in _nodes(nodes))


def _nodes(roots: list[ast.AST]):
    for root in roots:
        yield from ast.walk(root)


def _listed(nodes) -> list:
    return nodes if isinstance(nodes, list) else [nodes]
