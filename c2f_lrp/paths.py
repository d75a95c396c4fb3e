"""Where things lie: manifests, notebooks, figures, and the rows of long runs."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_PACKAGE = Path(__file__).resolve().parent
_PACKAGED = Path(__file__).parent / "notebooks"
NOTEBOOKS = _PACKAGED if _PACKAGED.is_dir() else REPOSITORY / "notebooks"


def manifest_path(name) -> Path:
    """Where data_manifests/<name> lies: inside an installed package, or beside it in a working copy."""
    # The package's own folder goes first: beside an installed package lie other people's files.
    folders = [_PACKAGE / "data_manifests", _PACKAGE.parent / "data_manifests"]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    present = sorted({path.name for folder in folders for path in folder.glob("*.csv")})
    listed = ", ".join(present) or f"(there are none in {' or '.join(map(str, folders))})"
    raise FileNotFoundError(f"no manifest {str(name)!r}, must be one of: {listed}")


def figures_folder(out: str | Path | None = None) -> Path:
    return Path(out or os.environ.get("C2F_LRP_FIGURES") or default_out())


def default_out() -> Path:
    """figures/ beside the package in a working copy, figures/ in the current folder for an installed package."""
    return (REPOSITORY if (REPOSITORY / "pyproject.toml").is_file() else Path.cwd()) / "figures"


NO_HOME = "C2F_LRP_NO_HOME"  # set by `lend_home` for `profiles.Profile.weights`, which kernels inherit


def lend_home(folder: str) -> None:
    """Where there is no home folder, or none that can be written to, make `folder` it, for this process and its own.

    Jupyter, IPython and Matplotlib need one for their settings; accounts of containers and batch systems may have none.
    The user's data stay where they are.
    """
    home = os.path.expanduser("~")
    if os.path.isdir(home) and os.access(home, os.W_OK):
        return
    if os.path.isdir(home):
        os.environ.setdefault("XDG_DATA_HOME", os.path.join(home, ".local", "share"))
    elif "XDG_DATA_HOME" not in os.environ:
        os.environ[NO_HOME] = "1"
    os.environ["HOME"] = folder


def runs_folder(profile: str) -> Path:
    """runs/<profile>: executed notebooks and rows of attacks, kept out of version control.

    The environment variable C2F_LRP_RUNS names another folder than runs, such as one on a larger disk.
    """
    base = REPOSITORY if (REPOSITORY / "pyproject.toml").is_file() else Path.cwd()
    return Path(os.environ.get("C2F_LRP_RUNS") or base / "runs") / profile
