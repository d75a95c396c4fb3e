"""Put the outputs of executed notebooks into notebooks/, the way they are committed.

    c2f-lrp reproduce && python -m tests.store_outputs runs/scenes/notebooks

Left out are papermill's cell of parameters, warnings, and widgets, which live in a kernel: of the demo its picture
stays, of a progress bar nothing.
"""

import argparse
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"


def kept(output) -> bool:
    """Whether an output shows without a kernel; a widget beside a picture is taken out of it."""
    if output.get("data", {}).pop(WIDGET, None):
        return "image/png" in output.data
    return output.get("name") != "stderr"


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
            cell.outputs = [output for output in there.outputs if kept(output)]
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
    stored.metadata.pop("widgets", None)
    nbformat.write(stored, notebook)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of executed copies, runs/scenes/notebooks")
    for executed in sorted(parser.parse_args().folder.glob("[0-9]*.ipynb")):
        store(executed, NOTEBOOKS / executed.name)
        print("stored", executed.name)


if __name__ == "__main__":
    main()
