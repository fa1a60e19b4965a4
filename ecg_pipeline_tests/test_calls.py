"""Calls can be read without counting their arguments: what comes after the third is given by keyword."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ecg_pipeline"


def public_functions(tree):
    """Functions and methods of a module that others call, but those that a decorator hands to somebody else."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names = {ast.unparse(decorator).split("(")[0] for decorator in node.decorator_list}
            if names <= {"property", "staticmethod", "classmethod", "cache", "contextmanager"}:
                yield node


def test_no_public_function_takes_more_than_three_arguments_by_position():
    many = [
        f"{path.relative_to(PACKAGE)}: {function.name}"
        for path in PACKAGE.rglob("*.py")
        for function in public_functions(ast.parse(path.read_text(encoding="utf-8")))
        if len([one for one in function.args.args if one.arg not in ("self", "cls", "context")]) > 3
    ]
    assert many == []
