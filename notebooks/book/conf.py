"""The read-along book: the executed notebooks and the pages of this folder, as a web site. `c2f-lrp book` builds it.

No notebook is executed: the committed outputs are shown. Nothing is fetched, neither while building nor while reading:
MathJax, which draws the equations, comes from a package and is copied beside the pages.
"""

import sys
from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from generated import complete, plain_docstring, play, slides, sources  # noqa: E402

project = "Explainable attacks on coarse-to-fine classifiers"
author = "the c2f_lrp contributors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode", "sphinxcontrib.bibtex"]

# The source folder is notebooks/, so that chapters and pages can name each other as they do in JupyterLab.
root_doc = "book/index"
exclude_patterns = ["**/.ipynb_checkpoints", "book/_*", "book/slides.ipynb"]
html_extra_path = ["_extra"]  # an index.html that leads to book/index.html

nb_execution_mode = "off"
nb_output_stderr = "remove"  # progress bars
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "image/gif", 0)]  # chapter 4 has a picture that moves
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

bibtex_bibfiles = [str(HERE / "references.bib")]
bibtex_reference_style = "author_year"
bibtex_default_style = "plain"

html_theme = "sphinx_book_theme"
html_title = "Explainable attacks on coarse-to-fine classifiers"
mathjax = Path(distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg.js"))
mathjax_path = mathjax.name  # one file with its fonts inside
html_static_path = ["_static", str(mathjax)]
html_css_files = ["book.css"]
html_theme_options = {"show_toc_level": 2, "use_download_button": False, "use_fullscreen_button": False}
html_theme_options["navbar_persistent"] = []  # the search field is the sidebar's; on a small screen, the button above
html_copy_source = False

autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
# What other packages define has no page here.
nitpick_ignore_regex = [("py:.*", r"(?!c2f_lrp\b).*")]


def setup(app):
    app.connect("source-read", complete)
    app.connect("autodoc-process-docstring", plain_docstring)
    app.connect("doctree-read", sources)
    app.connect("build-finished", slides)
    app.connect("build-finished", play)
