"""Which module of the package imports which, read from their syntax."""

import ast
from pathlib import Path

import c2f_lrp

PACKAGE = Path(c2f_lrp.__file__).parent


def modules() -> dict[str, Path]:
    """{dotted name: file} of every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if "notebooks" not in parts and "data_manifests" not in parts:
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imported(name: str) -> set[str]:
    """The modules of the package that a module imports, inside functions too; not those for type checkers alone."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports by a relative name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {other for other in found if other in MODULES} - {name, "c2f_lrp"}


IMPORTS = {name: imported(name) for name in MODULES}
