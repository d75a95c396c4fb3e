"""The house: imports go one way, the command answers without torch, rows are named by what their code means."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from c2f_lrp import shards

PACKAGE = Path(shards.__file__).parent
# From the ground up: a module imports modules of its own line or of earlier ones. Names are of modules or packages.
LAYERS = (
    ("files", "paths", "checks", "download"),
    ("hierarchy",),
    ("profiles",),
    ("classifier", "datasets", "checkpoints"),
    ("networks",),
    ("loading", "pretrained", "lrp"),
    ("metrics",),
    ("objectives",),
    ("attacks",),
    ("measures", "panels", "courses"),
    ("shards", "cluster"),
    ("evaluation", "training"),
    ("tables",),
    ("claims", "attention", "readings", "plotting", "provenance"),
    ("report", "reproduce", "photos", "demo", "play"),
    ("cli",),
)
LEVEL = {name: height for height, names in enumerate(LAYERS) for name in names}


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


def test_no_module_imports_in_a_circle():
    try:
        order = list(TopologicalSorter(IMPORTS).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")
    assert set(order) == set(MODULES)


def test_nothing_low_imports_upwards():
    assert {name.split(".")[1] for name in MODULES if name != "c2f_lrp"} == set(LEVEL), "LAYERS lists every module once"
    wrong = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if name != "c2f_lrp" and LEVEL[name.split(".")[1]] < LEVEL[other.split(".")[1]]
    ]
    assert not wrong


def test_the_command_and_the_package_load_without_torch():
    code = "import c2f_lrp, c2f_lrp.cli, sys; c2f_lrp.cli.parser(); print({'torch', 'numpy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["attack"], ["reproduce", "--profile", "nowhere"]])
def test_help_and_usage_errors_load_no_torch(arguments):
    code = (
        "import sys\nfrom c2f_lrp import cli\n"
        f"try: cli.main({arguments})\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


# ------------------------------------------------------------------------------------------- what rows are named by
# Imported by the code of rows, but no row depends on them: types of what is handed in, checks that only refuse,
# where files lie.
NO_PART_OF_ROWS = {"checks", "datasets", "hierarchy", "paths", "profiles"}


def test_rows_are_named_by_exactly_the_modules_that_they_depend_on():
    reached, waiting = set(), {"c2f_lrp.evaluation.rows"}
    waiting |= {f"c2f_lrp.attacks.{name}" for name in ("deepfool", "lrp_attack", "margin", "pgd")}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= IMPORTS[name] - reached
    files = {str(MODULES[name].relative_to(PACKAGE)) for name in reached if name.split(".")[1] not in NO_PART_OF_ROWS}
    files -= {"attacks/__init__.py", "evaluation/__init__.py", "lrp/__init__.py"}  # lists of names
    assert files == set(shards.CODE)


CODE = '''
"""What it does."""
from a import b
def f(x):
    """Adds."""
    return x + 1  # one
class C:
    """Holds."""
    y = f"{2}"
'''


def test_prose_order_and_place_do_not_change_what_code_means():
    same = "class C:\n    y = f'{2}'\n\n\n# moved up\n"
    assert shards.meaning([CODE]) == shards.meaning([same, "import z\ndef f(x):\n    return (x +\n            1)"])


@pytest.mark.parametrize("old, new", [("x + 1", "x + 2"), ("x + 1", "x - 1"), ("{2}", "{3}"), ("f(x)", "f(y)")])
def test_what_is_computed_does(old, new):
    assert shards.meaning([CODE]) != shards.meaning([CODE.replace(old, new)])
