"""The code that is shown to be tried runs: that of exercises at the end of its notebook, that of pages from the top."""

import re
from pathlib import Path

import nbformat
import papermill
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
FEWER = {"04_attack_step_by_step": 16, "05_figure_1": 400, "06_figure_2": 400, "08_table_2": 8}  # images; the notebook


def examples(prose: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", prose, re.DOTALL)


def exercises(path: Path) -> list[str]:
    cells = nbformat.read(path, 4).cells
    return examples("\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))


PAGES = ["README.md", "notebooks/book/your_own_network.md"]  # and how to add what
PAGES += sorted(str(path.relative_to(ROOT)) for path in NOTEBOOKS.glob("book/adding_*.md"))

WITH_CODE = {path.stem: code for path in sorted(NOTEBOOKS.glob("*.ipynb")) if (code := exercises(path))}


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_of_exercises_runs(name, tmp_path):
    path, code = NOTEBOOKS / f"{name}.ipynb", WITH_CODE[name]
    notebook = nbformat.read(path, 4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells += [nbformat.v4.new_code_cell(example) for example in code]
    nbformat.write(notebook, tmp_path / "with_exercises.ipynb")
    given = {"out": str(tmp_path / "figures"), "n_images": FEWER.get(name)}
    known = papermill.inspect_notebook(path)
    given = {key: value for key, value in given.items() if key in known and value}
    ran = papermill.execute_notebook(
        tmp_path / "with_exercises.ipynb", tmp_path / "ran.ipynb", given, kernel_name="python3", progress_bar=False
    )
    for cell in ran.cells[-len(code) :]:
        assert cell.outputs, cell.source  # each has something to show


def test_exercises_with_code_are_found():
    assert len(WITH_CODE) >= 6


@pytest.mark.filterwarnings("ignore:one_hot with ignored biases")  # preflight's example
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_pages_runs(page):
    code = examples((ROOT / page).read_text(encoding="utf-8"))
    assert code, f"{page} shows no code that could be tried"
    space = {}
    for example in code:
        exec(compile(example, page, "exec"), space)  # one after the other, as a reader would
