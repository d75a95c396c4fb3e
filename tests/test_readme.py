"""README: short, its table and badges true, its links leading somewhere."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from c2f_lrp import report

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_it_has_at_most_900_words():
    assert len(README.split()) <= 900  # as `wc -w` counts: tables, code and addresses included


def test_its_two_commands_are_these():
    assert "\npython -m pip install -e . && c2f-lrp reproduce\n" in README
    assert '\npython -m pip install -e ".[test]" && python -m pytest\n' in README


def test_its_results_are_those_of_the_tables(monkeypatch):
    monkeypatch.delenv("C2F_LRP_FIGURES")  # what the notebooks' tests write
    (found,) = re.findall(r"<!-- results: .*? -->\n\n(.*?)\n\n<!-- end of results -->", README, re.DOTALL)
    assert found == report.readme_table(ROOT / "figures"), "run: python -m c2f_lrp.report"


def test_a_readme_without_a_place_for_results_is_refused(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("no marks\n", encoding="utf-8")
    with pytest.raises(ValueError, match="README.md has 0 places for results; mark one: <!-- results: "):
        report.write_readme(page)
    assert page.read_text(encoding="utf-8") == "no marks\n"


def test_its_links_and_pictures_are_there():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 40
    for link in links:
        if not link.startswith("https://"):
            assert (ROOT / link).exists(), link
    assert {link for link in links if "//" in link} == {"https://arxiv.org/abs/2501.10906"}


def test_every_equation_table_and_figure_has_its_line():
    cells = re.findall(r"^\|([^|]+)\|.*\(c2f_lrp/.*\(notebooks/.*\|$", README, re.MULTILINE)
    named = " ".join(cells)
    equations = {int(number) for number in re.findall(r"\((\d+)\)(?!–)", named)}
    for first, last in re.findall(r"\((\d+)\)–\((\d+)\)", named):
        equations |= set(range(int(first), int(last) + 1))
    assert equations == set(range(1, 11))
    for part in ("Algorithm 1", "PGD, DeepFool", "Figures 1, 2", "Tables I, II"):
        assert part in named


def test_badges_say_what_the_project_says():
    pythons = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if ":: Python ::" in text]
    paper = CITATION["preferred-citation"]["identifiers"][0]["value"]
    expected = {"paper": paper, "python": " | ".join(pythons), "licence": PROJECT["license"]}
    for name, value in expected.items():
        svg = (ROOT / "notebooks" / "book" / "_badges" / f"{name}.svg").read_text(encoding="utf-8")
        assert re.findall(r"<text [^>]*>([^<]*)</text>", svg) == [name, value]
        assert f"[![{name}: {value}](notebooks/book/_badges/{name}.svg)]" in README


def test_its_bibtex_is_the_citation_files_paper():
    (entry,) = re.findall(r"```bibtex\n(.*?)```", README, re.DOTALL)
    fields = dict(re.findall(r"(\w+) += \{(.*)\}", entry))
    paper = CITATION["preferred-citation"]
    assert fields["title"] == paper["title"] and fields["journal"] == paper["journal"]
    assert fields["year"] == str(paper["year"])
    names = [author.partition(",")[0] for author in fields["author"].split(" and ")]
    assert names == [author["family-names"] for author in paper["authors"]]
