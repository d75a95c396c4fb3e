"""The demo without a browser: what its widgets do, and that it shows what the attacks return."""

import base64
from io import BytesIO

import pytest
import torch
from PIL import Image
from traitlets import Bunch

from c2f_lrp import cli, demo, paths
from c2f_lrp.tables import READINGS


@pytest.fixture(scope="module")
def page():
    return demo.Demo(n_images=6)


def photo(name="cat.png", size=(90, 120)):
    buffer = BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, "PNG")
    return Bunch(name=name, content=memoryview(buffer.getvalue()))


@pytest.mark.parametrize("level", demo.LEVELS)
@pytest.mark.parametrize("name", demo.ATTACKS)
def test_the_last_step_is_what_the_attack_returns(page, name, level):
    _, classifier, image = page.choices[0]
    attack = demo.choose_attack(name, level, 4, 2, "eq7", next(iter(READINGS.values())))
    trace = demo.trace_attack(classifier, image.pixels[0], attack)
    result = attack(classifier, image.pixels, image.coarse, image.fine)
    assert torch.equal(trace.perturbations[-1], result.perturbation[0]) and not trace.perturbations[0].any()
    assert len(trace.perturbations) == result.iterations.item() + 1 and trace.fooled == result.fooled.item()
    before, now, ends = demo.panels_at(trace, len(trace.perturbations) - 1, "one_hot", "absorb")
    assert before.score_org == pytest.approx(trace.scores[0].max(), abs=1e-6) and before.score_org > before.score_adv
    assert now.score_org == pytest.approx(trace.scores[-1, trace.org], abs=1e-5)
    for end, heatmaps in (
        (ends[0], (before.relevance_org, now.relevance_org)),
        (ends[1], (before.relevance_adv, now.relevance_adv)),
    ):
        assert end == pytest.approx(max(heatmap.sum(0).abs().quantile(0.995).item() for heatmap in heatmaps))


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("step", 0),
        ("image", 1),
        ("eps", 3),
        ("parts", 8),
        ("loss", "attention"),
        ("reading", READINGS["logit start, bias ignored"]),
        ("attack", "DeepFool"),
        ("level", "fine"),
    ],
)
def test_every_control_changes_the_picture(page, control, value):
    widget = getattr(page, control)
    picture, text, before = bytes(page.png.value), page.text.value, widget.value
    widget.value = value
    assert page.png.value != picture and page.text.value != text
    assert bytes(page.png.value).startswith(b"\x89PNG")
    assert page.step.max == page.play.max == len(page.trace.perturbations) - 1
    assert page.eps.disabled == (page.attack.value == "DeepFool")
    widget.value = before if control != "step" else page.step.max
    assert page.png.value == picture and page.text.value == text


def test_where_attention_went_is_told_from_the_masks(page):
    beside = next(row for row, (_, _, image) in enumerate(page.choices) if image.secondary_masks.any())
    page.image.value = beside
    _, classifier, image = page.choices[beside]
    other = classifier.hierarchy.coarse_names[image.secondary_coarse.item()]
    before, _, _ = demo.panels_at(page.trace, 0, **page.reading.value)
    positive = before.relevance_org.sum(0).clamp(min=0)
    share = (positive[image.object_masks[0]].sum() / positive.sum()).item()
    assert f"{share:.0%} → " in page.text.value and f"on the {other} beside it " in page.text.value


def test_a_photograph_is_added_and_chosen(page):
    count = len(page.choices)
    page.add_photos(Bunch(new=(photo("cat.png"),)))
    assert len(page.image.options) == count + 1 and page.image.label == "cat.png"
    assert page.trace.pixels.shape == (3, 64, 64) and "cannot be said in numbers" in page.text.value


def test_what_is_no_photograph_is_refused(page):
    count, picture = len(page.choices), page.png.value
    page.add_photos(Bunch(new=(photo(), Bunch(name="<notes>.txt", content=memoryview(b"hello")))))
    assert "&lt;notes&gt;.txt cannot be read as an image" in page.text.value
    assert len(page.choices) == len(page.image.options) == count and page.png.value == picture


def test_what_an_attack_refuses_is_shown(page, monkeypatch):
    def refuse(row, attack):
        raise ValueError("coarse class fish has a single fine class")

    monkeypatch.setattr(page, "cached_trace", refuse)
    picture = page.png.value
    page.attack_again()
    assert "has a single fine class" in page.text.value and page.png.value == picture


def test_it_shows_as_widgets_or_as_a_picture(page):
    bundle = page._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == page.page.model_id
    assert base64.b64decode(bundle["image/png"]) == page.png.value and " → " in bundle["text/plain"]


def test_few_keeps_the_chosen():
    from c2f_lrp.plotting import few

    assert few(118, [100, 3], 4) == [0, 1, 3, 100]
    assert few(3, [2], 10) == [0, 1, 2] and few(9, [7, 8, 6], 2) == [6, 7, 8]


# ---------------------------------------------------------------------------------------------------- the command
@pytest.fixture
def started(monkeypatch):
    """What would have been run."""
    commands = []
    monkeypatch.setattr(cli.subprocess, "call", lambda command: commands.append(command) or 0)
    return commands


def test_the_command_opens_the_notebook_of_a_working_copy(started):
    assert cli.main(["demo", "--", "--no-browser"]) == 0
    (command,) = started
    assert command[1:3] == ["-m", "jupyterlab"] and command[-1] == "--no-browser"
    assert str(paths.REPOSITORY / "notebooks" / "00_demo.ipynb") in command


def test_the_command_of_an_installed_package_opens_a_copy_and_keeps_it(started, tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "00_demo.ipynb").write_text("as shipped")
    monkeypatch.setattr(cli, "NOTEBOOKS", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo"]) == 0 and (tmp_path / "00_demo.ipynb").read_text() == "as shipped"
    (tmp_path / "00_demo.ipynb").write_text("mine")
    assert cli.main(["demo"]) == 0 and (tmp_path / "00_demo.ipynb").read_text() == "mine"
    assert all(str(tmp_path / "00_demo.ipynb") in command for command in started)


def test_the_page_needs_voila(started, monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["demo", "--page"]) == 1 and not started
    assert "python -m pip install voila" in capsys.readouterr().err
