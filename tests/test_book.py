"""The read-along book builds without a warning, and what it shows is there without a network."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from c2f_lrp.cli import main

pytest.importorskip("myst_nb", reason='the book is built only where its packages are: pip install -e ".[book]"')

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*Sphinx")  # of Sphinx's extensions, not ours

ROOT = Path(__file__).resolve().parents[1]


class Links(HTMLParser):
    """Where a page leads (links), what it loads (loads), and the places in it that can be led to (ids)."""

    def __init__(self, page: Path):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe") and given.get("src"):
            self.loads.append(given["src"])
        if tag == "link" and given.get("href") and given.get("rel") != "canonical":
            self.loads.append(given["href"])


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    out = tmp_path_factory.mktemp("book")
    assert main(["book", "--out", str(out)]) == 0, "a warning is an error here; it stands above"
    return out


@pytest.fixture(scope="module")
def pages(book):
    return {path: Links(path) for path in book.rglob("*.html") if "_static" not in path.parts}


def test_every_chapter_and_page_is_there(pages, book):
    wanted = [*ROOT.glob("notebooks/[0-9]*.ipynb"), *ROOT.glob("notebooks/book/**/*.md")]
    assert len(wanted) > 10
    for source in wanted:
        assert book / source.relative_to(ROOT / "notebooks").with_suffix(".html") in pages


def test_links_lead_somewhere(pages, book):
    for page, found in pages.items():
        for link in found.links + found.loads:
            if re.match("(https?|mailto|data):", link):
                continue
            path, fragment = unquote(urlsplit(link).path), unquote(urlsplit(link).fragment)
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.relative_to(book)} leads to {link}"
            if fragment and target in pages and "_modules" not in target.parts:
                assert fragment in pages[target].ids, f"{page.relative_to(book)} leads to {link}"


def test_no_page_loads_anything_from_elsewhere(pages):
    for page, found in pages.items():
        assert not [load for load in found.loads if re.match("(https?:)?//", load)], page.name


def test_equations_bear_the_papers_numbers(book):
    text = (book / "book/reference/equations.html").read_text(encoding="utf-8")
    assert re.findall(r"\\tag\{(\d+)\}", text) == [str(number) for number in range(1, 11)]


def test_results_show_every_figure_and_table_with_its_command(book):
    for folder in (path for path in (ROOT / "figures").iterdir() if path.is_dir()):
        text = (book / f"book/reference/results_{folder.name}.html").read_text(encoding="utf-8")
        sidecars = list(folder.glob("*.json"))
        assert sidecars
        for sidecar in sidecars:
            assert f'id="{sidecar.stem.replace("_", "-")}"' in text, f"{folder.name}/{sidecar.name} is not shown"
        assert re.sub("<.*?>", "", text).count("c2f-lrp reproduce --only ") == len(sidecars)


def test_slides_need_no_network(book):
    """Pictures are inside; scripts, styles and fonts beside the page; and reveal.js knows its plugin's name."""
    found = Links(book / "slides.html")
    assert len([load for load in found.loads if load.startswith("data:image/png")]) >= 4
    beside = [load for load in found.loads if not load.startswith("data:")]
    assert beside and all((book / load).is_file() for load in beside), beside
    sheets = [load for load in beside if load.endswith(".css")]
    assert not any("url(http" in (book / sheet).read_text(encoding="utf-8") for sheet in sheets)
    assert "require(" not in (book / "slides.html").read_text(encoding="utf-8")
