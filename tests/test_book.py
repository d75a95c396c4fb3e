"""The read-along book builds without a warning, and what it shows is there without a network."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import chromium
import pytest
from selenium.webdriver.support.ui import WebDriverWait

from c2f_lrp.cli import main

pytest.importorskip("myst_nb", reason='the book is built only where its packages are: pip install -e ".[book]"')

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*Sphinx")  # of Sphinx's extensions, not ours

ROOT = Path(__file__).resolve().parents[1]
MADE_BY = {"accuracy": "classifiers", "confusion": "classifiers", "attack": "attack_step_by_step"}
MADE_BY |= {"loss": "what_the_loss_measures", "explainability": "explainability_measured", "report": "report"}


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
            place = f'id="{folder.name}-{sidecar.stem.replace("_", "-")}"'
            assert place in text, f"{folder.name}/{sidecar.name} is not shown"
            after = re.sub("<.*?>", "", text.partition(place)[2])
            made = re.search(r"c2f-lrp reproduce --only (\w+)", after)[1]
            # figure_1_logit is made by figure_1, loss_grid by what_the_loss_measures; attack by attack_step_by_step
            assert made.startswith(MADE_BY.get(sidecar.stem.split("_")[0], sidecar.stem[: len("table_1")]))
        assert re.sub("<.*?>", "", text).count("c2f-lrp reproduce --only ") == len(sidecars)


def test_headings_of_results_are_words(book):
    for page in book.glob("book/reference/results_*.html"):
        headings = re.findall(r"<h[1-4]>(.*?)<a", page.read_text(encoding="utf-8"))
        assert len(headings) > 20
        for heading in headings:
            assert " " in heading and not re.search(r"_|\.(png|csv|md)", heading), f"{page.name}: {heading}"


def test_there_is_one_search_field(book):
    text = (book / "book/index.html").read_text(encoding="utf-8")
    assert len(re.findall(r'class="[^"]*search-button-field', text)) == 1


def test_slides_need_no_network(book):
    """Pictures are inside; scripts, styles and fonts beside the page; and reveal.js knows its plugin's name."""
    found = Links(book / "slides.html")
    assert len([load for load in found.loads if load.startswith("data:image/png")]) >= 4
    beside = [load for load in found.loads if not load.startswith("data:")]
    assert beside and all((book / load).is_file() for load in beside), beside
    sheets = [load for load in beside if load.endswith(".css")]
    assert not any("url(http" in (book / sheet).read_text(encoding="utf-8") for sheet in sheets)
    assert "require(" not in (book / "slides.html").read_text(encoding="utf-8")


# ----------------------------------------------------------------------------------------------------- in a browser
@pytest.fixture
def browser(tmp_path):
    with chromium.opened(tmp_path / "chromium", 120, "--hide-scrollbars") as driver:
        yield driver


def show(browser, page: Path, width: int, height: int) -> None:
    """Open a page in a window of this size, and wait until its equations are set."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    wait = "window.MathJax ? MathJax.startup.promise.then(arguments[0]) : arguments[0]()"  # not every page has any
    browser.execute_async_script(wait)


PAGES = [
    "03_relevance",
    "07_table_1",
    "09_what_the_loss_measures",
    "book/reference/equations",
    "book/reference/choices",
]


@chromium.NEEDED
@pytest.mark.parametrize("width", [400, 1400])
def test_pages_do_not_scroll_sideways_and_equations_keep_their_left_end(browser, book, width):
    for name in [*PAGES, "book/reference/results_scenes"]:
        show(browser, book / f"{name}.html", width, 900)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, name
        # how far each equation begins left of the box that it scrolls in
        cut = """return [...document.querySelectorAll("div.math mjx-container[display] svg")].map(svg => {
            const box = svg.closest("div.math").getBoundingClientRect().left;
            return box - Math.min(...[...svg.querySelectorAll("use, rect, text")].map(
                part => part.getBoundingClientRect().left)); })"""
        lost = browser.execute_script(cut)
        assert not [pixels for pixels in lost if pixels > 1], f"{name}: an equation's left end is out of reach"
        assert lost or "equations" not in name


@chromium.NEEDED
def test_every_slide_fits_and_holds_more_than_its_title(browser, book):
    show(browser, book / "slides.html", 1280, 720)
    told = """return [...document.querySelectorAll(".slides > section > section, .slides > section:not(:has(section))")]
        .map((slide, k) => { Reveal.slide(k); const shown = Reveal.getCurrentSlide();
            return {title: shown.querySelector("h1, h2").innerText, height: shown.scrollHeight,
                    words: shown.innerText.length, page: shown.querySelector("iframe") !== null,
                    pictures: [...shown.querySelectorAll("img")].map(i => i.naturalWidth)}; })"""
    slides = browser.execute_script(told)
    assert len(slides) > 20
    for slide in slides:
        assert slide["height"] <= 720, slide
        assert slide["words"] > len(slide["title"]) + 40 or slide["pictures"] or slide["page"], (
            f"empty: {slide['title']}"
        )
        assert all(slide["pictures"]), f"a picture is missing: {slide['title']}"


@chromium.NEEDED
def test_the_slides_hold_the_page_to_play_with(browser, book):
    show(browser, book / "slides.html", 1280, 720)
    find = """const slides = Reveal.getSlides(), found = slides.findIndex(slide => slide.querySelector("iframe"));
        Reveal.slide(found); return slides[found].querySelector("iframe")"""
    frame = browser.execute_script(find)
    assert browser.execute_script("return arguments[0].getBoundingClientRect().bottom", frame) <= 720
    browser.switch_to.frame(frame)
    WebDriverWait(browser, 60).until(lambda page: page.find_elements("css selector", "#verdict strong"))
    verdict = "return document.querySelector('#verdict').innerText"
    before = WebDriverWait(browser, 60).until(lambda page: page.execute_script(verdict))
    browser.execute_script("document.querySelectorAll('#scenes input')[5].click()")
    assert WebDriverWait(browser, 60).until(lambda page: page.execute_script(verdict) != before)
