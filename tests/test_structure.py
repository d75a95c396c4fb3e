"""The house: imports go one way, and the command answers without torch."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest
from imports import IMPORTS, MODULES

from c2f_lrp.profiles import PROFILES

# From the ground up: a module imports modules of its own line or of earlier ones. Names are of modules or packages.
LAYERS = (
    ("files", "paths", "checks", "devices", "download", "resources"),
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
    ("report", "reproduce", "photos", "stage", "play"),
    ("demo",),
    ("cli",),
)
LEVEL = {name: height for height, names in enumerate(LAYERS) for name in names}


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


def test_what_ships_needs_no_torchvision():
    """It takes as long to load as torch itself; only training, zennit and torchvision's own networks ask for it."""
    code = (
        "import sys\nimport c2f_lrp, c2f_lrp.photos, c2f_lrp.demo\nfrom c2f_lrp.attacks import LRPC\n"
        "images = c2f_lrp.load_images('scenes', limit=1)\n"
        "LRPC(iterations=1)(c2f_lrp.load_classifier('scenes'), images.pixels, images.coarse, images.fine)\n"
        "print({'torchvision', 'zennit'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_attacking_a_photograph_needs_no_pandas():
    """It takes half a second to load, of the ten that an attack takes; tables are made elsewhere."""
    code = "import sys, c2f_lrp.loading, c2f_lrp.photos; print({'pandas', 'pyarrow'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_nothing_compares_the_names_of_profiles():
    """A profile carries what distinguishes it: a data set of one's own needs an entry in PROFILES, and no if."""
    found = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                words = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                found += [f"{name}: {ast.unparse(node)}"] * bool(words & set(PROFILES))
    assert not found
