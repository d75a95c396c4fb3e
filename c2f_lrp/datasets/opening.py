"""Photographs as files from anywhere: which files of a folder are meant, and how one is opened, upright and cropped.

Pillow opens some forty formats and one of them, PostScript, by starting another program. Only `FORMATS` are opened
here, whatever a file is called.
"""

import os
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from tqdm.auto import tqdm

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # of the last three the first picture
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
GIVE = "give a whole JPEG, PNG, WebP, BMP, GIF or TIFF file"
LARGEST = 100_000_000  # pixels: decoded and with its transparency laid on white, a photograph takes 12 bytes for each
SLIMMEST = 32  # times as long as wide: of a longer strip only the middle is scaled
# What file managers put beside photographs. Names that begin with a dot are theirs too: .DS_Store, ._photo.jpg.
FILE_MANAGERS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir"}
# EXIF's orientation -> what makes the picture upright; 1 is upright already.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What people take for photographs that can be read, by how it begins (at this place).
OTHERS = {
    (4, b"ftyphe"): "HEIC",
    (4, b"ftypmif1"): "HEIC",
    (4, b"ftypavif"): "AVIF",
    (0, b"%!PS"): "PostScript",
    (0, b"\xc5\xd0\xd3\xc6"): "PostScript",
    (0, b"%PDF"): "PDF",
    (0, b"<svg"): "SVG",
    (0, b"<?xml"): "XML, such as SVG",
    (0, b"<!DOC"): "a web page",
    (0, b"<html"): "a web page",
    (0, b"version https://git-lfs"): "a pointer of git lfs, which git lfs pull replaces by the file",
    (0, b"8BPS"): "Photoshop",
    (0, b"\x00\x00\x00\x0cjP"): "JPEG 2000",
}


def photographs_in(folder: Path) -> tuple[list[Path], Counter]:
    """The photographs in a folder (not below it), and how many other things were passed over, by why."""
    photographs, passed_over = [], Counter()
    with os.scandir(folder) as entries:
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith(".") or entry.name.lower() in FILE_MANAGERS:
                passed_over["of a file manager, or hidden"] += 1
            elif entry.is_dir():
                passed_over["folders inside a class"] += 1
            elif not entry.is_file():
                passed_over["links to nowhere" if entry.is_symlink() else "no files (pipes, sockets, devices)"] += 1
            elif ending not in ENDINGS:
                passed_over[f"{ending} files, which are not read" if ending else "without an ending"] += 1
            else:
                photographs.append(Path(entry.path))
    return photographs, passed_over


def printable(name: str) -> str:
    """A file's name as text; bytes that are none, which Python keeps as surrogates, are spelled out: caf\\xe9.jpg."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def open_photo(path: Path) -> Image.Image:
    """A decoded image file, turned upright as its EXIF data says, or an error that names it.

    In its own mode, except that 16 bits of grey become 8 and that what is transparent becomes white. EXIF data that
    cannot be read leaves the picture as it lies in the file. Raises FileNotFoundError where there is no such file,
    ValueError where it cannot be read as a photograph or has more than `LARGEST` pixels.
    """
    path = Path(path)
    if not path.is_file():
        broken = ": it is a link to nowhere" if path.is_symlink() else ""
        raise FileNotFoundError(f"there is no photograph {path}{broken}")
    return decode(path, str(path))


def decode(file: Path | BinaryIO, name: str) -> Image.Image:
    """A decoded image, as `open_photo` gives it, of a file or its content; errors call it `name`."""
    try:
        # Pillow warns of broken EXIF data, which matters little here, and of large pictures, for which see below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                size = image.size
                if 0 < size[0] * size[1] <= LARGEST:
                    image.load()
                    upright = _upright(image)
    except Image.DecompressionBombError:
        size = None
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} cannot be read as an image ({_kind(file)}); {GIVE}") from error
    except PermissionError as error:
        raise ValueError(f"{name} cannot be opened ({error.strerror}); give yourself access to it") from error
    # Whatever a damaged header makes Pillow stumble over: of what kind the error is, is chance.
    except Exception as error:
        raise ValueError(f"{name} cannot be read as an image ({_reason(error)}); {GIVE}") from error
    if size is None or size[0] * size[1] > LARGEST:
        given = "its size" if size is None else f"{size[0]}x{size[1]}, {size[0] * size[1] / 1e6:.0f} megapixels,"
        raise ValueError(f"{name} is too large: {given} is above {LARGEST / 1e6:.0f} megapixels; scale it down first")
    if not size[0] * size[1]:
        raise ValueError(f"{name} cannot be read as an image (it is {size[0]}x{size[1]}); {GIVE}")
    return _as_eight_bits(upright, name)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says. Not by Pillow's exif_transpose, which also writes the rest of EXIF anew, or fails to."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))  # type: ignore[arg-type]
    except Exception:  # whatever broken EXIF data makes Pillow stumble over: the pixels are whole
        turn = None
    return image if turn is None else image.transpose(turn)


def _as_eight_bits(image: Image.Image, name: str) -> Image.Image:
    """8 bits a channel, what is transparent on white."""
    if image.mode == "F":
        raise ValueError(f"{name} has floating-point pixels, whose range is unknown; give 8 or 16 bits a channel")
    if image.mode == "LAB":
        raise ValueError(f"{name} has colours in CIELAB, which are not converted here; give RGB, grey or CMYK")
    if image.mode.startswith("I"):  # Pillow's own conversion would cut off at 255
        image = Image.fromarray((np.asarray(image) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image


def _kind(file: Path | BinaryIO) -> str:
    """What a file is that is no photograph, as far as its first bytes tell."""
    if hasattr(file, "read"):
        file.seek(0)  # type: ignore[union-attr]
        start = file.read(32)
    else:
        with Path(file).open("rb") as opened:
            start = opened.read(32)
    for (place, mark), kind in OTHERS.items():
        if start[place:].startswith(mark):
            return f"it holds {kind}"
    return "it holds none of the formats that are read" if start else "it is empty"


def _reason(error: Exception) -> str:
    """An error in one line; errors without words by their kind."""
    words = " ".join(str(error).split())
    return words if isinstance(error, OSError) and words else f"{type(error).__name__}{': ' * bool(words)}{words}"


def resize_and_crop(image: Image.Image, size: int) -> np.ndarray:
    """The centre of an image as RGB, uint8 (size, size, 3), after scaling its shorter side to 256/224 of size.

    An image that has the size already is taken as it is. Of a strip only the middle is scaled, as the whole would take
    as much more memory as it is longer.
    """
    if image.size == (size, size):
        return np.asarray(image.convert("RGB"))
    middle = [min(side, SLIMMEST * min(image.size)) for side in image.size]
    left, top = ((side - kept) // 2 for side, kept in zip(image.size, middle, strict=True))
    image = image.crop((left, top, left + middle[0], top + middle[1])).convert("RGB")
    (width, height), (left, top) = scaled(image.size, size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def scaled(photograph: tuple[int, int], size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The (width, height) to which a photograph is scaled, and the (left, top) corner of the crop in it."""
    if photograph == (size, size):
        return photograph, (0, 0)
    scale = size * 256 / 224 / min(photograph)
    width, height = (max(size, round(side * scale)) for side in photograph)
    return (width, height), ((width - size) // 2, (height - size) // 2)


def look_at(paths: list[Path], processes: int = 1, size: int | None = None) -> dict[Path, tuple[str | None, str]]:
    """What each photograph is: its mode ("RGB", "L", ...) and "", or None and what is wrong with it.

    Every one is decoded. size: they must have so many pixels a side.
    """
    look = partial(_look, size=size)
    with tqdm(total=len(paths), desc="opening", leave=False) as progress:
        found = {}
        if processes < 2 or len(paths) < 500:  # a pool takes a second to start
            pool, looked = None, map(look, paths)
        else:
            pool = ProcessPoolExecutor(processes)
            looked = pool.map(look, paths, chunksize=100)  # type: ignore[assignment]
        try:
            for path, what in zip(paths, looked, strict=True):
                found[path] = what
                progress.update()
        finally:
            if pool:
                pool.shutdown(cancel_futures=True)
    return found


def _look(path: Path, size: int | None) -> tuple[str | None, str]:
    try:
        image = open_photo(path) if size is None else open_of_size(path, size)
    except (ValueError, OSError) as error:
        return None, str(error)
    return image.mode, ""


def open_of_size(path: Path, size: int) -> Image.Image:
    """A photograph as `open_photo` gives it, which must be size x size."""
    image = open_photo(path)
    if image.size != (size, size):
        raise ValueError(f"{path} is {image.width}x{image.height}; photographs of this data set are {size}x{size}")
    return image
