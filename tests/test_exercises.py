"""The code in the exercises runs where it stands: at the end of its notebook, on what the notebook has made."""

import re
from pathlib import Path

import nbformat
import papermill
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
FEWER = {"04_attack_step_by_step": 16, "05_figure_1": 400, "06_figure_2": 400, "08_table_2": 8}  # images; the notebook


def exercises(path: Path) -> list[str]:
    prose = (cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    return re.findall(r"```python\n(.*?)```", "\n".join(prose), re.DOTALL)


WITH_CODE = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if exercises(path)]


@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.stem)
def test_the_code_of_exercises_runs(path, tmp_path):
    notebook = nbformat.read(path, 4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in exercises(path)]
    nbformat.write(notebook, tmp_path / "with_exercises.ipynb")
    given = {"out": str(tmp_path / "figures"), "n_images": FEWER.get(path.stem)}
    known = papermill.inspect_notebook(path)
    given = {name: value for name, value in given.items() if name in known and value}
    ran = papermill.execute_notebook(
        tmp_path / "with_exercises.ipynb", tmp_path / "ran.ipynb", given, kernel_name="python3", progress_bar=False
    )
    for cell in ran.cells[-len(exercises(path)) :]:
        assert cell.outputs, cell.source  # each has something to show


def test_exercises_with_code_are_found():
    assert len(WITH_CODE) >= 6
