"""The demo without a browser: what its widgets do, and that it shows what the attacks return."""

import base64
import json
import os
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from traitlets import Bunch

from c2f_lrp import cli, demo, paths, photos, plotting, stage
from c2f_lrp.attacks import ATTACKS, LRPC, attack_class
from c2f_lrp.metrics import relevance_mass
from c2f_lrp.tables import READINGS

READING = next(iter(READINGS.values()))


@pytest.fixture(scope="module")
def page():
    return demo.Demo(n_images=12)


def photo(name="cat.png", size=(90, 120)):
    buffer = BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, "PNG")
    return Bunch(name=name, content=memoryview(buffer.getvalue()))


@pytest.mark.parametrize("name", [*ATTACKS, "best"])
def test_the_step_that_is_shown_last_is_what_the_attack_returns(page, name):
    choice = page.choices[0]
    loss = {"objective": "attention", "iterate": "best"} if name == "best" else {}
    attack = demo.choose_attack("lrpc" if name == "best" else name, 4, loss, 2, 8, READING)
    trace = demo.run_trace(demo.start_trace(choice.classifier, choice.image.pixels[0], attack))
    result = attack(choice.classifier, choice.image.pixels, choice.image.coarse, choice.image.fine)
    assert torch.equal(trace.perturbations[trace.returned], result.perturbation[0]) and not trace.perturbations[0].any()
    before, now = trace.panel(0, READING), trace.panel(trace.returned, READING)
    assert trace.fooled(now, before) == result.fooled.item()
    assert before.score_org == pytest.approx(trace.scores[0].max(), abs=1e-6) and before.score_org > before.score_adv
    assert now.score_org == pytest.approx(trace.scores[trace.returned][trace.org], abs=1e-5)


def test_what_is_not_chosen_is_the_attacks_own_default():
    """As in the command, whose attacks are `photos.photo_attacks`."""
    for name in ATTACKS:
        eps = getattr(attack_class(name), "eps", None)
        assert eps is None or eps in demo.BOUNDS
        chosen = demo.choose_attack(name, eps, {}, 0, 0, READING)
        assert chosen == attack_class(name)()
        *_, commanded = photos.photo_attacks(name, [eps] if eps else None).values()
        assert commanded == chosen


@pytest.mark.parametrize("example", demo.SCENES, ids=lambda example: example.title)
def test_the_command_that_the_demo_prints_is_the_attack_that_it_shows(page, example, monkeypatch):
    _, row = next(each for each in page.examples if each[0] is example)
    page.choose(example, row)
    page.stop()
    words = demo.command_of(page.trace.attack, page.choice.profile).replace("PHOTO", "x.png").split()[1:]
    asked = []
    monkeypatch.setattr(photos, "attack_photo", lambda c, p, size, columns, *rest: asked.append(columns) or {})
    monkeypatch.setattr(photos, "as_text", lambda *rest: "")
    assert cli.main(words) == 0
    *_, commanded = asked[0].values()
    assert commanded == page.trace.attack


@pytest.mark.parametrize("example", demo.SCENES, ids=lambda example: example.title)
def test_an_example_shows_what_its_sentence_says(page, example):
    _, row = next(each for each in page.examples if each[0] is example)
    page.choose(example, row)
    page.finish()
    trace, image = page.trace, page.choice.image
    before, now = trace.panel(0, READING), trace.panel(page.step.value, READING)
    assert trace.fooled(now, before) == example.fooled
    assert (">FOOLED<" in page.text.value) == example.fooled and example.look in page.text.value.replace("&#x27;", "'")
    was, is_now = (relevance_mass(panel.relevance_org[None], image.object_masks).item() for panel in (before, now))
    if example.moves:  # by much more than in any other example: the largest of those is .08
        assert was - is_now > 0.15
        beside = [relevance_mass(p.relevance_org[None], image.secondary_masks).item() for p in (before, now)]
        assert beside[1] > 2 * beside[0]
    if example.attack == "dfc":
        assert abs(now.score_org - now.score_adv) < 0.1
    if example.attack == "pgdc":
        assert now.perturbation.abs().max() < 2.56 and (now.perturbation.abs() > 1).float().mean() > 0.5


def test_on_the_photograph_relevance_moves_and_the_label_does_not(page):
    """Grace Hopper's ribbons lie in the lower right corner."""
    example, row = page.examples[-1]
    assert example is demo.PHOTO
    page.choose(example, row)
    page.finish()
    trace = page.trace
    before, now = trace.panel(0, READING), trace.panel(page.step.value, READING)
    assert not trace.fooled(now, before)
    corner = torch.zeros(1, 224, 224, dtype=torch.bool)
    corner[:, 180:, 130:] = True
    was, is_now = (relevance_mass(panel.relevance_org[None], corner).item() for panel in (before, now))
    assert is_now > 3 * was and now.norm_adv > 2 * before.norm_adv
    assert "Beware: the network is unsure of the fine label" in page.text.value
    page.choose(*page.examples[0])
    page.finish()


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("step", 0),
        ("image", 1),
        ("eps", 4),
        ("parts", 2.5),
        ("count", 10),
        ("loss", {"objective": "attention"}),
        ("reading", READINGS["logit start, bias ignored"]),
        ("attack", "DeepFool"),
        ("level", "fine"),
    ],
)
def test_every_control_changes_the_page(page, control, value):
    example = demo.SCENES[2] if control == "count" else demo.SCENES[0]  # it takes all steps
    page.choose(*next(each for each in page.examples if each[0] is example))
    page.finish()
    shown = page.text.value
    getattr(page, control).value = value
    page.finish()
    assert page.text.value != shown
    assert page.step.max == page.play.max == max(1, len(page.trace.perturbations) - 1)
    assert (
        page.eps.disabled == (page.attack.value == "DeepFool")
        and not page.running
        and page.stop_button.description == "finished"
    )


def test_every_control_has_a_tooltip(page):
    controls = [page.image, page.photo, page.attack, page.eps, page.play, page.step, page.stop_button, page.parts]
    controls += [page.count, page.reading, page.loss]
    assert all(len(control.tooltip) > 10 for control in controls) and len(page.level.tooltips) == 2


@pytest.mark.parametrize("name", ATTACKS)
def test_the_menus_say_what_the_attacks_own_settings_are(page, name):
    chosen = attack_class(name)
    page.choose(*page.examples[0])
    page.attack.value, page.level.value = chosen.title, chosen.level
    page.finish()
    attack = demo.choose_attack(name, page.eps.value, {}, page.parts.value, page.count.value, READING)
    assert page.count.value == 0 and page.count.label == f"the attack's own: {attack.iterations}"
    assert page.parts.value == 0 and page.parts.disabled == (chosen.title == "DeepFool")
    size = "ε / 4" if chosen.title == "PGD" else f"{getattr(attack, 'lr', 0):g} of 255"
    assert page.parts.label == "the attack's own" + ("" if page.parts.disabled else f": {size}")


def test_an_attack_goes_with_its_own_bound(page):
    page.choose(*page.examples[0])
    page.attack.value = "PGD"
    assert page.eps.value == attack_class("pgdc").eps
    page.level.value = "fine"
    assert page.eps.value == attack_class("pgdf").eps
    page.finish()
    page.level.value, page.attack.value = "coarse", LRPC.title
    assert page.eps.value == 10
    page.finish()


def test_steps_appear_as_they_are_computed_and_an_attack_can_be_stopped(page, monkeypatch):
    page.traces.clear()
    shown = []

    def stopping(step):
        shown.append((step, page.running, page.stop_button.disabled))
        if step == 1:
            page.stopping.set()  # what the button does, from the attack's own thread

    monkeypatch.setattr(page, "show_step", stopping)
    page.choose(*next(each for each in page.examples if each[0].title == "it fails"))
    page.finish()
    assert shown == [(0, True, False), (1, True, False)] and not page.running and page.stop_button.disabled
    assert page.trace.returned is None and len(page.trace.perturbations) <= 4
    assert page.text.value.startswith(demo.STALE)  # nothing of this attack was drawn
    monkeypatch.undo()
    page.attack_again()
    page.attack_again()
    page.finish()
    assert page.trace.returned is not None and demo.STALE not in page.text.value


def test_where_attention_went_is_told_from_the_masks(page):
    beside = next(row for row, choice in enumerate(page.choices) if choice.image.secondary_masks.any())
    page.image.value = beside
    page.finish()
    image = page.choices[beside].image
    other = page.trace.classifier.hierarchy.coarse_names[image.secondary_coarse.item()]
    positive = page.trace.panel(0, page.reading.value).relevance_org.sum(0).clamp(min=0)
    share = (positive[image.object_masks[0]].sum() / positive.sum()).item()
    assert f"{share:.0%} → " in page.text.value and f"on the {other} beside it " in page.text.value


def test_a_photograph_is_added_and_chosen(page):
    count = len(page.choices)
    page.attack.value = "DeepFool"
    page.add_photos(Bunch(new=(photo("cat.png"),)))
    page.finish()
    assert len(page.image.options) == count + 1 and page.image.label == "cat.png"
    assert page.trace.pixels.shape == (3, 224, 224) and "cannot be said" in page.text.value
    page.attack.value = LRPC.title
    page.stop()


def test_what_is_no_photograph_is_refused_in_one_line(page):
    count = len(page.choices)
    page.add_photos(Bunch(new=(photo(), Bunch(name="<notes>.txt", content=memoryview(b"hello")))))
    assert "&lt;notes&gt;.txt cannot be read as an image" in page.text.value and "BytesIO" not in page.text.value
    assert len(page.choices) == len(page.image.options) == count


def test_what_an_attack_refuses_is_shown(page, monkeypatch):
    def refuse(*given):
        raise ValueError("coarse class fish has a single fine class")

    monkeypatch.setattr(demo, "start_trace", refuse)
    page.traces.clear()
    page.attack_again()
    assert "has a single fine class" in page.text.value
    monkeypatch.undo()
    page.choose(*page.examples[0])
    page.finish()


def test_it_shows_as_widgets_or_as_a_figure(page):
    bundle = page._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == page.page.model_id
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG") and " → " in bundle["text/plain"]


def test_colours_are_those_of_the_scale():
    heatmap = torch.tensor([[[-2.0, 0.0, 1.0]] * 3])
    pixels = stage.coloured(heatmap, 2, "RdBu_r")
    times = -(-stage.SIDE // 3)
    assert pixels.shape == (3 * times, 3 * times, 3)
    ends = [(plt_colour * 255).round() for plt_colour in plotting.plt.get_cmap("RdBu_r")([0.0, 0.5, 0.75])[:, :3]]
    for column, end in enumerate(ends):
        assert (pixels[0, column * times] == end).all()


def test_outlines_follow_the_border_of_a_mask():
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1:3, 1:3] = True
    pixels = stage.coloured(torch.zeros(1, 4, 4), 1, "RdBu_r", [mask])
    drawn = (pixels == 60).all(2)
    times = stage.SIDE // 4
    assert drawn[times, times : 3 * times].all() and not drawn[times - 1].any() and not drawn[2 * times, 2 * times]


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
    assert f"--ServerApp.root_dir={paths.REPOSITORY / 'notebooks'}" in command
    assert "--LabApp.default_url=/doc/tree/00_demo.ipynb" in command  # that document alone


def test_jupyterlab_is_told_not_to_ask_about_news(monkeypatch):
    told = []

    def look(command):
        folder = Path(os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)[0])
        told.append(json.loads((folder / "labconfig" / "default_setting_overrides.json").read_text()))
        return 0

    monkeypatch.setattr(cli.subprocess, "call", look)
    before = os.environ.get("JUPYTER_CONFIG_PATH")
    assert cli.main(["demo"]) == 0 and os.environ.get("JUPYTER_CONFIG_PATH") == before
    assert told[0]["@jupyterlab/apputils-extension:notification"] == {"checkForUpdates": False, "fetchNews": "false"}


def test_the_command_of_an_installed_package_opens_a_copy_and_keeps_it(started, tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "00_demo.ipynb").write_text("as shipped")
    monkeypatch.setattr(cli, "NOTEBOOKS", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo"]) == 0 and (tmp_path / "00_demo.ipynb").read_text() == "as shipped"
    (tmp_path / "00_demo.ipynb").write_text("mine")
    assert cli.main(["demo"]) == 0 and (tmp_path / "00_demo.ipynb").read_text() == "mine"
    assert all(f"--ServerApp.root_dir={tmp_path}" in command for command in started)


def test_the_page_needs_voila(started, monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["demo", "--page"]) == 1 and not started
    assert "python -m pip install voila" in capsys.readouterr().err


def test_the_page_is_voilas(started, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: name)
    assert cli.main(["demo", "--page", "--", "--no-browser"]) == 0
    assert started[0][1:3] == ["-m", "voila"] and started[0][-1] == "--no-browser"
    assert ".celltag_lab {display: none}" in stage.STYLE  # how to run the cells, which Voilà has done
