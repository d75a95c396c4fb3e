"""Tiny ImageNet: real ImageNet photographs at 64x64 with a bounding box each.

Layout, as published: ROOT/train/<wnid>/images/<wnid>_<n>.JPEG and ROOT/train/<wnid>/<wnid>_boxes.txt. All 200
classes or only the hierarchy's may be there. The published validation folder is not used: like the paper, the
training photographs are split 80/20.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from c2f_lrp.datasets import Images, stack
from c2f_lrp.datasets.imagenet import open_photo
from c2f_lrp.datasets.splits import select
from c2f_lrp.hierarchy import Hierarchy

SIZE = 64


def read(root: Path, hierarchy: Hierarchy, split: str, limit: int | None = None) -> Images:
    """The photographs of one split, in the order of their hash, pixels uint8; at most `limit` of them.

    "evaluation" takes RGB photographs only, as the paper does; the other splits read every kind as RGB.
    Raises FileNotFoundError where the layout is another one, ValueError where a photograph is damaged.
    """
    train = check_root(root, hierarchy)
    names = [path.name for ids in hierarchy.ids for wnid in ids for path in (train / wnid / "images").iterdir()]
    boxes = {wnid: read_boxes(train / wnid / f"{wnid}_boxes.txt") for ids in hierarchy.ids for wnid in ids}
    rows: list[tuple] = []
    for name in tqdm(select(names, split), desc=f"reading {split} photographs", leave=False):
        if limit is not None and len(rows) == limit:
            break
        wnid = name.split("_")[0]
        with open_image(train / wnid / "images" / name) as image:
            if split == "evaluation" and image.mode != "RGB":
                continue
            pixels = np.asarray(image.convert("RGB"))
        rows.append((pixels, *hierarchy.locate(wnid), box_mask(boxes[wnid].get(name)), name))
    if not rows:
        rgb = " in RGB, which evaluation takes alone" if split == "evaluation" else ""
        raise ValueError(f"{train} holds no {split} photographs of the hierarchy's classes{rgb}")
    pixels, coarse, fine, masks, names = zip(*rows, strict=True)
    return stack(pixels, coarse, fine, masks, names)


def check_root(root: Path | None, hierarchy: Hierarchy) -> Path:
    """The folder ROOT/train, or an error that says which of the hierarchy's class folders are missing."""
    if root is None:
        raise ValueError("the profile tiny-imagenet reads photographs: give their folder with --root (or root=...)")
    train = Path(root) / "train"
    wnids = [wnid for ids in hierarchy.ids for wnid in ids]
    missing = [wnid for wnid in wnids if not (train / wnid / "images").is_dir()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(wnids)} class folders are missing under {train}, such as "
            f"{missing[0]}/images; --root must be the unpacked tiny-imagenet-200 folder"
        )
    return train


def open_image(path: Path) -> Image.Image:
    """The decoded photograph in its own mode, 64x64."""
    image = open_photo(path)
    if image.size != (SIZE, SIZE):
        raise ValueError(f"{path} is {image.width}x{image.height}; Tiny ImageNet's photographs are {SIZE}x{SIZE}")
    return image


def read_boxes(path: Path) -> dict[str, tuple[int, int, int, int]]:
    """File name -> (x0, y0, x1, y1), corners included; empty where the class has no box file."""
    if not path.is_file():
        return {}
    boxes = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        name, *corners = line.split("\t")
        if len(corners) != 4 or not all(corner.isdigit() for corner in corners):
            raise ValueError(f"{path}, line {number}: {line!r} must be a file name and four whole numbers")
        boxes[name] = tuple(map(int, corners))
    return boxes


def box_mask(box: tuple[int, int, int, int] | None) -> np.ndarray:
    """Bool (64, 64), True inside the box; all True where no box is known."""
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    x0, y0, x1, y1 = box or (0, 0, SIZE - 1, SIZE - 1)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask
