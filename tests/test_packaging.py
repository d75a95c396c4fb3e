"""The files that install, cite and release the companion say the same thing."""

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK_TEXT = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8")
LOCK_LINES = [line for line in LOCK_TEXT.splitlines() if line and not line.startswith("#")]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
# The first zennit 1.0.0 runs on 3.11.11, so 3.11 stands twice.
PYTHONS = ("3.11.7", "3.11.11", "3.12.1", "3.13.0")


def locked(python):
    """{package: Requirement} that pip reads from the lock under this Python on Linux."""
    environment = default_environment() | {
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    pins = [Requirement(line) for line in LOCK_LINES]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
    names = [canonicalize_name(pin.name) for pin in pins]
    assert len(names) == len(set(names)), f"a package is pinned twice for Python {python}"
    return dict(zip(names, pins, strict=True))


def test_the_lock_is_versions_only():
    pin = re.compile(r"[a-z0-9-]+==[0-9][0-9A-Za-z.+]*(; (python_version|python_full_version|sys_platform) .*)?")
    for line in LOCK_LINES:
        assert pin.fullmatch(line), line
    for address in ("://", "@", "--", ".whl", "file:"):
        assert address not in LOCK_TEXT
    assert LOCK_LINES == sorted(LOCK_LINES, key=lambda line: re.split("==|;", line)[:2])


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_holds_every_dependency_within_its_bound(python):
    pins = locked(python)
    extras = PROJECT["optional-dependencies"]
    for text in PROJECT["dependencies"] + extras["test"] + extras["book"]:
        wanted = Requirement(text)
        assert wanted.specifier, f"{text} has no lower bound"
        pin = pins[canonicalize_name(wanted.name)]
        (version,) = [clause.version for clause in pin.specifier]
        assert wanted.specifier.contains(version), f"{text}, but the lock has {version}"


def test_the_lock_holds_all_that_is_installed_with_the_package():
    """What the dependencies ask for in their turn, as far as it is installed here, within their bounds."""
    python = ".".join(map(str, sys.version_info[:3]))
    pins, seen = locked(python), set()
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][name] for name in ("test", "book", "dask"))]
    waiting = [(PROJECT["name"], Requirement(text)) for group in groups for text in group]
    while waiting:
        asked_by, wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        assert name in pins, f"{asked_by} needs {wanted}, which the lock lacks"
        (version,) = [clause.version for clause in pins[name].specifier]
        assert wanted.specifier.contains(version, prereleases=True), f"{asked_by} needs {wanted}; locked: {version}"
        if (name, tuple(wanted.extras)) in seen:
            continue
        seen.add((name, tuple(wanted.extras)))
        try:
            texts = requires(name) or []
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        for further in map(Requirement, texts):
            if further.marker is None or any(further.marker.evaluate({"extra": e}) for e in ("", *wanted.extras)):
                waiting.append((name, further))
    assert len(seen) > 50


def test_zennit_goes_with_python():
    versions = {python: str(locked(python)["zennit"].specifier) for python in PYTHONS}
    assert versions == {"3.11.7": "==0.5.1", "3.11.11": "==1.0.0", "3.12.1": "==1.0.0", "3.13.0": "==1.0.0"}


def test_environment_installs_torch_from_one_place_and_the_rest_as_locked():
    """torch from conda and torchvision from pip do not go together; and pip would bring torch with CUDA."""
    assert ENVIRONMENT["name"] == PROJECT["name"] == "c2f_lrp"
    *conda, pip = ENVIRONMENT["dependencies"]
    bounds = {Requirement(text).name: Requirement(text).specifier for text in PROJECT["dependencies"]}
    conda = {requirement.name: requirement.specifier for requirement in map(Requirement, conda[1:])}
    assert set(conda) == {"pip", "pytorch-cpu", "torchvision"}
    assert (conda["pytorch-cpu"], conda["torchvision"]) == (bounds["torch"], bounds["torchvision"])
    *pins, package = pip["pip"]
    assert package == "-e ."
    pins = {requirement.name: requirement.specifier for requirement in map(Requirement, pins)}
    assert set(pins) == set(bounds) - {"torch", "torchvision", "numpy", "pillow"}  # those come with torchvision
    assert pins == {name: locked("3.12.1")[name].specifier for name in pins}


def test_python_versions_agree():
    bound = Requirement(f"python{PROJECT['requires-python']}").specifier
    (pin,) = [text for text in ENVIRONMENT["dependencies"] if isinstance(text, str) and text.startswith("python")]
    series = re.fullmatch(r"python=(3\.\d+)", pin).group(1)
    classifiers = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if ":: Python ::" in text]
    assert series in classifiers
    assert all(bound.contains(Version(version)) for version in (*classifiers, *PYTHONS))
    assert not bound.contains("3.10")
    assert {".".join(python.split(".")[:2]) for python in PYTHONS} == set(classifiers)


def test_the_command_exists():
    module, _, function = PROJECT["scripts"]["c2f-lrp"].partition(":")
    tree = ast.parse(Path(find_spec(module).origin).read_text(encoding="utf-8"))
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_what_pyproject_packs_exists():
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    for source in (*hatch["wheel"]["force-include"], *hatch["sdist"]["include"], PROJECT["readme"]):
        assert (ROOT / source.strip("/")).exists(), f"pyproject.toml packs {source}, which is not there"


def test_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "preferred-citation"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    paper = citation["preferred-citation"]
    assert paper["title"] == "Explainable Adversarial Attacks on Coarse-to-Fine Classifiers"
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Heidarizadeh", "Hatfield", "Lazzarotto", "Cai", "Atia"]
    assert paper["year"] == 2025
    assert "2501.10906" in paper["identifiers"][0]["value"]


def test_ci_installs_from_the_lock_and_runs_what_the_readme_says():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "-c requirements-lock.txt" in script
    assert "://" not in script
    assert "python -m pytest" in script
    assert "python -m pytest" in (ROOT / "README.md").read_text(encoding="utf-8")
