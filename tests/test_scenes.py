"""The code-drawn scenes: determinism, labels, masks, and no shortcut through the mean colour."""

import numpy as np
import pytest
from scipy.optimize import minimize

from c2f_lrp.datasets import scenes
from c2f_lrp.datasets.scenes import COARSE_NAMES, FINE_NAMES, SIZE, draw_object, draw_scene, label_of

COUNT = 3072


@pytest.fixture(scope="module")
def drawn():
    return [draw_scene(5, index) for index in range(COUNT)]


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)


def test_names():
    papers = "fish, bird, reptile, clothes, food, vehicle, electrical device, dog"
    assert ", ".join(COARSE_NAMES) == papers
    assert [len(names) for names in FINE_NAMES] == [4] * 8
    assert len({name for names in FINE_NAMES for name in names}) == 32


def test_a_scene_depends_on_seed_and_index_alone(drawn):
    np.random.seed(3)  # the global state must not matter
    for index in (40, 7, 1000, 0):
        assert same(draw_scene(5, index), drawn[index])
        assert not np.array_equal(draw_scene(6, index).pixels, drawn[index].pixels)
    assert not np.array_equal(drawn[0].pixels, drawn[32].pixels)
    assert same(draw_scene(np.int64(5), np.int64(9)), drawn[9])


def test_labels_are_balanced(drawn):
    labels = [(scene.coarse, scene.fine) for scene in drawn]
    assert labels == [label_of(index) for index in range(COUNT)]
    assert [label_of(index)[0] for index in range(8)] == list(range(8))
    counts = np.zeros((8, 4), dtype=int)
    for coarse, fine in labels:
        counts[coarse, fine] += 1
    assert (counts == COUNT // 32).all()


def test_shapes_and_types(drawn):
    for scene in drawn[:64]:
        assert scene.pixels.shape == (SIZE, SIZE, 3) and scene.pixels.dtype == np.uint8
        for mask in (scene.object_mask, scene.secondary_mask):
            assert mask.shape == (SIZE, SIZE) and mask.dtype == bool
        assert all(type(label) is int for label in (scene.coarse, scene.fine, scene.secondary_coarse))


def test_masks(drawn):
    for scene in drawn:
        primary, secondary = scene.object_mask.sum(), scene.secondary_mask.sum()
        assert primary >= 200, "the labelled object must stay in sight"
        assert not (scene.object_mask & scene.secondary_mask).any()
        if scene.secondary_coarse < 0:
            assert scene.secondary_coarse == -1 and secondary == 0
        else:
            assert scene.secondary_coarse in range(8) and scene.secondary_coarse != scene.coarse
            assert 0 < secondary < primary


def test_mask_marks_where_the_object_is_drawn(monkeypatch):
    """On a black ground, unlit and without shadow, a colour appears where a mask is and nowhere else."""
    monkeypatch.setattr(scenes, "_background", lambda rng: (np.zeros((SIZE, SIZE, 3), dtype=np.float32), 0.0))
    monkeypatch.setattr(scenes, "_light", lambda rng, picture: picture)
    monkeypatch.setattr(scenes, "_occluder", lambda rng, alpha: np.zeros((SIZE, SIZE, 4), dtype=np.float32))
    for index in range(32):
        scene = draw_scene(1, index)
        either = scene.object_mask | scene.secondary_mask
        lit = scene.pixels.max(axis=2) > 0
        assert (either & ~lit).mean() < 0.002
        beyond = lit & ~either  # antialiased border: covered by less than one half
        near = np.zeros_like(either)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near |= np.roll(either, (dy, dx), axis=(0, 1))
        assert (beyond & ~near).mean() < 0.01


def test_secondary_share(drawn):
    share = np.mean([scene.secondary_coarse >= 0 for scene in drawn])
    assert 0.6 < share < 0.73
    seen = {(scene.coarse, scene.secondary_coarse) for scene in drawn if scene.secondary_coarse >= 0}
    assert len(seen) == 8 * 7


def mean_colour_accuracy(drawn):
    """Held-out coarse accuracy of multinomial logistic regression on the mean RGB of the image."""
    x = np.array([scene.pixels.mean(axis=(0, 1)) for scene in drawn])
    x = np.column_stack([(x - x.mean(axis=0)) / x.std(axis=0), np.ones(len(x))])
    y = np.array([scene.coarse for scene in drawn])
    held_out = np.arange(len(x)) // 32 % 4 == 3

    def loss(flat):
        logits = x[~held_out] @ flat.reshape(4, 8)
        logits -= logits.max(axis=1, keepdims=True)
        logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        onehot = np.eye(8)[y[~held_out]]
        slope = x[~held_out].T @ (np.exp(logp) - onehot) / len(onehot)
        return -(onehot * logp).sum(axis=1).mean(), slope.ravel()

    weights = minimize(loss, np.zeros(32), jac=True, method="L-BFGS-B").x.reshape(4, 8)
    return float(((x[held_out] @ weights).argmax(axis=1) == y[held_out]).mean())


def test_mean_colour_is_no_shortcut(drawn):
    assert mean_colour_accuracy(drawn) < 0.30


def test_mean_colour_classifier_finds_a_planted_shortcut(drawn):
    class Tinted:
        def __init__(self, scene):
            tint = np.array([scene.coarse & 1, scene.coarse >> 1 & 1, scene.coarse >> 2])
            self.pixels, self.coarse = scene.pixels * 0.2 + 200 * tint, scene.coarse

    assert mean_colour_accuracy([Tinted(scene) for scene in drawn[:1024]]) > 0.9


def test_draw_object():
    picture = draw_object(2, 1, size=96)
    assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, draw_object(2, 1, size=96))
    clean = {draw_object(coarse, fine).tobytes() for coarse in range(8) for fine in range(4)}
    assert len(clean) == 32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_scene(-1, 0), "seed is -1, allowed are integers >= 0"),
        (lambda: draw_scene(0, -7), "index is -7, allowed are integers >= 0"),
        (lambda: draw_object(8, 0), r"class is \(8, 0\), allowed are coarse 0..7 and fine 0..3"),
        (lambda: draw_object(0, -1), r"class is \(0, -1\)"),
    ],
)
def test_errors_name_what_was_given_and_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()
