"""Pages of the book: in its tables no setting is missing, no default is wrong, and numbers are those of files."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from c2f_lrp.attacks import DFC, LRPF, PGDC, PGDF
from c2f_lrp.tables import paper_values

PAGES = Path(__file__).resolve().parents[1] / "notebooks" / "book" / "reference"
CHOICES = (PAGES / "choices.md").read_text(encoding="utf-8")
MISPRINTS = (PAGES / "misprints.md").read_text(encoding="utf-8")
SECTIONS = {"Relevance": LRPF, "The attack": LRPF, "PGD": PGDC, "DeepFool": DFC}  # LRPF has all fields of LRPC


# ------------------------------------------------------------------------------------------------------------- choices
def rows(heading: str) -> list[list[str]]:
    """The cells of a section's table: the paper, our default, others, where, what difference."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", CHOICES, re.DOTALL | re.MULTILINE)
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    assert all(len(cells) == 5 for cells in lines)
    return [[cell.strip() for cell in cells] for cells in lines[2:]]


def settings(cell: str) -> dict:
    """{name: value} of every `name=value` in a cell."""
    return {name: ast.literal_eval(value) for name, value in re.findall(r"`(\w+)=([^`]+)`", cell)}


def given(column: int) -> dict[type, list[dict]]:
    found = {attack: [] for attack in SECTIONS.values()}
    for heading, attack in SECTIONS.items():
        found[attack] += [settings(cells[column]) for cells in rows(heading)]
    return found


@pytest.mark.parametrize("attack", [LRPF, PGDC, DFC])
def test_every_setting_of_an_attack_has_its_line_and_its_default(attack):
    listed = {}
    for line in given(1)[attack]:
        assert not set(line) & set(listed), "a setting stands in two lines"
        listed |= line
    assert listed == {field.name: field.default for field in fields(attack)}


@pytest.mark.filterwarnings("ignore:one_hot with ignored biases")
@pytest.mark.parametrize("attack", [LRPF, PGDC, DFC])
def test_what_else_can_be_chosen_is_accepted(attack):
    for default, others in zip(given(1)[attack], given(2)[attack], strict=True):
        assert set(others) <= set(default)
    cells = " ".join(cells[2] for heading, owner in SECTIONS.items() if owner is attack for cells in rows(heading))
    for name, value in re.findall(r"`(\w+)=([^`]+)`", cells):
        value = ast.literal_eval(value)
        assert getattr(attack(**{name: value}), name) == value != getattr(attack(), name)


def test_pgd_at_the_fine_level_has_its_own_bound():
    (line,) = [cells[1] for cells in rows("PGD") if "eps" in settings(cells[1])]
    assert f"{PGDF().eps} for PGDF" in line


def test_every_line_quotes_the_paper_or_says_that_it_is_silent():
    for heading in (*SECTIONS, "What counts", "Networks and training"):
        for paper, ours, _, where, difference in rows(heading):
            assert re.search(r"“|eqs?\. \(\d+\)|^nothing on|^lines? \d+", paper), paper
            assert ours and difference and re.search(r"\]\(\.\./\.\./\.\./\w+/", where), paper


# ----------------------------------------------------------------------------------------------------------- misprints
VALUES = {table: paper_values(table).set_index(["attack", "eps", "measure"]).value for table in ("table_1", "table_2")}


def printed(attack: str, measure: str, eps: str = "") -> float:
    table = "table_1" if attack.endswith("C") else "table_2"
    return VALUES[table][(attack, eps, measure)]


def section(heading: str) -> str:
    (text,) = re.findall(rf"^##+ {heading}\n(.*?)(?=^##|\Z)", MISPRINTS, re.DOTALL | re.MULTILINE)
    return " ".join(text.split())


def listed(values: list[float], digits: int) -> str:
    words = [f"{value:.{digits}f}" for value in values]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def test_the_numbers_on_pgdc_are_the_papers():
    text = section("PGDC in Table I")
    one, two, largest = (printed("PGDC", measure) for measure in ("rho_1", "rho_2", "rho_inf"))
    assert f"$\\rho^2 = {two:.4f}$ and $\\rho^1 = {one:.4f}$".replace("0.0", ".0") in text
    assert one < two and f"as printed, $\\rho^1 / \\rho^2$ is {one / two:.2f}" in text
    assert f"$\\rho^1 / \\rho^2 = {two / one:.2f}$ and $\\rho^2 / \\rho^\\infty = {one / largest:.2f}$" in text
    fine = [printed("PGDF", measure) for measure in ("rho_1", "rho_2", "rho_inf")]
    assert f"PGDF in Table II has {fine[0] / fine[1]:.2f} and {fine[1] / fine[2]:.2f}" in text


def test_an_even_perturbation_has_no_smaller_rho_1_than_rho_2():
    """By Cauchy and Schwarz; on random images, of which no two pixels are alike."""
    for x in np.random.default_rng(0).uniform(0, 255, (20, 300)):
        eta = np.ones_like(x)
        assert eta.sum() / x.sum() >= np.linalg.norm(eta) / np.linalg.norm(x)


def test_the_numbers_on_dff_are_the_papers():
    text = section("DFF in Table II")
    spread = {name: printed(name, "rho_2") / printed(name, "rho_inf") for name in ("DFF", "DFC", "PGDF")}
    assert f"{spread['DFF']:.2f} for DFF as printed, {spread['DFC']:.2f} for DFC, {spread['PGDF']:.2f} for PGDF" in text
    assert "six times as evenly" in text and round(spread["DFF"] / spread["DFC"]) == 6
    assert f"the ratio would be {printed('DFF', 'rho_2') / (10 * printed('DFF', 'rho_inf')):.2f}" in text


def test_the_numbers_on_what_is_comparable_are_the_papers():
    text = section("Sentences and tables")
    ours = [printed("LRPC", "rho_1", eps) for eps in ("10", "20", "40")]
    assert f"{listed([rho / printed('PGDC', 'rho_1') for rho in ours], 2)} times PGDC's" in text
    assert f"({listed([rho / printed('PGDC', 'rho_2') for rho in ours], 2)} times, if" in text
    ratios = [printed("LRPC", "rho_inf", eps) / printed("PGDC", "rho_inf") for eps in ("10", "20", "40")]
    assert f"are {listed(ratios, 1)} times as much" in text
    pair = printed("LRPC", "rho_inf", "10"), printed("DFC", "rho_inf")
    assert f"{pair[0]:.4f} against {pair[1]:.4f}".replace("0.0", ".0") in text


def test_what_the_printed_numbers_imply():
    text = section("What the printed numbers imply")
    largest = [int(eps) / printed("LRPC", "rho_inf", eps) for eps in ("10", "20", "40")]
    assert listed(largest, 1) in text
    for name, attack in (("coarse", PGDC), ("fine", PGDF)):
        rho = printed(attack.__name__, "rho_inf")
        assert f"{rho:.4f} · {largest[0]:.1f} = {rho * largest[0]:.2f} at the {name} level".replace("0.0", ".0") in text
        assert attack().eps == round(rho * largest[0], 2)
    shares = [100 * printed("LRPF", "rho_inf", eps) * largest[0] / int(eps) for eps in ("10", "20", "40")]
    assert f"{listed(shares, 0)} % of what its bounds allow" in text
    ratios = [printed("LRPC", "rho_1", eps) / printed("LRPC", "rho_inf", eps) for eps in ("10", "40")]
    assert f"falls from {ratios[0]:.2f} to {ratios[1]:.2f}" in text


def test_shares_of_eq_5_add_up_to_one_with_the_bounds_of_k_only():
    """The evidence for the indices: one unit, three inputs whose bounds differ."""
    a, w = np.array([0.2, -0.4, 0.9]), np.array([1.0, -2.0, 0.5])
    low, high = np.array([-1.0, -2.0, 0.0]), np.array([1.0, 3.0, 2.0])
    plus, minus = w.clip(0), w.clip(max=0)
    shares = a * w - low * plus - high * minus
    meant = shares / shares.sum()
    as_printed = [shares[i] / (a * w - low[i] * plus - high[i] * minus).sum() for i in range(3)]
    assert meant.sum() == pytest.approx(1, abs=1e-12)
    assert abs(sum(as_printed) - 1) > 0.01


def test_what_pgd_leaves_on_tiny_imagenet():
    table = pd.read_csv(PAGES.parents[2] / "figures/tiny-imagenet/table_1.csv", keep_default_na=False)
    fooling = table[(table.attack == "PGDC") & (table.measure == "fooling_percent")].ours.item()
    assert f"all of the paper's images and {float(fooling):.0f} % of Tiny ImageNet's" in CHOICES


def test_what_single_choices_change_on_the_scenes():
    table = pd.read_csv(Path(__file__).parent / "benchmarks" / "choices.csv")
    default = table[(table.attack == "LRPC") & (table.changed == "(the default)")].iloc[0]
    apart = table[(table.attack == "LRPC") & table.changed.str.startswith("line 8")].iloc[0]
    names = ["rho_2", "rho_1", "rho_inf"]
    differences = (apart[names] / default[names] - 1).abs().astype(float)
    assert 0.0105 < differences.max() < 0.0115
    assert "all three $\\rho$" in CHOICES and "differ by 1.1 % at most" in CHOICES
    assert round(32 * (1 - apart["as the default %"] / 100)) == 1 and "one scene of 32 fares otherwise" in CHOICES
    followed = table[table.changed.isin(["labels='clean'", "fine_network='kept'"])]["as the default %"]
    assert {round(32 * (1 - agree / 100)) for agree in followed} == {1, 3}
    assert "matters for one to three images of 32" in CHOICES


def test_passes_of_a_relevance_gradient_are_those_that_were_measured():
    measured = (Path(__file__).parent / "benchmarks" / "relevance.md").read_text(encoding="utf-8")
    text = " ".join((PAGES / "costs.md").read_text(encoding="utf-8").split())

    def forwards(way: str) -> tuple[float, float]:
        medians = [float(cells) for cells in re.findall(rf"\| {way} \| [\d.]+ \| ([\d.]+) \(", measured)]
        return min(medians), max(medians)

    low, high = forwards("LRPC p=1, one_hot, absorb")
    assert f"takes {low:.1f} to {high:.1f} plain forward passes" in text
    low, high = forwards("LRPC p=1, logit, ignore")
    assert f"from the logit {low:.1f} to {high:.1f}." in text
    low, high = forwards("zennit, two passes, p=1")
    assert f"zennit's two passes take {low:.0f} to {high:.0f}." in text
