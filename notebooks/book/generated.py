"""What the book does not hold as text: pages made of the sidecars in figures/, and of the package's docstrings.

conf.py connects the functions at the end to Sphinx. The others return MyST Markdown.
"""

import ast
import json
import pkgutil
import re
import shlex
import shutil
from os.path import relpath
from pathlib import Path

import nbformat
import papermill
import sphinx_revealjs
from docutils import nodes
from nbconvert import SlidesExporter
from sphinx import addnodes

import c2f_lrp
from c2f_lrp.paths import REPOSITORY
from c2f_lrp.play import write_page
from c2f_lrp.profiles import DEFAULT_PROFILE, PROFILES
from c2f_lrp.provenance import verify
from c2f_lrp.reproduce import without_widgets
from c2f_lrp.tables import MEASURE_NAMES

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted(HERE.parent.glob("[0-9]*.ipynb"))
FIGURES = REPOSITORY / "figures"
SHORT = 12  # rows of a table that is shown at once; a longer one opens at a click
LONGEST = 60  # rows of a table that is shown at all; a longer one is downloaded
NOT_PARAMETERS = {"profile", "root", "out", "resume", "scheduler"}  # the command line has options for these


# ------------------------------------------------------------------------------------------------- figures and tables
# What each notebook writes to figures/ and what that shows, in the order of the results pages. {} stands for the number
# of a table or figure.
TABLE = {
    "table_{}": "Table {}: the paper's numbers and ours",
    "table_{}_claims": "Table {}: which of its shapes hold",
    "table_{}_flow": "Table {}: from which coarse label to which",
    "table_{}_outcomes": "Table {}: which labels changed, in percent of the images",
    "table_{}_summary": "Table {}: everything that was measured of each attack",
}
FIGURE = {
    "figure_{}": "Figure {}, one-hot start: the image that most attacks fool",
    "figure_{}_logit": "Figure {}, logit start: the image that most attacks fool",
    "figure_{}_fewest": "Figure {}, one-hot start: the image that fewest attacks fool",
}
EXPLAINABILITY = {
    "_heatmaps": "One image, three labels: heatmaps and contrasts",
    "_moves": "How far relevance moves under each attack",
    "_claims": "Every claim, with its effect and its verdict",
    "_measures": "Everything that was measured, as means over the images",
    "_sanity": "Can heatmaps of two labels, and of a network without training, be told apart?",
}
CONTENTS = {
    "02_classifiers": {
        "accuracy": "How often each class is recognised",
        "confusion": "What the coarse network says, and what it would say next",
    },
    "04_attack_step_by_step": {"attack": "LRPC on one scene, step by step"},
    "05_figure_1": {name.format(1): shows.format(1) for name, shows in FIGURE.items()},
    "06_figure_2": {name.format(2): shows.format(2) for name, shows in FIGURE.items()},
    "07_table_1": {name.format(1): shows.format("I") for name, shows in TABLE.items()},
    "08_table_2": {name.format(2): shows.format("II") for name, shows in TABLE.items()},
    "09_what_the_loss_measures": {
        "loss_identities": "Total relevance and loss in each reading",
        "loss_literal": "The printed reading in finite precision",
        "loss_layers": "Where relevance is lost, layer by layer",
        "loss_graphs": "On which networks the printed loss is zero",
        "loss_cosines": "Where each reading's loss points: its cosine with the margin",
        "loss_directions": "Does the sign of that cosine predict which images are fooled?",
        "loss_grid": "How near each setting of the grid comes to the paper's table",
        "loss_distances": "How near the tables of both readings come to the paper's",
    },
    "10_explainability_measured": {f"explainability{name}": shows for name, shows in EXPLAINABILITY.items()}
    | {f"explainability_fine{name}": f"{shows} (fine level)" for name, shows in EXPLAINABILITY.items()},
    "11_report": {"report": "All tables beside the paper's"},
}
# Columns' names in the files, and what stands over them here.
WORDS = {"ρ^∞": "ρ∞"} | {measure: symbol.replace("^", "") for measure, symbol in MEASURE_NAMES.items()}
WORDS |= {"eps": "ε", "p_holm": "p after Holm", "table_1": "Table I", "table_2": "Table II", "nan": "–"}


def made_by(name: str) -> Path:
    """The notebook that writes the figure or table of this name; ValueError where CONTENTS has none."""
    for stem, shows in CONTENTS.items():
        if name in shows:
            return HERE.parent / f"{stem}.ipynb"
    raise ValueError(f"{name} lies in figures/, but CONTENTS of {Path(__file__).name} does not say what it shows")


def target(name: str, profile: str) -> str:
    """Where a results page shows it: the label that links lead to."""
    return f"{profile}-{name}".replace("_", "-")


def in_words(table: str) -> str:
    """A Markdown table of a file, with words in place of keys and with dashes where there is no number."""
    for key, word in WORDS.items():
        table = re.sub(rf"(?<![a-z_]){re.escape(key)}(?![a-z0-9])", word, table)
    first, _, rest = table.partition("\n")
    return f"{first.replace('_', ' ')}\n{rest}"


def command(notebook: Path, profile: str, parameters: dict) -> str:
    """The command that makes it again: parameters are named where they differ from the notebook's own."""
    words = ["c2f-lrp", "reproduce", "--only", notebook.stem.split("_", 1)[1]]
    if profile != DEFAULT_PROFILE:
        words += ["--profile", profile]
    if PROFILES[profile].needs_root:
        words += ["--root", "FOLDER"]
    for name, known in papermill.inspect_notebook(notebook).items():
        given = parameters.get(name, ast.literal_eval(known["default"]))
        if name not in NOT_PARAMETERS and given != ast.literal_eval(known["default"]):
            words += ["-p", name, json.dumps(given) if isinstance(given, (list, dict)) else str(given)]
    return shlex.join(words)


def entry(sidecar: Path, page: Path) -> str:
    """One figure or table with its parameters, what made it, and its files."""
    told, name, folder = json.loads(sidecar.read_text()), sidecar.stem, sidecar.parent
    there = relpath(folder, page.parent)
    notebook = made_by(name)
    shows = CONTENTS[notebook.stem][name]
    picture = next((file for file in told["files"] if file.endswith((".png", ".gif"))), None)
    if picture:
        shown = f"![{shows}]({there}/{picture})"
    else:
        shown = in_words((folder / f"{name}.md").read_text(encoding="utf-8").strip())
        rows = len(shown.splitlines()) - 2
        if "sources" in told:  # a page of its own
            shown = f"A page that brings them together: [{name}.md](path:{there}/{name}.md)."
        elif rows > LONGEST:
            shown = f"A table of {rows} rows: see the files below."
        elif rows > SHORT:
            shown = f"<details><summary>A table of {rows} rows</summary>\n\n{shown}\n\n</details>"
    versions = ", ".join(f"{package} {number}" for package, number in told["versions"].items())
    commit = (told["git"]["commit"] or "unknown")[:10] + (" with uncommitted changes" if told["git"]["changed"] else "")
    files = ", ".join(f"[{file}](path:{there}/{file})" for file in [*told["files"], sidecar.name])
    parameters = ", ".join(f"`{key} = {value!r}`" for key, value in told["parameters"].items())
    return f"""({target(name, folder.name)})=

### {shows}

{shown}

```bash
{command(notebook, told["profile"], told["parameters"])}
```

<details><summary>Parameters, versions and files</summary>

Parameters
: {parameters}

Made
: {told["written"][:10]}, commit {commit}, {told.get("device", "cpu")}; {versions}

Files
: {files}

</details>
"""


def results(profile: str, page: Path) -> str:
    """All figures and tables of figures/<profile>/, in the order of the notebooks that made them."""
    folder = FIGURES / profile
    found = verify(folder)
    text = "Checked against the weights and manifests that are here, while this page was built (`c2f-lrp verify`): "
    text += "everything is as its sidecars say.\n\n" if not found else "\n\n" + "".join(f"- {line}\n" for line in found)
    for notebook in NOTEBOOKS:
        if mine := written(notebook, folder):
            text += f"\n## {title(notebook)}\n\nFrom [chapter {int(notebook.stem[:2])}](../../{notebook.name}).\n\n"
            text += "\n".join(entry(sidecar, page) for sidecar in mine)
    return text


def written(notebook: Path, folder: Path) -> list[Path]:
    """The sidecars of what a notebook wrote into a folder, in the order of CONTENTS."""
    mine = [sidecar for sidecar in folder.glob("*.json") if made_by(sidecar.stem) == notebook]
    return sorted(mine, key=lambda sidecar: list(CONTENTS[notebook.stem]).index(sidecar.stem))


def title(notebook: Path) -> str:
    (first,) = re.findall(r"^# (.+)", nbformat.read(notebook, 4).cells[0].source)
    return first


def footer(notebook: Path) -> str:
    """What stands under every chapter: the command that runs it again, and where its results are."""
    text = f"""---

This page is `notebooks/{notebook.name}` as it was run last, with the parameters in its first cell. To run it again,
with other parameters if you like (`-p NAME VALUE`):

```bash
{command(notebook, DEFAULT_PROFILE, {})}
```
"""
    for profile in PROFILES:
        if mine := written(notebook, FIGURES / profile):
            text += f"\nWhat it wrote ({profile}):\n\n"
            for sidecar in mine:
                shows = CONTENTS[notebook.stem][sidecar.stem]
                text += f"- [{shows}](#{target(sidecar.stem, profile)})\n"
    return text


# ---------------------------------------------------------------------------------------------------------------- API
def modules() -> list[str]:
    """The package's modules that have something public to document."""
    names = [name for _, name, _ in pkgutil.walk_packages(c2f_lrp.__path__, "c2f_lrp.")]
    return ["c2f_lrp", *(name for name in names if name not in ("c2f_lrp.cli", "c2f_lrp.datasets.scene_objects"))]


def api(page: Path) -> str:
    text = ""
    for name in modules():
        text += f"\n## {name}\n\n"
        source = REPOSITORY.joinpath(*name.split(".")).with_suffix(".py")
        if source.is_file():
            text += f"[`{relpath(source, REPOSITORY)}`]({relpath(source, page.parent)})\n\n"
        text += f"```{{eval-rst}}\n.. automodule:: {name}\n```\n"
    return text


# ------------------------------------------------------------------------------------------------- connected to Sphinx
def complete(app, docname: str, source: list[str]) -> None:
    """source-read: fill in the generated parts; of a notebook, leave out bars that only a running kernel can draw."""
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".ipynb":
        notebook = nbformat.reads(source[0], 4)
        notebook.metadata.pop("widgets", None)  # else the page would ask a server for the scripts that draw them
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = without_widgets(cell.outputs)
            else:
                cell.source = unlink(cell.source, page)
        notebook.cells.append(nbformat.v4.new_markdown_cell(footer(page)))
        source[0] = nbformat.writes(notebook)
        return
    for mark, make in {
        r"<!-- results: (.+) -->": lambda found: results(found[1], page),
        r"<!-- api -->": lambda found: api(page),
    }.items():
        source[0] = re.sub(mark, make, source[0])
    source[0] = unlink(source[0], page)


def unlink(text: str, page: Path) -> str:
    """Links that the book resolves in its own way.

    Folders and the README have no page in the book: they are named there, and not linked. Links into references.bib
    become citations of the bibliography.
    """
    text = re.sub(r"\[[^\]\n]+\]\([^)\s]*references\.bib#(\w+)\)", r"{cite:t}`\1`", text)

    def plain(found: re.Match) -> str:
        path = (page.parent / found[2]).resolve()
        outside = path.suffix == ".md" and not path.is_relative_to(HERE.parent)
        return found[1] if outside or path.is_dir() else found[0]

    return re.sub(r"\[([^\]\n]+)\]\((?!https?:|path:|#)([^)#\s]+)[^)\s]*\)", plain, text)


def plain_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """autodoc-process-docstring: ours are plain text; only `code` and indented blocks mean something."""
    plain, inside = [], False
    for line in lines:
        indented = line.startswith(" ")
        if indented and not inside:
            plain += ["", "::", ""]
        if line and not indented:
            if inside:
                plain.append("")
            parts = re.split(r"(`[^`]+`|\*\w[^*]*\w\*)", line)  # `code` and *titles* are kept
            parts[::2] = [re.sub(r"([\\*_|`])", r"\\\1", part) for part in parts[::2]]
            parts[1::2] = [part.replace("`", "``") for part in parts[1::2]]
            line = "".join(parts)
        inside = indented or (inside and not line)
        plain.append(line)
    lines[:] = plain


def sources(app, doctree) -> None:
    """doctree-read: links to the package's files lead to their highlighted source in the book."""
    known = {name.replace(".", "/") for name in modules()}
    for node in list(doctree.findall(addnodes.download_reference)):
        _, path = app.env.relfn2path(node["reftarget"], app.env.docname)
        name = relpath(path, REPOSITORY).removesuffix(".py")
        if name in known:
            uri = app.builder.get_relative_uri(app.env.docname, f"_modules/{name}")
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def play(app, exception) -> None:
    """build-finished: the page to play with, beside the book."""
    if not exception:
        write_page(Path(app.outdir, "play.html"))


def slides(app, exception) -> None:
    """build-finished: the slides beside the book, with reveal.js from the package that carries it."""
    if exception:
        return
    exporter = SlidesExporter(
        template_name="_slides",
        extra_template_basedirs=[str(HERE)],
        reveal_url_prefix="_static/reveal",
        reveal_theme="white",  # the default asks a server for its fonts
        mathjax_url=app.config.mathjax_path,
        embed_images=True,
        exclude_input=True,
    )
    # nbconvert puts pictures into the page only from below a given folder.
    text = (HERE / "slides.ipynb").read_text(encoding="utf-8").replace("../../figures/", "figures/")
    here = {"metadata": {"path": str(REPOSITORY)}}
    body, _ = exporter.from_notebook_node(nbformat.reads(text, 4), resources=here)
    Path(app.outdir, "slides.html").write_text(body, encoding="utf-8")
    reveal = Path(sphinx_revealjs.__file__).parent / "_static" / "revealjs"
    for part in ("dist", "plugin/notes"):
        shutil.copytree(reveal / part, Path(app.outdir, "_static", "reveal", part), dirs_exist_ok=True)
