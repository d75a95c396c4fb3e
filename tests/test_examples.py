"""The code that is shown runs: that of exercises after the cells that it needs, that of pages from the top."""

import ast
import re
from pathlib import Path

import nbformat
import papermill
import pytest

from c2f_lrp import cli, profiles

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
# Parameters that are quick, for the exercises; as a notebook is meant to run, nbval runs it.
QUICK = {
    "05_figure_1": dict(n_images=400, tried=2, iterations=2),
    "06_figure_2": dict(n_images=400, tried=2, iterations=2),
}


def examples(prose: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", prose, re.DOTALL)


def exercises(path: Path) -> list[str]:
    cells = nbformat.read(path, 4).cells
    return examples("\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))


def names(code: str) -> tuple[set[str], set[str]]:
    """The names that code binds, and those that it takes from what ran before it."""
    bound, taken = set(), set()
    for statement in ast.parse(code).body:
        here = set()
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                taken |= {node.id} - bound
            elif isinstance(node, ast.Name):
                here.add(node.id)
            elif isinstance(node, ast.alias):
                here.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.FunctionDef):
                here.add(node.name)
        bound |= here
    return bound, taken


def with_what_they_need(cells: list, code: list[str]) -> list:
    """The cells that bind a name that is needed, the settings of figures, and the code as cells at the end."""
    needed, kept = names("\n".join(code))[1], []
    for cell in reversed([cell for cell in cells if cell.cell_type == "code"]):
        bound, taken = names(cell.source)
        if bound & needed or "use_style()" in cell.source or "parameters" in cell.metadata.get("tags", []):
            kept.insert(0, cell)
            needed |= taken
    return kept + [nbformat.v4.new_code_cell(example) for example in code]


PAGES = ["README.md", "notebooks/book/your_own_network.md"]  # and how to add what
PAGES += sorted(str(path.relative_to(ROOT)) for path in NOTEBOOKS.glob("book/adding_*.md"))
PAGES.remove("notebooks/book/adding_a_data_set.md")  # whose module has a test of its own

WITH_CODE = {path.stem: code for path in sorted(NOTEBOOKS.glob("*.ipynb")) if (code := exercises(path))}


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_of_exercises_runs(name, tmp_path):
    path, code = NOTEBOOKS / f"{name}.ipynb", WITH_CODE[name]
    notebook = nbformat.read(path, 4)
    notebook.cells = with_what_they_need(notebook.cells, code)
    nbformat.write(notebook, tmp_path / "with_exercises.ipynb")
    given = dict(QUICK.get(name, {}))
    known = papermill.inspect_notebook(path)
    assert set(given) <= set(known)
    given |= {"out": str(tmp_path / "figures")} if "out" in known else {}
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


def test_the_data_set_of_its_page_is_read_and_attacked(tmp_path, monkeypatch, capsys):
    module, use = examples((NOTEBOOKS / "book" / "adding_a_data_set.md").read_text(encoding="utf-8"))
    (tmp_path / "my_data").mkdir()
    (tmp_path / "my_data" / "arrays.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(profiles, "PROFILES", dict(profiles.PROFILES))
    space = {}
    exec(compile(use, "adding_a_data_set.md", "exec"), space)
    assert "tensor([" in capsys.readouterr().out
    images, scenes = space["images"], space["scenes"]
    rows = [int(name.split()[1]) for name in images.names]
    assert len(rows) == 4 and (images.pixels == scenes.pixels[rows].floor()).all()
    assert (images.coarse == scenes.coarse[rows]).all() and (images.fine == scenes.fine[rows]).all()
    assert cli.main(["data", "check", "--profile", "arrays", "--root", "."]) == 0
    assert "evaluation" in capsys.readouterr().out
    assert cli.main(["data", "check", "--profile", "arrays", "--root", "elsewhere"]) == 1
    assert "--root must be the folder that holds arrays.npz" in capsys.readouterr().err
