"""ILSVRC2012's training photographs, ROOT/train/<wnid>/*.JPEG, and single photographs of any kind.

Only photographs that are asked for are read, so `limit` keeps the first ones of a split quick. Photographs are scaled
to a shorter side of 256/224 of the network's size and their centre is taken, the usual ImageNet preprocessing.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from c2f_lrp.datasets import Images, stack
from c2f_lrp.datasets.splits import select
from c2f_lrp.hierarchy import Hierarchy

ENDINGS = (".jpeg", ".jpg", ".png")


def read(root: Path | None, hierarchy: Hierarchy, split: str, size: int, limit: int | None = None) -> Images:
    """Photographs of one split at size x size, pixels uint8, in the order of their hash; at most `limit`.

    Class folders may be all 1000, the 393 of the hierarchy or fewer; those outside the hierarchy are left alone.
    "evaluation" takes RGB photographs only, as the paper does. No masks: ImageNet's boxes are published separately.
    """
    if root is None:
        raise ValueError("the profile imagenet reads photographs: give their folder with --root (or root=...)")
    train = Path(root) / "train"
    wnids = [wnid for ids in hierarchy.ids for wnid in ids if (train / wnid).is_dir()]
    if not wnids:
        raise FileNotFoundError(f"{train} has no class folder such as {hierarchy.ids[0][0]}; --root must hold train/")
    files = [path for wnid in wnids for path in (train / wnid).iterdir() if path.suffix.lower() in ENDINGS]
    paths = {f"{path.parent.name}/{path.name}": path for path in files}
    rows: list[tuple] = []
    for name in tqdm(select(list(paths), split), desc=f"reading {split} photographs", leave=False):
        if limit is not None and len(rows) == limit:
            break
        image = open_photo(paths[name])
        if split == "evaluation" and image.mode != "RGB":
            continue
        rows.append((fit(image, size), *hierarchy.locate(paths[name].parent.name), name))
    if not rows:
        raise ValueError(f"{train} holds no {split} photographs of the hierarchy's classes")
    pixels, coarse, fine, names = zip(*rows, strict=True)
    return stack(pixels, coarse, fine, None, names)


def open_photo(path: Path) -> Image.Image:
    """A decoded image file, turned upright as its EXIF data says, or an error that names it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no photograph {path}")
    try:
        image = Image.open(path)
        image.load()
        image = ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); give a whole JPEG or PNG file") from error
    return image


def fit(image: Image.Image, size: int) -> np.ndarray:
    """The centre of an image as RGB, uint8 (size, size, 3), after scaling its shorter side to 256/224 of size.

    An image that has the size already is taken as it is.
    """
    image = image.convert("RGB")
    if image.size == (size, size):
        return np.asarray(image)
    scale = size * 256 / 224 / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))
