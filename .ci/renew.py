"""Make all stored results anew: figures/, the outputs in notebooks/, the report, the README's table.

    python .ci/renew.py                                                     the scenes; three to ten minutes
    python .ci/renew.py --root tiny-imagenet=DIR --root imagenet-lite=DIR   these profiles first, then the scenes
    python .ci/renew.py --only-store runs/scenes/notebooks                  outputs of notebooks that were run already

A profile whose photographs are not given stays as it is. At the end `c2f-lrp verify` looks at everything in figures/,
stale or not. --resume keeps attacks that an earlier run with the same code and settings finished.

Of a notebook's outputs, papermill's cell of parameters, warnings and widgets are left out. These live in a kernel: of
the demo its picture stays, of a progress bar nothing.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import nbformat

from c2f_lrp.paths import runs_folder
from c2f_lrp.report import write_readme
from c2f_lrp.reproduce import without_widgets

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
FIGURES = ROOT / "figures"


def store(executed: Path, notebook: Path) -> None:
    """Write the outputs of one executed copy into the notebook. Raises ValueError if their code differs."""
    ran, stored = nbformat.read(executed, 4), nbformat.read(notebook, 4)
    cells = [cell for cell in ran.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    if code(cells) != code(stored.cells):
        raise ValueError(f"{executed} was made from other code than {notebook} has now; run c2f-lrp reproduce again")
    count = 0
    for cell, there in zip(stored.cells, cells, strict=True):
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = [each for each in without_widgets(there.outputs) if each.get("name") != "stderr"]
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
    stored.metadata.pop("widgets", None)
    nbformat.write(stored, notebook)


def code(cells: list) -> list[str]:
    """Each cell's source; of prose, which changes no output, only that there is some."""
    return [cell.source if cell.cell_type == "code" else cell.cell_type for cell in cells]


def store_all(folder: Path) -> None:
    """Store the outputs of every executed notebook in a folder. Raises ValueError where there is none."""
    copies = sorted(folder.glob("[0-9]*.ipynb"))
    if not copies:
        raise ValueError(f"{folder} holds no executed notebook; c2f-lrp reproduce names the folder at its end")
    for executed in copies:
        store(executed, NOTEBOOKS / executed.name)
        print("stored", executed.name)


def command(*words: str) -> int:
    """Run c2f-lrp in a process of its own, as a user would; its exit code."""
    print("$ c2f-lrp", *words, flush=True)
    return subprocess.call([sys.executable, "-m", "c2f_lrp.cli", *words], cwd=ROOT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", action="append", default=[], metavar="PROFILE=DIR", help="photographs; repeatable")
    parser.add_argument("--resume", action="store_true", help="keep the attacks that an earlier run finished")
    parser.add_argument("--only-store", type=Path, metavar="FOLDER", help="of executed notebooks; run nothing")
    options = parser.parse_args()
    unclear = [text for text in options.root if not text.partition("=")[2]]
    if unclear:
        parser.error(f"--root {unclear[0]} must be PROFILE=DIR, such as tiny-imagenet=tiny-imagenet-200")
    try:
        if options.only_store:
            store_all(options.only_store)
            return 0
        resume = ["--resume"] if options.resume else []
        for profile, _, folder in (text.partition("=") for text in options.root):
            root = str(Path(folder).resolve())
            if code := command("reproduce", "--profile", profile, "--root", root, *resume):
                return code
        if code := command("reproduce", *resume):  # last, for its report sets the profiles' tables side by side
            return code
        store_all(runs_folder("scenes") / "notebooks")
        write_readme(ROOT / "README.md", FIGURES)
    except ValueError as error:
        parser.error(str(error))
    return command("verify", *(str(path) for path in sorted(FIGURES.iterdir()) if path.is_dir()))


if __name__ == "__main__":
    sys.exit(main())
