"""Embedded data set: 64 x 64 scenes drawn by code, with exact object masks.

A scene shows a primary object (the label), in about two thirds of the images a smaller secondary object of
another coarse class, and a textured background.  A scene is a function of (seed, index) alone.
"""

import colorsys
import csv
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from tqdm.auto import tqdm

from c2f_lrp.datasets import Checked, Images, LazyImages, stack
from c2f_lrp.datasets.scene_objects import OBJECTS, Pen
from c2f_lrp.datasets.splits import SPLITS, check_split
from c2f_lrp.files import atomic_write
from c2f_lrp.hierarchy import FOLDER_COLUMNS, Hierarchy
from c2f_lrp.profiles import Profile

SIZE = 64
COARSE_NAMES = ("fish", "bird", "reptile", "clothes", "food", "vehicle", "electrical device", "dog")
FINE_NAMES = (
    ("shark", "ray", "seahorse", "angelfish"),
    ("flamingo", "owl", "toucan", "duck"),
    ("turtle", "snake", "lizard", "crocodile"),
    ("t-shirt", "trousers", "dress", "jacket"),
    ("burger", "pizza", "ice cream", "cake"),
    ("car", "truck", "bicycle", "sailboat"),
    ("lamp", "television", "fan", "laptop"),
    ("dachshund", "poodle", "dalmatian", "husky"),
)

_FINE = 4  # everything is drawn at four times the size and area-averaged, which gives the exact coverage
_SECONDARY_SHARE = 2 / 3
_LUMA = np.array([0.299, 0.587, 0.114])
_Y, _X = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]


@dataclass(frozen=True)
class Scene:
    """One image with its labels and the visible pixels of its objects (coverage of at least one half)."""

    pixels: np.ndarray  # uint8 (64, 64, 3), RGB
    coarse: int
    fine: int  # index inside the coarse class
    secondary_coarse: int  # -1 when there is no secondary object
    object_mask: np.ndarray  # bool (64, 64)
    secondary_mask: np.ndarray  # bool (64, 64), all False when there is no secondary object


def label_of(index: int) -> tuple[int, int]:
    """(coarse, fine) of an index: a cycle of 32 in which eight neighbours show all coarse classes."""
    flat = index % 32
    return flat % 8, flat // 8


def draw_scene(seed: int, index: int) -> Scene:
    """Draw scene `index` of the series `seed`; both are integers >= 0, else ValueError."""
    for name, value in (("seed", seed), ("index", index)):
        if value < 0:
            raise ValueError(f"draw_scene: {name} is {value}, allowed are integers >= 0")
    rng = np.random.default_rng([seed, index])
    coarse, fine = label_of(index)
    ground, ground_luma = _background(rng)

    span = rng.uniform(0.68, 0.94)
    centre = SIZE * (0.5 + rng.uniform(-1, 1, 2) * (0.03 + 0.4 * (0.94 - span)))
    primary = _object_layer(rng, coarse, fine, span, centre, ground_luma)
    layers = [primary]  # from back to front
    secondary, secondary_coarse = None, -1
    if rng.random() < _SECONDARY_SHARE:
        secondary_coarse = int((coarse + rng.integers(1, 8)) % 8)
        secondary = _secondary_layer(rng, secondary_coarse, primary, centre, ground_luma)
        # behind the primary object only while enough of it stays in sight
        in_sight = (secondary[..., 3] * (1 - primary[..., 3])).sum() / secondary[..., 3].sum()
        layers.insert(0 if in_sight > 0.6 and rng.random() < 0.6 else 1, secondary)
    if rng.random() < 0.25:
        strip = _occluder(rng, primary[..., 3])
        if (strip[..., 3] * primary[..., 3]).sum() < 0.2 * primary[..., 3].sum():
            layers.append(strip)

    picture = ground
    object_mask, secondary_mask = np.zeros((2, SIZE, SIZE), dtype=bool)
    for layer in layers:
        picture = _lay(rng, picture, layer)
        covered = layer[..., 3]
        # what is half covered by a layer in front belongs to that layer, so the masks never share a pixel
        object_mask, secondary_mask = object_mask & (covered < 0.5), secondary_mask & (covered < 0.5)
        if layer is primary:
            object_mask = covered >= 0.5
        elif layer is secondary:
            secondary_mask = covered >= 0.5
    return Scene(_light(rng, picture), coarse, fine, secondary_coarse, object_mask, secondary_mask)


def draw_object(coarse: int, fine: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """One upright object on a plain ground, uint8 (size, size, 3); the seed picks the colours.

    ValueError when the class does not exist.
    """
    if not (0 <= coarse < 8 and 0 <= fine < 4):
        raise ValueError(f"draw_object: class is ({coarse}, {fine}), allowed are coarse 0..7 and fine 0..3")
    rng = np.random.default_rng(seed)
    side = size * _FINE
    pen = Pen(side, np.eye(2) * 0.44 * side, (side / 2, side / 2), _palette(rng, 0.9), rng)
    OBJECTS[coarse][fine](pen)
    plain = Image.new("RGB", (side, side), (236, 234, 228))
    plain.paste(pen.image, mask=pen.image.getchannel("A"))
    return np.asarray(plain.reduce(_FINE))


def _colour(rng, luma, saturation):
    """Random hue of a given luminance, RGB floats (3,) in 0..1; saturation: the range to draw from."""
    rgb = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), 1.0))
    own = float(rgb @ _LUMA)
    return rgb * (luma / own) if own > luma else rgb + (1 - rgb) * (luma - own) / (1 - own)


def _palette(rng, ground_luma):
    """Five random colours (main, second, third, pale, ink); main stands out against the ground."""
    while abs((main := rng.uniform(0.3, 0.92)) - ground_luma) < 0.24:
        pass
    while abs((second := rng.uniform(0.22, 0.95)) - main) < 0.25:
        pass
    colours = [_colour(rng, luma, (0.25, 0.9)) for luma in (main, second, rng.uniform(0.35, 0.9))]
    colours.append(_colour(rng, rng.uniform(0.82, 0.95), (0.0, 0.4)))
    colours.append(_colour(rng, rng.uniform(0.03, 0.12), (0.2, 0.9)))
    return [tuple(int(255 * part) for part in colour) for colour in colours]


def _object_layer(rng, coarse, fine, span, centre, ground_luma):
    """An object in random pose and colours: premultiplied RGBA floats (64, 64, 4) in 0..1.

    span: side of the unit frame as a share of the image side; centre: its middle in pixels (2,).
    """
    turn, shear = np.radians(np.clip(rng.normal(0, 11), -28, 28)), rng.uniform(-0.14, 0.14)
    flip, stretch = rng.choice((-1, 1)), rng.uniform(0.92, 1.08)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.array([[flip * stretch, shear], [0, 1 / stretch]]) * (span * SIZE * _FINE / 2)
    pen = Pen(SIZE * _FINE, matrix, np.asarray(centre) * _FINE, _palette(rng, ground_luma), rng)
    OBJECTS[coarse][fine](pen)
    return _coverage(pen.image)


def _coverage(image):
    """Area average of an oversampled RGBA canvas, premultiplied floats in 0..1."""
    # the canvas is black where it is transparent and opaque elsewhere, hence already premultiplied: averaging
    # the bands one by one (merge of L images) is right, where RGBA.reduce would divide by alpha again
    bands = [band.reduce(_FINE) for band in image.split()]
    return np.asarray(Image.merge("RGBA", bands), dtype=np.float32) / 255


def _secondary_layer(rng, coarse, primary, centre, ground_luma):
    """A smaller object, mostly beside the primary one: at most half its area, a quarter if it covers it."""
    span = rng.uniform(0.34, 0.46)
    bearing = rng.uniform(0, 2 * np.pi, 6)
    away = SIZE * (0.5 + np.clip(0.46 * np.stack([np.cos(bearing), np.sin(bearing)], axis=1), -0.33, 0.33))
    half = int(span * SIZE / 2)
    hidden = []
    for x, y in away.astype(int):
        hidden.append(primary[max(0, y - half) : y + half, max(0, x - half) : x + half, 3].mean())
    # one in six lies on the primary object (clothes in a car), the others take the emptiest of six places
    place = away[int(np.argmin(hidden))]
    if rng.random() < 1 / 6:
        place = centre + rng.uniform(-12, 12, 2)
    fine = int(rng.integers(4))
    state = rng.bit_generator.state
    layer = _object_layer(rng, coarse, fine, span, place, ground_luma)
    area = primary[..., 3].sum()
    ratio, overlap = layer[..., 3].sum() / area, (layer[..., 3] * primary[..., 3]).sum() / area
    limit = 0.5 if overlap < 0.15 else 0.25
    if ratio > limit:
        rng.bit_generator.state = state  # the same pose and colours again, smaller
        layer = _object_layer(rng, coarse, fine, span * float(np.sqrt(limit / ratio)), place, ground_luma)
    return layer


def _occluder(rng, alpha):
    """A bar, a blob or leaves that cover a small part of the object: premultiplied floats (64, 64, 4)."""
    ys, xs = np.nonzero(alpha > 0.5)
    at = rng.integers(len(xs))
    x, y = _FINE * float(xs[at]), _FINE * float(ys[at])
    image = Image.new("RGBA", (SIZE * _FINE, SIZE * _FINE))
    draw = ImageDraw.Draw(image)
    fill = tuple(int(255 * part) for part in _colour(rng, rng.uniform(0.15, 0.85), (0.1, 0.7)))
    angle = rng.uniform(0, np.pi)
    dx, dy = 400 * np.cos(angle), 400 * np.sin(angle)
    kind = rng.integers(3)
    if kind == 0:
        draw.line((x - dx, y - dy, x + dx, y + dy), fill=fill, width=int(rng.uniform(10, 20)))
    elif kind == 1:
        a, b = rng.uniform(12, 26, 2)
        draw.ellipse((x - a, y - b, x + a, y + b), fill=fill)
    else:
        draw.line((x - dx, y - dy, x + dx, y + dy), fill=fill, width=5)
        for step in np.arange(-1, 1, 0.09):
            lx, ly, side = x + step * dx, y + step * dy, rng.choice((-0.045, 0.045))
            tip = (lx - side * dy + 0.05 * dx, ly + side * dx + 0.05 * dy)
            draw.polygon((lx, ly, lx + 0.045 * dx, ly + 0.045 * dy, *tip), fill=fill)
    return _coverage(image)


def _lay(rng, picture, layer):
    """Lay one layer over a picture (64, 64, 3), with rounded shading and a soft shadow on what lies below."""
    alpha = layer[..., 3:]
    blurred = Image.fromarray((alpha[..., 0] * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(3))
    soft = np.asarray(blurred, dtype=np.float32) / 255
    angle = rng.uniform(0, 2 * np.pi)
    dx, dy = int(round(3 * np.cos(angle))), int(round(3 * np.sin(angle)))
    shifted = np.roll(soft, (dy, dx), axis=(0, 1))
    picture = picture * (1 - 0.3 * (shifted * (1 - alpha[..., 0])))[..., None]
    # seen from the light, the blurred silhouette rises on one side of the object and falls on the other
    relief = 1 + rng.uniform(0.2, 0.6) * (soft - np.roll(soft, (-dy, -dx), axis=(0, 1)))
    return picture * (1 - alpha) + layer[..., :3] * relief[..., None]


def _noise(rng, cells):
    """Smooth value noise (64, 64) in about 0..1 with the given number of cells a side."""
    grid = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _texture(rng):
    """One random texture (64, 64) in about 0..1."""
    kind = rng.integers(6)
    angle, wave = rng.uniform(0, np.pi), rng.uniform(6, 22)
    u, v = _X * np.cos(angle) + _Y * np.sin(angle), _Y * np.cos(angle) - _X * np.sin(angle)
    if kind == 0:  # clouds, several octaves
        first = int(rng.integers(2, 7))
        return sum(_noise(rng, first * 2**k) * 0.5 ** (k + 1) for k in range(4)) / 0.94
    if kind == 1:  # stripes, bent a little
        return 0.5 + 0.5 * np.tanh(rng.uniform(1, 5) * np.sin(wave * u + 2 * _noise(rng, 3)))
    if kind == 2:  # checks
        return 0.5 + 0.5 * np.tanh(4 * np.sin(0.7 * wave * u) * np.sin(0.7 * wave * v))
    if kind == 3:  # gradient
        return 0.5 + 0.4 * u
    if kind == 4:  # blotches
        return 1 / (1 + np.exp(-rng.uniform(8, 30) * (_noise(rng, int(rng.integers(4, 12))) - 0.5)))
    return 0.5 + 0.5 * np.sin(wave * np.hypot(_X - rng.uniform(-1, 1), _Y - rng.uniform(-1, 1)))  # rings


def _background(rng):
    """Textured ground (64, 64, 3) in 0..1 in up to three random colours, and its mean luminance."""
    luma = rng.uniform(0.15, 0.85)
    spread = rng.uniform(0.03, 0.12)
    lumas = np.clip([luma - spread, luma + spread, luma + rng.uniform(-spread, spread)], 0.04, 0.96)
    first, second, third = (_colour(rng, value, (0.05, 0.7)) for value in lumas)
    mix = _texture(rng)
    if rng.random() < 0.5:
        share = rng.uniform(0.3, 0.7)
        mix = share * mix + (1 - share) * _texture(rng)
    ground = first + np.clip(mix, 0, 1)[..., None] * (second - first)
    if rng.random() < 0.5:
        ground = ground + np.clip(_texture(rng), 0, 1)[..., None] * rng.uniform(0.3, 0.8) * (third - ground)
    return ground.astype(np.float32), luma


def _light(rng, picture):
    """Light of the whole scene (direction, gamma, brightness) and a little grain; uint8 (64, 64, 3)."""
    angle = rng.uniform(0, 2 * np.pi)
    slope = 1 + rng.uniform(0, 0.2) * (_X * np.cos(angle) + _Y * np.sin(angle))
    lit = np.clip(picture * slope[..., None], 0, 1) ** rng.uniform(0.75, 1.35) * rng.uniform(0.8, 1.1)
    grain = rng.normal(0, rng.uniform(0.004, 0.016), (SIZE, SIZE, 1))
    return (np.clip(lit + grain, 0, 1) * 255 + 0.5).astype(np.uint8)


# Training scenes and held-out ones come from different seeds, so no scene is in two splits; evaluation is the
# validation part, as in the paper.
SPLIT_SEEDS = {"train": 1, "validation": 2, "evaluation": 2}


def read(split: str, count: int, processes: int = 1) -> Images:
    """The first `count` scenes of a split, with both masks, pixels uint8."""
    check_split(split)
    draw = partial(draw_scene, SPLIT_SEEDS[split])
    progress = tqdm(total=count, desc=f"drawing {split} scenes", leave=False, disable=count < 1000)
    with ProcessPoolExecutor(processes) if processes > 1 else nullcontext() as pool:
        drawn = []
        for scene in pool.map(draw, range(count), chunksize=500) if pool else map(draw, range(count)):
            drawn.append(scene)
            progress.update()
    return collected(split, range(count), drawn)


def lazy(split: str, count: int) -> LazyImages:
    """The first `count` scenes of a split, drawn when they are asked for."""
    check_split(split)
    coarse, fine = torch.tensor([label_of(index) for index in range(count)]).T
    draw = partial(draw_scene, SPLIT_SEEDS[split])
    return LazyImages(coarse, fine, lambda rows: collected(split, rows, list(map(draw, rows))))


def collected(split: str, indices: Sequence[int], drawn: list[Scene]) -> Images:
    return stack(
        [scene.pixels for scene in drawn],
        [scene.coarse for scene in drawn],
        [scene.fine for scene in drawn],
        [scene.object_mask for scene in drawn],
        [f"scene {SPLIT_SEEDS[split]}/{index}" for index in indices],
        [scene.secondary_mask for scene in drawn],
        [scene.secondary_coarse for scene in drawn],
    )


def export(folder: Path, count: int, processes: int = 1) -> None:
    """Write the first `count` training scenes as FOLDER/<coarse>/<fine>/<n>.png, and FOLDER/hierarchy.csv: an image
    folder like anybody's own. Raises ValueError where the folder holds something already.
    """
    if count < 1:
        raise ValueError(f"{count} scenes make no folder; ask for at least one with -n")
    if Path(folder).is_file():
        raise NotADirectoryError(f"{folder} is a file; name a new folder with --out")
    if Path(folder).exists() and any(Path(folder).iterdir()):
        raise ValueError(f"{folder} is not empty; name a new folder with --out")
    images = read("train", count, processes)
    groups = zip(COARSE_NAMES, FINE_NAMES, strict=True)
    classes = [(f"{coarse}/{name}", coarse, name) for coarse, names in groups for name in names]
    with atomic_write(Path(folder)) as part:
        for place, _, _ in classes:
            (part / place).mkdir(parents=True)
        for row, (coarse, fine) in enumerate(zip(images.coarse.tolist(), images.fine.tolist(), strict=True)):
            class_folder = part / COARSE_NAMES[coarse] / FINE_NAMES[coarse][fine]
            Image.fromarray(images.pixels[row].permute(1, 2, 0).numpy()).save(class_folder / f"{row:05}.png")
        with (part / "hierarchy.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(FOLDER_COLUMNS)
            writer.writerows(classes)


class Reader:
    """The scenes of a profile (see `c2f_lrp.datasets.Reader`); no folder is needed."""

    splits = SPLITS
    seeds: ClassVar[dict] = {"scenes": SPLIT_SEEDS}

    def __init__(self, profile: Profile, hierarchy: Hierarchy, root: Path | None):
        self.profile = profile

    def count(self, split: str) -> int:
        check_split(split)
        count = self.profile.train_images if split == "train" else self.profile.validation_images
        assert count is not None, f"profile {self.profile.name} does not say how many scenes to draw"
        return count

    def read(self, split: str, limit: int | None = None, processes: int = 1) -> Images:
        return read(split, limit or self.count(split), processes)

    def lazy(self, split: str, limit: int | None = None) -> LazyImages:
        return lazy(split, limit or self.count(split))

    def check(self, split: str, processes: int = 1) -> Checked:
        """Nothing lies on a disk that could be damaged: a few scenes are drawn, the others only counted."""
        read(split, 16)
        return Checked(lazy(split, self.count(split)).coarse, [])
