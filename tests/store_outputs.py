"""Put the outputs of executed notebooks into notebooks/, the way they are committed.

    c2f-lrp reproduce && python -m tests.store_outputs runs/scenes/notebooks

Left out are papermill's cell of parameters, warnings, and widgets, which live in a kernel: of the demo its picture
stays, of a progress bar nothing.
"""

import argparse
from pathlib import Path

import nbformat

from c2f_lrp.reproduce import without_widgets

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def store(executed: Path, notebook: Path) -> None:
    """Write the outputs of one executed copy into the notebook. Raises ValueError if their cells differ."""
    ran, stored = nbformat.read(executed, 4), nbformat.read(notebook, 4)
    cells = [cell for cell in ran.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    if [cell.source for cell in cells] != [cell.source for cell in stored.cells]:
        raise ValueError(f"{executed} was made from other cells than {notebook} has now; run c2f-lrp reproduce again")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of executed copies, runs/scenes/notebooks")
    folder = parser.parse_args().folder
    copies = sorted(folder.glob("[0-9]*.ipynb"))
    if not copies:
        parser.error(f"{folder} holds no executed notebook; give the folder that c2f-lrp reproduce names at its end")
    for executed in copies:
        try:
            store(executed, NOTEBOOKS / executed.name)
        except ValueError as error:
            parser.error(str(error))
        print("stored", executed.name)


if __name__ == "__main__":
    main()
