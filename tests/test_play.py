"""The page to play with: what it holds is what the attacks do, and a browser shows it from a file, wide and narrow.

Screenshots go to the test's temporary folder, and to the folder that C2F_LRP_SCREENSHOTS names.
"""

import json
import os
import re
import zlib
from base64 import b64decode
from pathlib import Path

import chromium
import numpy as np
import pytest
import torch
from PIL import Image

import c2f_lrp
from c2f_lrp import play, plotting, provenance
from c2f_lrp.attacks import DFC, LRPC, PGDF
from c2f_lrp.courses import course_that_moves, courses

PATIENCE = 60  # seconds; alone a page answers at once


@pytest.fixture(scope="module")
def few():
    """The classifier and eight scenes that it classifies correctly."""
    classifier, images = c2f_lrp.load_classifier("scenes"), c2f_lrp.load_images("scenes", limit=16)
    coarse, fine = classifier.predict(images.pixels)
    return classifier, images[(coarse == images.coarse) & (fine == images.fine)][:8]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return play.write_page(tmp_path_factory.mktemp("play") / "play.html")


@pytest.fixture(scope="module")
def told(page):
    """What the page knows, and the bytes of its pictures."""
    text = page.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    (pictures,) = re.findall(r'id="pictures">(.*?)</script>', text, re.S)
    return json.loads(data), zlib.decompress(b64decode(pictures))


# ---------------------------------------------------------------------------------------------------------- courses
def test_a_course_ends_where_the_attack_does(few):
    classifier, images = few
    for attack in (LRPC(eps=10, lr=5, iterations=4), DFC()):
        result = attack(classifier, images.pixels, images.coarse, images.fine)
        found = courses(classifier, images.pixels, images.coarse, images.fine, attack)
        assert [len(course) - 1 for course in found] == result.iterations.tolist()
        assert len(set(result.iterations.tolist())) > 1, "the test means something where images leave at other steps"
        for course, eta, fooled in zip(found, result.perturbation, result.fooled.tolist(), strict=True):
            assert not course.perturbations[0].any()
            assert torch.equal(course.perturbations[-1], eta)
            assert course.fooled == fooled == (course.coarse[-1].item() != course.org)


def test_a_fine_attack_follows_each_image_on_its_own_network(few):
    classifier, images = few
    attack = PGDF(eps=2, iterations=6)
    found = courses(classifier, images.pixels, images.coarse, images.fine, attack)
    assert [course.org for course in found] == images.fine.tolist()
    assert [course.names for course in found] == [classifier.hierarchy.fine_names[i] for i in images.coarse.tolist()]


def test_an_attack_that_returns_an_earlier_iterate_has_no_course(few):
    classifier, images = few
    attack = LRPC(eps=40, lr=40, iterations=5, iterate="best")  # steps so long that the last is not the best
    with pytest.raises(ValueError, match="no course to follow"):
        courses(classifier, images.pixels, images.coarse, images.fine, attack)


def test_the_course_that_moves_is_one_whose_evidence_leaves_its_object_most(few):
    classifier, images = few
    attack = LRPC(eps=20, lr=10, iterations=6)
    chosen = course_that_moves(classifier, images, attack)
    all_of_them = courses(classifier, images.pixels, images.coarse, images.fine, attack)
    shares = [course.shares(mask) for course, mask in zip(all_of_them, images.object_masks, strict=True)]
    left = [
        (share[0] - share[-1]).item() if course.fooled else -2
        for course, share in zip(all_of_them, shares, strict=True)
    ]
    assert torch.equal(chosen.pixels, images.pixels[int(np.argmax(left))])


def test_without_an_image_that_is_fooled_there_is_no_course_that_moves(few):
    classifier, images = few
    with pytest.raises(ValueError, match="fools none of 2 images"):
        course_that_moves(classifier, images[[1, 2]], LRPC(eps=0.1, lr=0.1, iterations=1))


# -------------------------------------------------------------------------------------------------------- animation
def test_an_animation_and_its_sidecar_are_written_and_verified(few, tmp_path):
    classifier, images = few
    course = courses(classifier, images.pixels[:1], images.coarse[:1], images.fine[:1], DFC())[0]
    path = provenance.save_animation(plotting.animate(course), "attack", "scenes", {"eps": 10}, tmp_path)
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.info["loop"]) == (len(course), 0)
    again = provenance.save_animation(plotting.animate(course), "again", "scenes", {"eps": 10}, tmp_path)
    assert path.read_bytes() == again.read_bytes()
    assert provenance.verify(path.parent) == []
    path.write_bytes(b"GIF89a")
    assert provenance.verify(path.parent) == ["attack.gif: altered since attack.json was written"]


def test_an_animation_without_a_frame_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="has no frame"):
        provenance.save_animation([], "attack", "scenes", {}, tmp_path)
    assert not list(tmp_path.rglob("*.*"))


# --------------------------------------------------------------------------------------------------------- the page
def test_the_page_is_one_small_file_that_loads_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 3_200_000
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text) and "fetch(" not in text and "://" not in text


def test_the_page_has_six_scenes_one_that_moves_and_one_that_holds(told):
    scenes = {scene["title"]: scene for scene in told[0]["scenes"]}
    assert len({scene["name"] for scene in scenes.values()}) == len(scenes) == 6
    moves = scenes["It moves"]["runs"]["one_hot"]["10"]
    assert moves["fooled"] and moves["shares"][0][0] - moves["shares"][0][-1] > 0.3
    assert not scenes["It holds"]["runs"]["one_hot"]["40"]["fooled"]
    reading = scenes["One reading only"]["runs"]
    assert reading["logit"]["10"]["fooled"] and not any(run["fooled"] for run in reading["one_hot"].values())


def test_runs_of_the_page_are_those_of_the_package(told):
    """Pictures are rounded to half a unit of their scale; what they show may not be further from the exact run."""
    data, pictures = told
    classifier, images = c2f_lrp.load_classifier("scenes"), c2f_lrp.load_images("scenes", limit=3 * play.POOL)
    scene = data["scenes"][0]
    image, run = images[[images.names.index(scene["name"])]], scene["runs"]["logit"]["10"]
    attack = play.attacks()["logit"]["make"](10)
    (course,) = courses(classifier, image.pixels, image.coarse, image.fine, attack)
    shape = (run["last"], 3, data["size"], data["size"])
    changes = np.frombuffer(pictures, np.int8, int(np.prod(shape)), run["eta"]).reshape(shape)
    eta = torch.from_numpy(changes.astype(np.int16).cumsum(0) * (run["bound"] / data["fine_steps"]))
    # Six scenes were attacked side by side there, one alone here: float32 sums in another order, hence 0.1 of 255.
    assert (eta - course.perturbations[1:]).abs().max() <= run["bound"] / data["fine_steps"] / 2 + 0.1
    assert np.allclose(run["scores"], course.scores, atol=0.01)
    assert run["labels"] == [list(pair) for pair in zip(course.coarse.tolist(), course.fine.tolist(), strict=True)]


# ------------------------------------------------------------------------------------------------------ the browser
@pytest.fixture
def browser(tmp_path):
    with chromium.opened(tmp_path / "chromium", PATIENCE) as driver:
        yield driver


@chromium.NEEDED
@pytest.mark.parametrize("width, height", [(1400, 900), (400, 800)])
def test_a_browser_shows_the_page_from_a_file(browser, page, told, tmp_path, width, height):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    folder = Path(os.environ.get("C2F_LRP_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    metrics = dict(width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())

    def says(text: str):
        WebDriverWait(browser, PATIENCE).until(lambda b: text in b.find_element(By.TAG_NAME, "main").text)

    def canvas(name: str) -> str:
        return browser.execute_script(f"return document.getElementById('{name}').toDataURL()")

    def press(name: str):
        browser.execute_script("arguments[0].click()", browser.find_element(By.ID, name))

    scenes = told[0]["scenes"]
    last = scenes[0]["runs"]["one_hot"]["10"]["last"]
    says("FOOLED")
    says(f"step {last} of {last}")
    browser.save_screenshot(folder / f"play_{width}_fooled.png")
    now, clean = canvas("now"), canvas("before")
    assert now != clean
    browser.find_element(By.ID, "step").send_keys(Keys.HOME)
    says("BEFORE")
    assert canvas("now") == clean, "before the first step the image is the clean one"
    browser.find_element(By.ID, "step").send_keys(Keys.ARROW_RIGHT)
    says("NOT YET")
    press("run")
    says(f"after {last} steps")
    assert canvas("now") == now, "playing the steps ends where the slider does"

    press("attack-deepfool")
    says("DeepFool" if width > 939 else "FOOLED")
    assert browser.find_element(By.ID, "bound").get_attribute("disabled")
    holds = [scene["title"] for scene in scenes].index("It holds")
    press(f"scene-{holds}")
    says("NOT FOOLED")
    browser.save_screenshot(folder / f"play_{width}_not_fooled.png")
    press("attack-pgd")
    says("FOOLED")
    assert "NOT" not in browser.find_element(By.ID, "verdict").text

    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width, "the page scrolls sideways"
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
