"""Small notebooks in place of the project's."""

from pathlib import Path

import nbformat


def write_notebook(path: Path, *sources: str) -> None:
    """A notebook of these code cells, the first of which holds its parameters."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, path)
