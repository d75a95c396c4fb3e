"""Bad input, one row for each thing that can be wrong: one clear message, exit code 1, and nothing half-written.

A row of COMMANDS is what a user types, with the error and perhaps lines that are printed before it; a row of CALLS is
what a user's script does. Add one for everything new that can be refused. `at` is the bench below; in a message `{at}`
is its folder and `...` stands for anything. Elsewhere:
schedulers that do not answer or run another version (test_cluster.py), manifests line by line (test_hierarchy.py), each
setting of every attack (test_attacks.py).
"""

import copy
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import struct
import tarfile
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import c2f_lrp
from c2f_lrp import checkpoints, cli, evaluation, metrics, panels, paths, provenance, reproduce, training
from c2f_lrp.attacks import DFC, LRPC, LRPF, PGDC
from c2f_lrp.classifier import Classifier, CoarseToFine
from c2f_lrp.datasets import Images, imagenet, scenes, splits
from c2f_lrp.download import extract
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.lrp import LRP
from c2f_lrp.networks import save_network, vgg16
from c2f_lrp.profiles import get_profile

HIERARCHY = get_profile("tiny-imagenet").hierarchy()
WNIDS = [wnid for ids in HIERARCHY.ids for wnid in ids]
FIRST = WNIDS[0]
FULL = get_profile("imagenet").hierarchy().ids[0][0]


class Bench:
    """What rows spoil: folders of photographs, single photographs, weights, figures; all below one folder."""

    def __init__(self, folder: Path, clf, images):
        self.folder, self.clf, self.images = folder, clf, images

    def write(self, name: str, content: bytes | str = b"") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def photo(self, name="photo.jpg", size=(90, 70)) -> Path:
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG")
        return self.write(name, content.getvalue())

    def tiny(self, first: bytes | None = None, mode: str = "RGB", boxes: str = "", without: str = "") -> Path:
        """A folder in Tiny ImageNet's layout.

        first: what one of its training photographs holds instead; boxes: the box file of that class; without: a pattern
        of what is missing.
        """
        contents = []
        for shade in (50, 200):
            file = io.BytesIO()
            Image.new(mode, (64, 64), shade if mode == "L" else (shade, 99, 20)).save(file, "JPEG")
            contents.append(file.getvalue())
        for wnid in WNIDS:
            for n, content in enumerate(contents):
                self.write(f"tiny/train/{wnid}/images/{wnid}_{n}.JPEG", content)
        if first is not None:
            name = next(name for n in range(99) if splits.position(name := f"{FIRST}_{n}.JPEG") < 0.8)
            self.write(f"tiny/train/{FIRST}/images/{name}", first)
        self.write(f"tiny/train/{FIRST}/{FIRST}_boxes.txt", boxes)
        return self.less("tiny", without)

    def own(self, csv: bytes | str = "folder,coarse\na,x\nb,y\n", **files: bytes) -> str:
        """data check of the profile folder with two classes of eight photographs, and of these files beside them."""
        for n in range(16):
            self.photo(f"own/{'ab'[n % 2]}/{n}.jpg", size=(20, 20))
        for name, content in files.items():
            self.write(f"own/a/{name.replace('_', '.')}", content)
        table = self.write("own.csv", csv)
        return f"data check --profile folder --root {self.folder}/own --hierarchy {table}"

    def link(self, name: str) -> Path:
        (self.folder / name).symlink_to(self.folder / "nowhere")
        return self.folder / name

    def pipe(self, name: str) -> Path:
        os.mkfifo(self.folder / name)
        return self.folder / name

    def held(self, name: str) -> None:
        """A lock in the folder of executed notebooks, as another run holds it."""
        self.lock = self.write(f"runs/scenes/notebooks/.{name}.lock").open("a")
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def full_size(self, content: bytes) -> Path:
        """A folder in ILSVRC2012's layout with one photograph that holds `content` among whole ones."""
        for n in range(5):
            self.photo(f"full/train/{FULL}/{n}.JPEG")
        self.write(f"full/train/{FULL}/0.JPEG", content)
        return self.folder / "full"

    def less(self, folder: str, without: str) -> Path:
        for path in list((self.folder / folder).rglob(without)) if without else []:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.folder / folder

    def weights(self, coarse: bytes | None = None, recorded: bool = True, without: str = "") -> Path:
        """The shipped scenes weights; coarse: what that network's file holds instead, its checksum recorded or not."""
        folder = self.folder / "weights"
        shutil.copytree(get_profile("scenes").weights, folder)
        rows = checkpoints.read_checkpoints(checkpoints.checkpoints_table(get_profile("scenes")), "scenes")
        if coarse is not None:
            (folder / "coarse.safetensors").write_bytes(coarse)
            if recorded:
                rows[0]["sha256"] = hashlib.sha256(coarse).hexdigest()
        checkpoints.write_checkpoints(folder / "checkpoints.csv", "scenes", rows)
        return self.less("weights", without)

    def network(self, **settings) -> bytes:
        path = self.folder / "network"
        save_network(vgg16(**dict(n_classes=8, width=2, hidden=8, image_size=64) | settings), path)
        content = path.read_bytes()
        path.unlink()
        return content

    def table(self) -> Path:
        provenance.save_table(pd.DataFrame({"a": [1.25]}), "table_9", "scenes", {}, self.folder / "figures")
        return self.folder / "figures" / "scenes"

    def archive(self, *members) -> Path:
        """A tar archive of names (of small files) and of links (name, target)."""
        path = self.folder / "photos.tar"
        with tarfile.open(path, "w") as archive:
            for member in members:
                information = tarfile.TarInfo(member if isinstance(member, str) else member[0])
                if isinstance(member, str):
                    information.size = 4
                else:
                    information.type, information.linkname = tarfile.SYMTYPE, member[1]
                archive.addfile(information, io.BytesIO(b"data"))
        return path

    def nested(self, archive: Path) -> Path:
        """An archive in ILSVRC2012's layout with one class, which is `archive`."""
        path = self.folder / "all.tar"
        with tarfile.open(path, "w") as outer:
            outer.add(archive, f"{FULL}.tar")
        archive.unlink()
        return path


@pytest.fixture
def at(tmp_path, monkeypatch, clf, images):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("C2F_LRP_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setattr(reproduce, "runs_folder", lambda profile: tmp_path / "runs" / profile)
    names = tuple(f"image {n}" for n in range(len(images.pixels)))
    return Bench(tmp_path, clf, Images(images.pixels, images.coarse, images.fine, None, None, None, names))


def truncated(path: Path) -> bytes:
    return half(path.read_bytes())


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def pickled() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, file)
    return file.getvalue()


def picture(mode: str, ending: str, size=(64, 64)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, ending)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """One of the parts that a PNG file is made of."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes) -> bytes:
    """A PNG file that says it has this size and holds nothing but `more`."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *more, chunk(b"IEND", b"")])


def altered(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


CHECK = "data check --profile tiny-imagenet --root"
GIVE = "give a whole JPEG, PNG, WebP, BMP, GIF or TIFF file"
FOREIGN = (  # what a file called photo.jpg holds, what the refusal calls it, and how the file begins
    ("PostScript", "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0"),
    ("PostScript with a preview", "PostScript", b"\xc5\xd0\xd3\xc6" + bytes(40)),
    ("HEIC", "HEIC", b"\0\0\0\x18ftypheic" + bytes(40)),
    ("AVIF", "AVIF", b"\0\0\0\x18ftypavif" + bytes(40)),
    ("PDF", "PDF", b"%PDF-1.7"),
    ("SVG", "SVG", '<svg width="9"/>'),
    ("a web page", "a web page", "<!DOCTYPE html>"),
    ("a pointer", "a pointer of git lfs, ...", "version https://git-lfs.github.com/spec/v1"),
    ("Photoshop", "Photoshop", b"8BPS" + bytes(40)),
    ("JPEG 2000", "JPEG 2000", b"\0\0\0\x0cjP  " + bytes(40)),
)
NOT_READ = "cannot be read as an image (...)"
WRONG = "what is listed above is wrong ({}); mend, replace or remove it"
TINY = "--root must be the unpacked tiny-imagenet-200 folder"
OTHER_WEIGHTS = (
    "{at}/weights/coarse.safetensors has SHA-256 ..., but ... is recorded for it; the file is damaged or not the one "
    "recorded: restore it, or train again with c2f-lrp train"
)
NO_WEIGHTS = (
    "{at}/weights/coarse.safetensors is not a safetensors file written by c2f-lrp train (...); "
    "weights are never read from pickles"
)
LATIN_1 = "profile,Größe".encode("latin-1")
CUT_ROW = ",".join(checkpoints.CHECKPOINT_COLUMNS) + "\nscenes,co"
PROFILES = "choose one of " + ", ".join(c2f_lrp.PROFILES)

COMMANDS = {
    # ------------------------------------------------------------------------------------- folders of photographs
    "no root": (
        lambda at: "reproduce --profile tiny-imagenet",
        "profile tiny-imagenet reads photographs; give their folder with --root",
    ),
    "a root for drawn images": (
        lambda at: f"reproduce --root {at.folder}",
        "the profile scenes draws its images; leave out --root, or choose a --profile of photographs: ...",
    ),
    "a root for drawn images in training": (
        lambda at: f"train --profile scenes --root {at.folder} --out {at.folder}/mine",
        "the profile scenes draws its images; leave out --root, or choose a --profile of photographs: ...",
    ),
    "a root for drawn images to check": (
        lambda at: f"data check --profile scenes --root {at.folder}",
        "the profile scenes draws its images; leave out --root, or choose a --profile of photographs: ...",
    ),
    "a book in a file": (
        lambda at: f"book --out {at.write('book', 'x')}",
        "{at}/book cannot be written to (File exists); name another folder with --out",
    ),
    "weights that are not there": (
        lambda at: f"data weights --file {at.folder}/nowhere.pth --out {at.folder}/mine",
        "there is no file {at}/nowhere.pth; give a copy of torchvision's vgg16-..., or leave it out",
    ),
    "no root to check": (
        lambda at: "data check --profile tiny-imagenet",
        "the profile tiny-imagenet reads photographs: give their folder with --root (or root=...)",
    ),
    "root missing": (
        lambda at: f"{CHECK} {at.folder}/nowhere",
        f"54 of 54 class folders are missing under {{at}}/nowhere/train, such as {FIRST}/images; {TINY}",
    ),
    "root is a file": (
        lambda at: f"{CHECK} {at.write('file')}",
        f"54 of 54 class folders are missing under {{at}}/file/train, such as {FIRST}/images; {TINY}",
    ),
    "photographs without class folders": (
        lambda at: f"{CHECK} {at.photo('flat/train/one.JPEG').parent.parent}",
        f"54 of 54 class folders are missing under {{at}}/flat/train, such as {FIRST}/images; {TINY}",
    ),
    "one class folder missing": (
        lambda at: f"{CHECK} {at.tiny(without=FIRST)}",
        WRONG.format(1),
        f"{{at}}/tiny/train/{FIRST}/images is missing, the folder of a class",
    ),
    "one class folder missing to reproduce": (
        lambda at: f"train --profile tiny-imagenet --out {at.folder}/mine --root {at.tiny(without=FIRST)}",
        f"1 of 54 class folders are missing under {{at}}/tiny/train, such as {FIRST}/images; {TINY}",
    ),
    "unknown wnid": (
        lambda at: f"data check --profile imagenet --root {at.photo('all/train/n99999999/a.JPEG').parents[2]}",
        "{at}/all/train has no class folder such as n01440764; --root must hold them, or train/ with them",
    ),
    "no photograph": (
        lambda at: f"{CHECK} {at.tiny(without='*.JPEG')}",
        WRONG.format(3),
        "there are no train photographs of the hierarchy's classes",
    ),
    "grey photographs only": (
        lambda at: f"{CHECK} {at.tiny(mode='L')}",
        WRONG.format(1),
        "there are no evaluation photographs of the hierarchy's classes",
    ),
    "zero bytes": (
        lambda at: f"{CHECK} {at.tiny(b'')}",
        WRONG.format(1),
        f"{{at}}/tiny/train/{FIRST}/images/... {NOT_READ}; {GIVE}",
    ),
    "truncated": (
        lambda at: f"{CHECK} {at.tiny(truncated(at.photo(size=(64, 64))))}",
        WRONG.format(1),
        f"{{at}}/tiny/train/{FIRST}/images/... {NOT_READ}; {GIVE}",
    ),
    "no image": (
        lambda at: f"{CHECK} {at.tiny(b'hello')}",
        WRONG.format(1),
        f"{{at}}/tiny/train/{FIRST}/images/... {NOT_READ}; {GIVE}",
    ),
    "wrong size": (
        lambda at: f"{CHECK} {at.tiny(picture('RGB', 'JPEG', (32, 32)))}",
        WRONG.format(1),
        f"{{at}}/tiny/train/{FIRST}/images/... is 32x32; photographs of this data set are 64x64",
    ),
    "box file of words": (
        lambda at: f"{CHECK} {at.tiny(boxes='a b c d e')}",
        WRONG.format(1),
        f"{{at}}/tiny/train/{FIRST}/{FIRST}_boxes.txt, line 1: 'a b c d e' must be a file name and four whole numbers",
    ),
    "full-size photograph truncated": (
        lambda at: f"data check --profile imagenet --root {at.full_size(truncated(at.photo()))}",
        WRONG.format(1),
        f"{{at}}/full/train/{FULL}/0.JPEG {NOT_READ}; {GIVE}",
    ),
    "archive that is none": (
        lambda at: f"data extract {at.write('all.tar', 'no archive')} --root {at.folder}/data",
        "{at}/all.tar cannot be unpacked (...); give all of ILSVRC2012_img_train.tar",
    ),
    "archive of other things": (
        lambda at: f"data extract {at.archive('a', 'b')} --root {at.folder}/data",
        f"{{at}}/photos.tar holds none of the 393 classes, such as {FULL}.tar",
    ),
    "archive in an archive with ..": (
        lambda at: f"data extract {at.nested(at.archive('a.JPEG', '../evil'))} --root {at.folder}/data",
        f"{{at}}/all.tar, member {FULL}.tar: its member '../evil' has '..' in its place; nothing was unpacked, get it "
        "from its publisher",
    ),
    # --------------------------------------------------------------- classes of one's own, and tables from spreadsheets
    "csv in UTF-16": (
        lambda at: at.own("folder,coarse\na,x\nb,y\n".encode("utf-16")),
        "{at}/own.csv, line 1: the file is in UTF-16; save it as CSV UTF-8",
    ),
    "csv in UTF-16, big-endian": (
        lambda at: at.own(b"\xfe\xff" + "folder,coarse\na,x\nb,y\n".encode("utf-16-be")),
        "{at}/own.csv, line 1: the file is in UTF-16; save it as CSV UTF-8",
    ),
    "csv in UTF-16 without a mark": (
        lambda at: at.own("folder,coarse\na,x\nb,y\n".encode("utf-16-le")),
        "{at}/own.csv, line 1: there is a zero byte, as in no text; save it as CSV UTF-8",
    ),
    "csv in Latin-1": (
        lambda at: at.own("folder,coarse\na,x\nb,fähre\n".encode("latin-1")),
        "{at}/own.csv, line 3: byte 0xe4 is not UTF-8, but perhaps Latin-1; save it as CSV UTF-8",
    ),
    "csv with a zero byte": (
        lambda at: at.own("folder,coarse\na,x\nb,y\0\n"),
        "{at}/own.csv, line 3: there is a zero byte, as in no text; save it as CSV UTF-8",
    ),
    "csv with a quote that does not end": (
        lambda at: at.own('folder,coarse\na,x\n"b,y\nc,z\n'),
        "{at}/own.csv, line 3: unexpected end of data, in the row that begins here; look for its quotes",
    ),
    "csv with a quote that ends too late": (
        lambda at: at.own('folder,coarse\na,x\n"b' + "b,y\n" * 40_000 + '",y\n'),
        "{at}/own.csv, line 3: field larger than field limit (131072), in the row that begins here; ...",
    ),
    "csv with a quote inside a cell": (
        lambda at: at.own('folder,coarse\n"a"a,x\nb,y\n'),
        "{at}/own.csv, line 2: ',' expected after '\"', in the row that begins here; look for its quotes",
    ),
    "csv with semicolons": (
        lambda at: at.own("folder;coarse\na;x\nb;y\n"),
        "{at}/own.csv, line 1: columns folder;coarse: must be folder,coarse, each once (missing: folder, coarse; ...",
    ),
    "csv that is empty": (
        lambda at: at.own(""),
        "{at}/own.csv, line 1: columns (none): must be folder,coarse, each once (missing: folder, coarse; extra: none)",
    ),
    "csv with a cell too many": (
        lambda at: at.own("folder,coarse\na,x\nb,y,z\n"),
        "{at}/own.csv, line 3: 3 cells, must be 2: folder,coarse",
    ),
    "no csv": (
        lambda at: f"data check --profile folder --root {at.folder} --hierarchy {at.folder}/nowhere.csv",
        "there is no table {at}/nowhere.csv",
    ),
    "csv that is a folder": (
        lambda at: f"data check --profile folder --root {at.folder} --hierarchy {at.folder}",
        "there is no table {at}",
    ),
    "csv for another profile": (
        lambda at: f"data check --profile scenes --hierarchy {at.write('own.csv')}",
        "--hierarchy goes with the profile folder; scenes has its own classes",
    ),
    "two coarse classes, one file": (
        lambda at: at.own("folder,coarse\na,big cat\nb,big_cat\n"),
        "{at}/own.csv, line 3: coarse 'big_cat' would name the same file of weights as 'big cat' on line 2",
    ),
    "two coarse classes, one file on some disks": (
        lambda at: at.own("folder,coarse\na,Cat\nb,cat\n"),
        "{at}/own.csv, line 3: coarse 'cat' would name the same file of weights as 'Cat' on line 2",
    ),
    "two coarse classes that look the same": (
        lambda at: at.own("folder,coarse\na,k\u00e4fer\nb,ka\u0308fer\n"),
        "{at}/own.csv, line 3: coarse ... would name the same file of weights as 'käfer' on line 2",
    ),
    "a coarse class with a slash": (
        lambda at: at.own("folder,coarse\na,x/y\nb,y\n"),
        "{at}/own.csv, line 2: coarse 'x/y' must consist of letters, digits, spaces, - and _",
    ),
    "a coarse class with a slash in a whole manifest": (
        lambda at: at.own("wnid,class_index,name,coarse,fine_index\n../x/a,0,a,../x,0\n"),
        "{at}/own.csv, line 2: coarse '../x' must consist of letters, digits, spaces, - and _",
    ),
    "a coarse class of signs": (
        lambda at: at.own("folder,coarse\na,🐕\nb,y\n"),
        "{at}/own.csv, line 2: coarse '🐕' must consist of letters, digits, spaces, - and _",
    ),
    "a coarse class of many letters": (
        lambda at: at.own("folder,coarse\na," + "猫" * 70 + "\nb,y\n"),
        "{at}/own.csv, line 2: coarse '...'... has 210 bytes, at most 200",
    ),
    "two class folders missing": (
        lambda at: at.own("folder,coarse\na,x\nb,y\nc,y\nd/e,y\n"),
        WRONG.format(2),
        "{at}/own/c is missing, the folder of a class",
        "{at}/own/d/e is missing, the folder of a class",
    ),
    "four photographs wrong, each in its way": (
        lambda at: at.own(**{"x_jpg": b"", "y_jpg": b"%!PS-Adobe", "z_png": png(9, 9), "v_gif": png(1, 1)[:9]}),
        WRONG.format(4),
        f"{{at}}/own/a/x.jpg cannot be read as an image (it is empty); {GIVE}",
        f"{{at}}/own/a/y.jpg cannot be read as an image (it holds PostScript); {GIVE}",
        f"{{at}}/own/a/z.png {NOT_READ}; {GIVE}",
        f"{{at}}/own/a/v.gif {NOT_READ}; {GIVE}",
    ),
    "one photograph wrong, others passed over": (
        lambda at: at.own(**{"x_jpg": b"", "y_heic": b"1", "z_heic": b"2", "_DS": b"", "Thumbs_db": b"", "v": b""}),
        WRONG.format(1),
        "  2 .heic files, which are not read",
        "  2 of a file manager, or hidden",
        "  1 without an ending",
    ),
    "photographs of no class": (
        lambda at: at.own("folder,coarse\nb/c,x\nb/d,y\n"),
        "{at}/own has no class folder such as b/c",
    ),
    "every kind of trouble in Tiny ImageNet": (
        lambda at: f"{CHECK} {at.tiny(b'hello', boxes='a b', without=WNIDS[-1])}",
        WRONG.format(3),
        f"{{at}}/tiny/train/{WNIDS[-1]}/images is missing, the folder of a class",
        f"{{at}}/tiny/train/{FIRST}/{FIRST}_boxes.txt, line 1: 'a b' must be a file name and four whole numbers",
        f"{{at}}/tiny/train/{FIRST}/images/... {NOT_READ}; {GIVE}",
    ),
    # ------------------------------------------------------------------------------------------ single photographs
    "photo missing": (lambda at: "attack nowhere.jpg --profile scenes", "there is no photograph nowhere.jpg"),
    "photo is a folder": (lambda at: f"attack {at.folder} --profile scenes", "there is no photograph {at}"),
    "photo of zero bytes": (
        lambda at: f"attack {at.write('empty.jpg')} --profile scenes",
        f"{{at}}/empty.jpg {NOT_READ}; {GIVE}",
    ),
    "photo truncated": (
        lambda at: f"attack {at.write('half.jpg', truncated(at.photo()))} --profile scenes",
        f"{{at}}/half.jpg {NOT_READ}; {GIVE}",
    ),
    "photo of floats": (
        lambda at: f"attack {at.write('depth.tif', picture('F', 'TIFF'))} --profile scenes",
        "{at}/depth.tif has floating-point pixels, whose range is unknown; give 8 or 16 bits a channel",
    ),
    "photo in a name that is too long": (
        lambda at: f"attack {'x' * 300}.jpg --profile scenes",
        "...File name too long...",
    ),
    "photo that a link no longer leads to": (
        lambda at: f"attack {at.link('photo.jpg')} --profile scenes",
        "there is no photograph {at}/photo.jpg: it is a link to nowhere",
    ),
    "photo that is a pipe": (
        lambda at: f"attack {at.pipe('photo.jpg')} --profile scenes",
        "there is no photograph {at}/photo.jpg",
    ),
    "photo too large": (
        lambda at: f"attack {at.write('photo.png', png(12_000, 10_000))} --profile scenes",
        "{at}/photo.png is too large: 12000x10000, 120 megapixels, is above 100 megapixels; scale it down first",
    ),
    "photo of one class only, attacked at the fine level, and then one that is none": (
        lambda at: f"attack {at.write('photo.jpg', b'GIF89a')} --profile scenes --attack lrpf",
        f"{{at}}/photo.jpg {NOT_READ}; {GIVE}",
    ),
    # ----------------------------------------------------------------------------------------------------- weights
    "checkpoints.csv in Latin-1": (
        lambda at: (
            f"attack {at.photo()} --profile scenes --weights {at.write('weights/checkpoints.csv', LATIN_1).parent}"
        ),
        "{at}/weights/checkpoints.csv, line 1: byte 0xf6 is not UTF-8, but perhaps Latin-1; save it as CSV UTF-8",
    ),
    "checkpoints.csv with a row cut short": (
        lambda at: (
            f"attack {at.photo()} --profile scenes --weights {at.write('weights/checkpoints.csv', CUT_ROW).parent}"
        ),
        "{at}/weights/checkpoints.csv, line 2: 2 cells, must be 13: profile,network,...",
    ),
    "weights missing": (
        lambda at: f"attack {at.photo()} --profile scenes --weights {at.folder}/nowhere",
        "{at}/nowhere/checkpoints.csv records no ... network of scenes; run: c2f-lrp train --profile scenes...",
    ),
    "weights of another profile": (
        lambda at: f"attack {at.photo()} --profile tiny-imagenet --weights {at.weights()}",
        "{at}/weights/checkpoints.csv records no ... network of tiny-imagenet; run: c2f-lrp train --profile tiny-...",
    ),
    "weights truncated": (
        lambda at: f"attack {at.photo()} --profile scenes --weights {at.weights(at.network()[:9000], recorded=False)}",
        OTHER_WEIGHTS,
    ),
    "weights of another network": (
        lambda at: f"attack {at.photo()} --profile scenes --weights {at.weights(at.network(), recorded=False)}",
        OTHER_WEIGHTS,
    ),
    "weights truncated before they were recorded": (
        lambda at: f"attack {at.photo()} --profile scenes --weights {at.weights(at.network()[:9000])}",
        NO_WEIGHTS,
    ),
    "weights in a pickle": (
        lambda at: f"attack {at.photo()} --profile scenes --weights {at.weights(pickled())}",
        NO_WEIGHTS,
    ),
    "weights of other classes": (
        lambda at: f"attack {at.photo()} --profile scenes --weights {at.weights(at.network(n_classes=5))}",
        "the coarse network has 5 outputs; the hierarchy has 8 classes: train it anew",
    ),
    "weights of another size": (
        lambda at: f"attack {at.photo()} --profile scenes --weights {at.weights(at.network(image_size=32))}",
        "pixels are 64x64; this network takes 32x32: scale the images first",
    ),
    "weights recorded but gone": (
        lambda at: f"attack {at.photo()} --profile scenes --weights {at.weights(without='fine_dog*')}",
        "no weights at {at}/weights/fine_dog.safetensors; train them with: c2f-lrp train...",
    ),
    "checkpoints.csv of something else": (
        lambda at: (
            f"attack {at.photo()} --profile scenes --weights {at.write('weights/checkpoints.csv', 'a,b').parent}"
        ),
        "{at}/weights/checkpoints.csv has no column profile, network, ...; give a table that c2f-lrp train wrote",
    ),
    "pretrained weights that are others": (
        lambda at: f"data weights --file {at.write('vgg16.pth', pickled())} --out {at.folder}/mine",
        "{at}/vgg16.pth has SHA-256 ..., but vgg16-397923af.pth has 397923af...; give an unaltered copy of it",
    ),
    "pretrained weights missing": (
        lambda at: f"train --profile imagenet --root {at.folder} --pretrained {at.folder} --out {at.folder}/mine",
        "there is no {at}/flat.safetensors to start from; fetch it with: c2f-lrp data weights",
    ),
    # ------------------------------------------------------------------------------------- names, numbers, places
    "unknown profile": (lambda at: "reproduce --profile cifar", f"profile 'cifar' is unknown; {PROFILES}"),
    "unknown profile to train": (lambda at: "train --profile cifar", f"profile 'cifar' is unknown; {PROFILES}"),
    "unknown profile to check": (lambda at: "data check --profile cifar", f"profile 'cifar' is unknown; {PROFILES}"),
    "unknown notebook": (
        lambda at: "reproduce --only table_9",
        "notebook table_9 is unknown; choose from ..., 07_table_1, ...",
    ),
    "unknown parameter": (
        lambda at: "reproduce -p epsilon 3",
        "parameter epsilon is unknown; the chosen notebooks have ...epsilons, ...",
    ),
    "parameter of another notebook": (
        lambda at: "reproduce --only figure_1 -p lr 3",
        "parameter lr is unknown; the chosen notebooks have coarse_adv, coarse_org, epsilons, iterations, n_images, "
        "tried",
    ),
    "parameter that is no YAML": (
        lambda at: "reproduce -p epsilons [10",
        "parameter epsilons: '[10' is not YAML, such as 3, word or '[10, 20]'",
    ),
    "a word for a number": (
        lambda at: "reproduce --only table_1 -p n_images many",
        "parameter n_images is 'many'; 07_table_1 takes a whole number above 0, such as 64",
    ),
    "no images asked for": (
        lambda at: "reproduce --only table_1 -p n_images 0",
        "parameter n_images is 0; 07_table_1 takes a whole number above 0, such as 64",
    ),
    "fewer than no images": (
        lambda at: "reproduce --only table_1 -p n_images -3",
        "parameter n_images is -3; 07_table_1 takes a whole number above 0, such as 64",
    ),
    "half an image": (
        lambda at: "reproduce --only table_1 -p n_images 2.5",
        "parameter n_images is 2.5; 07_table_1 takes a whole number above 0, such as 64",
    ),
    "truth for a number": (
        lambda at: "reproduce --only table_1 -p n_images yes",
        "parameter n_images is True; 07_table_1 takes a whole number above 0, such as 64",
    ),
    "a list for a number": (
        lambda at: "reproduce --only table_1 -p iterations [40]",
        "parameter iterations is [40]; 07_table_1 takes a whole number above 0, such as 40",
    ),
    "a word for a rate": (
        lambda at: "reproduce --only table_1 -p lr fast",
        "parameter lr is 'fast'; 07_table_1 takes a number, such as 10.0",
    ),
    "nothing for a rate": (
        lambda at: "reproduce --only table_1 -p lr null",
        "parameter lr is None; 07_table_1 takes a number, such as 10.0",
    ),
    "a number for a list": (
        lambda at: "reproduce --only table_1 -p epsilons 10",
        "parameter epsilons is 10; 07_table_1 takes a list of such values, such as [10, 20, 40]",
    ),
    "an empty list": (
        lambda at: "reproduce --only table_1 -p epsilons []",
        "parameter epsilons is []; 07_table_1 takes a list of such values, such as [10, 20, 40]",
    ),
    "a list of words": (
        lambda at: "reproduce --only table_1 -p epsilons [a]",
        "parameter epsilons is ['a']; 07_table_1 takes a list of such values, such as [10, 20, 40]",
    ),
    "a table for a list": (
        lambda at: "reproduce --only table_1 -p epsilons {a:1}",
        "parameter epsilons is {'a:1': None}; 07_table_1 takes a list of such values, such as [10, 20, 40]",
    ),
    "a number for a word": (
        lambda at: "reproduce --only table_1 -p step_scale 3",
        "parameter step_scale is 3; 07_table_1 takes a word (...), such as 'normalized'",
    ),
    "a date for a word": (
        lambda at: "reproduce --only table_1 -p step_scale 2024-01-01",
        "parameter step_scale is datetime.date(2024, 1, 1); 07_table_1 takes a word (...), such as 'normalized'",
    ),
    "truth for a norm": (
        lambda at: "reproduce --only table_1 -p p yes",
        "parameter p is True; 07_table_1 takes a number, such as 1",
    ),
    "a class that YAML takes for truth": (
        lambda at: "reproduce --only figure_1 -p coarse_org no",
        "parameter coarse_org is False; 05_figure_1 takes a word (...), such as 'vehicle'",
    ),
    "notebooks cannot be written": (
        lambda at: f"reproduce --only table_1 --out {at.folder}/figures {at.write('runs') and ''}",
        "{at}/runs/scenes/notebooks cannot be written to (Not a directory); name another folder with the environment "
        "variable C2F_LRP_RUNS",
    ),
    "another run of the notebook": (
        lambda at: f"reproduce --only hierarchy_and_data {at.held('01_hierarchy_and_data') or ''}",
        "another run is at 01_hierarchy_and_data of scenes (it holds {at}/runs/scenes/notebooks/.01_hierarchy_and_data"
        ".lock); wait until it ends, or use other folders",
    ),
    "unknown attack": (
        lambda at: f"attack {at.photo()} --profile scenes --attack fgsm",
        "attack 'fgsm' is unknown; choose one of lrpc, lrpf, pgdc, pgdf, dfc, dff, marginc, marginf",
    ),
    "eps of zero": (
        lambda at: f"attack {at.photo()} --profile scenes --eps 10 0",
        "eps is 0.0; give a bound in pixel units above 0, such as 10 on the 0..255 scale",
    ),
    "eps below zero": (
        lambda at: f"attack {at.photo()} --profile scenes --attack pgdc --eps -1",
        "eps is -1.0; give a bound in pixel units above 0, such as 10 on the 0..255 scale",
    ),
    "eps that is no number": (
        lambda at: f"attack {at.photo()} --profile scenes --eps nan",
        "eps is nan; give a bound in pixel units above 0, such as 10 on the 0..255 scale",
    ),
    "eps without end": (
        lambda at: f"attack {at.photo()} --profile scenes --eps inf",
        "eps is inf; give a bound in pixel units above 0, such as 10 on the 0..255 scale",
    ),
    "eps for DeepFool": (
        lambda at: f"attack {at.photo()} --profile scenes --attack dfc --eps 3",
        "--eps was given, but dfc has no bound; leave it out",
    ),
    "unknown device": (
        lambda at: "train --profile scenes --device tpu",
        "device 'tpu' cannot be used here; choose cpu, or cuda where there is a GPU",
    ),
    "figures cannot be written": (
        lambda at: f"reproduce --out {at.write('file')}/below",
        "{at}/file/below/scenes cannot be written to (Not a directory); name another folder with --out",
    ),
    "drawings cannot be written": (
        lambda at: f"attack {at.photo()} --profile scenes --attack dfc --out {at.write('file')}/below",
        "{at}/file/below cannot be written to (Not a directory); name another folder with --out",
    ),
    "weights cannot be written": (
        lambda at: f"train --profile scenes --out {at.write('file')}/below",
        "{at}/file/below cannot be written to (Not a directory); name another folder with --out",
    ),
    "nothing to verify": (
        lambda at: f"verify {at.folder}",
        "{at} holds no sidecar (NAME.json); give a folder that reproduce wrote, figures/PROFILE",
    ),
    "a sidecar cut short": (
        lambda at: f"verify {at.write('figures/scenes/table_9.json', truncated(at.table() / 'table_9.json')).parent}",
        "{at}/figures/scenes/table_9.json is not a sidecar of this package (...); run reproduce again",
    ),
    "a sidecar of something else": (
        lambda at: f"verify {at.write('figures/scenes/table_9.json', json.dumps({'profile': 'cifar'})).parent}",
        "{at}/figures/scenes/table_9.json is not a sidecar of this package (...); run reproduce again",
    ),
}

FINITE = "they must be finite and in [0, 255]"
REFUSED = "{{at}}/photos.tar: its member {} {}; nothing was unpacked, get it from its publisher"


def attack(at, **changes):
    """One step of PGD on the bench's images, some of them changed."""
    images = replace(at.images, **changes)
    return partial(PGDC(iterations=1), at.clf, images.pixels, images.coarse, images.fine)


def evaluate(at, **changes):
    """The same through an evaluation, which keeps shards."""
    return partial(
        evaluation.evaluate, at.clf, replace(at.images, **changes), {"a": PGDC(iterations=1)}, store=at.folder / "rows"
    )


def changed(values, value):
    values = values.clone()
    values[1] = value
    return values


def in_training_mode(at):
    at.clf = copy.deepcopy(at.clf)
    at.clf.fine[1].train()
    return attack(at)


def with_classifier(at, classifier):
    at.clf = classifier
    return attack(at)


def in_inference_mode(function):
    with torch.inference_mode():
        return function()


def with_nan_weights(at, run):
    at.clf = copy.deepcopy(at.clf)
    with torch.no_grad():
        at.clf.coarse.layers[-1].bias[0] = torch.nan
    return run(at)


def train_on(at, state: bytes):
    """Go on from this training state."""
    small = replace(get_profile("scenes"), width=2, hidden=8, coarse_epochs=1, fine_epochs=1)
    at.write("mine/coarse.training", state)
    return partial(
        training.train, small, scenes.read("train", 130), scenes.read("validation", 40), out=at.folder / "mine"
    )


CALLS = {
    # ------------------------------------------------------------------------------------------ images and labels
    "no images": (
        lambda at: partial(evaluation.evaluate, at.clf, at.images[:0], {"a": DFC()}),
        "no images were given to evaluate",
    ),
    "no attacks": (lambda at: partial(evaluation.evaluate, at.clf, at.images, {}), "no attacks were given to evaluate"),
    "no image right": (
        lambda at: partial(
            evaluation.summarize, evaluate(at, coarse=(at.images.coarse + 1) % 2, fine=at.images.fine * 0)()
        ),
        "a: none of the 8 images is classified correctly, so none is attacked",
    ),
    "limit of zero": (
        lambda at: partial(c2f_lrp.load_images, "scenes", limit=0),
        "limit is 0; ask for at least one image, or None for all of them",
    ),
    "unknown split": (
        lambda at: partial(c2f_lrp.load_images, "scenes", split="test"),
        "split 'test' is unknown; choose one of train, validation, evaluation",
    ),
    "NaN pixels": (
        lambda at: attack(at, pixels=changed(at.images.pixels, torch.nan)),
        f"pixels lie in [nan, nan]; {FINITE}",
    ),
    "NaN pixels to evaluate": (
        lambda at: evaluate(at, pixels=changed(at.images.pixels, torch.nan)),
        f"pixels lie in [nan, nan]; {FINITE}",
    ),
    "pixels above 255": (
        lambda at: attack(at, pixels=changed(at.images.pixels, 256)),
        f"pixels lie in [..., 256]; {FINITE}",
    ),
    "pixels below 0": (
        lambda at: attack(at, pixels=changed(at.images.pixels, -1)),
        f"pixels lie in [-1, ...]; {FINITE}",
    ),
    "whole-number pixels": (
        lambda at: attack(at, pixels=at.images.pixels.byte()),
        "pixels are torch.uint8; give floating-point values, such as pixels.float()",
    ),
    "grey pixels": (
        lambda at: attack(at, pixels=at.images.pixels[:, :1]),
        "pixels have shape (8, 1, 6, 6); give a batch (N, 3, H, W)",
    ),
    "pixels of another size": (
        lambda at: partial(c2f_lrp.load_classifier("scenes").predict, torch.zeros(2, 3, 32, 32)),
        "pixels are 32x32; this network takes 64x64: scale the images first",
    ),
    "coarse label out of range": (
        lambda at: attack(at, coarse=changed(at.images.coarse, 3)),
        "coarse_labels lie in 0..3; allowed are 0..2",
    ),
    "coarse label out of range to evaluate": (
        lambda at: evaluate(at, coarse=changed(at.images.coarse, 3)),
        "labels lie in 0..3; the network has classes 0..2",
    ),
    "fine label out of range": (
        lambda at: attack(at, fine=changed(at.images.fine, 9)),
        "fine_labels[1] is 9; coarse class class1 allows 0..3",
    ),
    "too few labels": (
        lambda at: attack(at, coarse=at.images.coarse[:5]),
        "coarse_labels are torch.int64 of shape (5,); give int64 of shape (8,)",
    ),
    "unknown class": (
        lambda at: partial(HIERARCHY.locate, "n99999999"),
        f"class 'n99999999' is not in this hierarchy of 54 fine classes ({FIRST} ... {WNIDS[-1]}) in fish, bird, ...",
    ),
    "a class without fine labels": (
        lambda at: partial(LRPF(), at.clf, at.images.pixels[:1], torch.tensor([2]), torch.tensor([0])),
        "coarse class class2 has a single fine class, so there is no fine label to change; "
        "leave its images out of fine-level attacks",
    ),
    # ----------------------------------------------------------------------------------------- photographs in scripts
    **{
        f"a photo.jpg that holds {kind}": (
            lambda at, content=content: partial(imagenet.open_photo, at.write("photo.jpg", content)),
            f"{{at}}/photo.jpg cannot be read as an image (it holds {said}); {GIVE}",
        )
        for kind, said, content in FOREIGN
    },
    "a photo.jpg that holds nothing": (
        lambda at: partial(imagenet.open_photo, at.write("photo.jpg", b"")),
        f"{{at}}/photo.jpg cannot be read as an image (it is empty); {GIVE}",
    ),
    "a photo.jpg that holds words": (
        lambda at: partial(imagenet.open_photo, at.write("photo.jpg", "hello")),
        f"{{at}}/photo.jpg cannot be read as an image (it holds none of the formats that are read); {GIVE}",
    ),
    "PNG cut short": (
        lambda at: partial(imagenet.open_photo, at.write("photo", half(picture("RGB", "PNG")))),
        f"{{at}}/photo {NOT_READ}; {GIVE}",
    ),
    "GIF cut short": (
        lambda at: partial(imagenet.open_photo, at.write("photo", half(picture("RGB", "GIF")))),
        f"{{at}}/photo {NOT_READ}; {GIVE}",
    ),
    "BMP cut short": (
        lambda at: partial(imagenet.open_photo, at.write("photo", half(picture("RGB", "BMP")))),
        f"{{at}}/photo {NOT_READ}; {GIVE}",
    ),
    "TIFF cut short": (
        lambda at: partial(imagenet.open_photo, at.write("photo", half(picture("RGB", "TIFF")))),
        f"{{at}}/photo {NOT_READ}; {GIVE}",
    ),
    "WEBP cut short": (
        lambda at: partial(imagenet.open_photo, at.write("photo", half(picture("RGB", "WEBP")))),
        f"{{at}}/photo {NOT_READ}; {GIVE}",
    ),
    "PNG with a wrong checksum": (
        lambda at: partial(imagenet.open_photo, at.write("photo", altered(picture("RGB", "PNG"), 50))),
        f"{{at}}/photo {NOT_READ}; {GIVE}",
    ),
    "PNG without pixels": (
        lambda at: partial(imagenet.open_photo, at.write("photo", png(0, 9))),
        f"{{at}}/photo {NOT_READ}; {GIVE}",
    ),
    "PNG whose words unpack to gigabytes": (
        lambda at: partial(
            imagenet.open_photo, at.write("photo", png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 24)))))
        ),
        f"{{at}}/photo {NOT_READ}; {GIVE}",
    ),
    "PNG of more pixels than Pillow opens": (
        lambda at: partial(imagenet.open_photo, at.write("photo", png(60_000, 60_000))),
        "{at}/photo is too large: its size is above 100 megapixels; scale it down first",
    ),
    "TIFF in CIELAB": (
        lambda at: partial(imagenet.open_photo, at.write("photo", picture("LAB", "TIFF"))),
        "{at}/photo has colours in CIELAB, which are not converted here; give RGB, grey or CMYK",
    ),
    "boxes of words": (
        lambda at: partial(
            imagenet.read_boxes, at.write("boxes.csv", "name,width,height,x0,y0,x1,y1\na.jpg,9,9,one,0,1,1"), HIERARCHY
        ),
        "{at}/boxes.csv, line 2: invalid literal for int() with base 10: 'one' must be a column, ...",
    ),
    # ------------------------------------------------------------------------------------------ states of tensors
    "pixels in an array": (
        lambda at: attack(at, pixels=at.images.pixels.numpy()),
        "pixels are a ndarray; give a tensor, such as torch.as_tensor(pixels).float()",
    ),
    "pixels in a list": (
        lambda at: attack(at, pixels=at.images.pixels.tolist()),
        "pixels are a list; give a tensor, such as torch.as_tensor(pixels).float()",
    ),
    "pixels in single precision, weights in double": (
        lambda at: attack(at, pixels=at.images.pixels.float()),
        "pixels are torch.float32, the classifier's weights torch.float64; give pixels.to(torch.float64), or the "
        "classifier .to(torch.float32)",
    ),
    "pixels in half precision": (
        lambda at: attack(at, pixels=at.images.pixels.half()),
        "pixels are torch.float16, the classifier's weights torch.float64; give pixels.to(torch.float64), ...",
    ),
    "pixels in double precision, weights in single": (
        lambda at: with_classifier(at, copy.deepcopy(at.clf).float()),
        "pixels are torch.float64, the classifier's weights torch.float32; give pixels.to(torch.float32), ...",
    ),
    "pixels without values": (
        lambda at: attack(at, pixels=at.images.pixels.to("meta")),
        "pixels are on the device meta, which holds no values; give them on cpu or cuda",
    ),
    "images without pixels": (
        lambda at: attack(at, pixels=at.images.pixels[..., :0]),
        "pixels have shape (8, 3, 6, 0); give images of at least one pixel",
    ),
    "one image without its batch": (
        lambda at: attack(at, pixels=at.images.pixels[0]),
        "pixels have shape (3, 6, 6); give a batch (N, 3, H, W)",
    ),
    "infinite pixels": (
        lambda at: attack(at, pixels=changed(at.images.pixels, torch.inf)),
        f"pixels lie in [..., inf]; {FINITE}",
    ),
    "weights on another device": (
        lambda at: with_classifier(at, copy.deepcopy(at.clf).to("meta")),
        "the classifier is on meta, pixels on cpu; move both to one device",
    ),
    "labels on another device": (
        lambda at: attack(at, coarse=at.images.coarse.to("meta")),
        "coarse_labels are on meta, pixels on cpu; move both to one device",
    ),
    "labels with fractions": (
        lambda at: attack(at, fine=at.images.fine.float()),
        "fine_labels are torch.float32 of shape (8,); give int64 of shape (8,)",
    ),
    "labels that are true or false": (
        lambda at: attack(at, coarse=at.images.coarse > 0),
        "coarse_labels are torch.bool of shape (8,); give int64 of shape (8,)",
    ),
    "labels in words": (
        lambda at: attack(at, coarse=["class0"] * 8),
        "coarse_labels are a list that makes no tensor; give int64 of shape (8,)",
    ),
    "labels in one-hot rows": (
        lambda at: attack(at, coarse=torch.eye(8).long()),
        "coarse_labels are torch.int64 of shape (8, 8); give int64 of shape (8,)",
    ),
    "no labels": (
        lambda at: attack(at, fine=None),
        "fine_labels are a NoneType that makes no tensor; give int64 of shape (8,)",
    ),
    "labels in a list to evaluate": (
        lambda at: evaluate(at, coarse=at.images.coarse.tolist()),
        "labels are a list; give an int64 tensor of shape (8,)",
    ),
    "labels without values": (
        lambda at: partial(LRP(at.clf.coarse).relevance, at.images.pixels, at.images.coarse.to("meta")),
        "labels are on the device meta, which holds no values; give them where the pixels are",
    ),
    "a tensor to evaluate": (
        lambda at: partial(evaluation.evaluate, at.clf, at.images.pixels, {"a": DFC()}),
        "the images are a Tensor; give Images, as of c2f_lrp.load_images, which have their labels",
    ),
    "attacks in a list": (
        lambda at: partial(evaluation.evaluate, at.clf, at.images, [DFC()]),
        'the attacks are a list; give a dict with a name for each, such as {"PGDC": PGDC()}',
    ),
    "a wrapped classifier to evaluate": (
        lambda at: partial(evaluation.evaluate, torch.nn.DataParallel(at.clf), at.images, {"a": DFC()}),
        "the classifier is a DataParallel; give a CoarseToFine: its .module",
    ),
    "an array to perceptibility": (
        lambda at: partial(metrics.perceptibility, at.images.pixels.numpy(), at.images.pixels, 2),
        "perturbations are a ndarray; give a tensor, such as torch.as_tensor(perturbations).float()",
    ),
    "whole-number pixels to perceptibility": (
        lambda at: partial(metrics.perceptibility, at.images.pixels, at.images.pixels.byte(), 2),
        "pixels are torch.uint8; give floating-point values, such as pixels.float()",
    ),
    "a norm in words": (
        lambda at: partial(metrics.perceptibility, at.images.pixels, at.images.pixels, "2"),
        "p is '2'; eq. (10) is for p = 1, 2 or float('inf')",
    ),
    "labels to the fooling ratio": (
        lambda at: partial(metrics.fooling_ratio, at.images.coarse),
        "fooled is torch.int64 of shape (8,); give one bool for each image, (N,)",
    ),
    "masks of numbers": (
        lambda at: partial(metrics.relevance_mass, at.images.pixels, at.images.pixels[:, 0]),
        "masks are torch.float64; give a tensor of bools (N, H, W)",
    ),
    "an array of masks": (
        lambda at: partial(metrics.relevance_mass, at.images.pixels, at.images.pixels[:, 0].bool().numpy()),
        "masks are a ndarray; give a tensor of bools (N, H, W)",
    ),
    "a wrapped classifier": (
        lambda at: with_classifier(at, torch.nn.DataParallel(at.clf)),
        "the classifier is a DataParallel; give a CoarseToFine: its .module",
    ),
    "a network for a classifier": (
        lambda at: with_classifier(at, at.clf.coarse),
        "the classifier is a ...; give a CoarseToFine",
    ),
    "weights made in inference mode": (
        lambda at: with_classifier(at, in_inference_mode(lambda: copy.deepcopy(at.clf))),
        "the classifier's weights were made inside torch.inference_mode(), where gradients cannot follow; ...",
    ),
    # -------------------------------------------------------------------------------------------- networks, settings
    "coarse classes that share a file": (
        lambda at: partial(Hierarchy, ("big cat", "Big_Cat"), (("a",), ("b",)), (("a",), ("b",))),
        "coarse classes 'big cat' and 'Big_Cat' would share one file of weights; rename one of them",
    ),
    "fewer outputs than classes": (
        lambda at: partial(CoarseToFine.from_flat, vgg16(5, width=2, hidden=8, image_size=64), HIERARCHY),
        "the hierarchy has a class at output ..., the model 5 outputs; give the model that its class indices were ...",
    ),
    "a deviation of zero": (
        lambda at: partial(Classifier, torch.nn.Flatten(), std=(1, 0, 1)),
        "std is (1, 0, 1); give one number above 0 or three, in units of 0..255",
    ),
    "a mean of two colours": (
        lambda at: partial(Classifier, torch.nn.Flatten(), mean=(1, 0)),
        "mean is (1, 0); give one number or three, in units of 0..255",
    ),
    "a network that no file can hold": (
        lambda at: partial(save_network, Classifier(torch.nn.Flatten()), at.folder / "a.safetensors"),
        "the network's architecture is None; a weight file can hold vgg16, ...",
    ),
    "unknown manifest": (
        lambda at: partial(paths.manifest_path, "cifar.csv"),
        "no manifest 'cifar.csv', must be one of: checkpoints.csv, ...",
    ),
    "a step of zero": (
        lambda at: partial(PGDC, step_size=0),
        "step_size is 0; give a step in pixel units above 0, or None for eps / 4",
    ),
    "training mode": (
        in_training_mode,
        "the classifier is in training mode, where dropout is random; call .eval() first",
    ),
    "logits that are not finite": (
        lambda at: with_nan_weights(at, attack),
        "the classifier gave logits that are not finite; check its weights and the image values",
    ),
    "logits that are not finite to evaluate": (
        lambda at: with_nan_weights(at, evaluate),
        "the classifier gave logits that are not finite; check its weights and the image values",
    ),
    "eps of zero in a script": (
        lambda at: partial(PGDC, eps=0),
        "eps is 0; give a bound in pixel units above 0, such as 10 on the 0..255 scale",
    ),
    "half a step": (lambda at: partial(PGDC, iterations=2.5), "iterations is 2.5; PGDC takes int"),
    "a bound in words": (lambda at: partial(LRPC, eps="10"), "eps is '10'; LRPC takes float"),
    "a step size of none": (lambda at: partial(LRPC, lr=None), "lr is None; LRPC takes float"),
    "pixels of another precision to predict": (
        lambda at: partial(at.clf.predict, at.images.pixels.half()),
        "pixels are torch.float16, the classifier's weights ...; give pixels.to(...), or the classifier ...",
    ),
    "an array to predict": (
        lambda at: partial(at.clf.predict, at.images.pixels.numpy()),
        "pixels are a ndarray; give a tensor, such as torch.as_tensor(pixels).float()",
    ),
    "normalised pixels to predict": (
        lambda at: partial(at.clf.predict, at.images.pixels / 255 - 0.5),
        "pixels lie in [-0...]; they must be finite and in [0, 255]",
    ),
    "a deviation that is infinite": (
        lambda at: partial(c2f_lrp.load_flat, "torchvision:resnet18", at.folder / "x.pth", std=float("inf")),
        "std is inf; give one number above 0 or three, in units of 0..255",
    ),
    "two means": (
        lambda at: partial(c2f_lrp.load_flat, "torchvision:resnet18", at.folder / "x.pth", mean=(1, 2)),
        "mean is (1, 2); give one number or three, in units of 0..255",
    ),
    "deviations of two kinds": (
        lambda at: partial(c2f_lrp.load_flat, "torchvision:resnet18", at.folder / "x.pth", std=(58, 57, 0.5)),
        "mean ... and std (58, 57, 0.5) are for pixels in 0..1; give them for 0..255: 255 times as much",
    ),
    "images of no size": (
        lambda at: partial(c2f_lrp.load_flat, "torchvision:resnet18", at.folder / "x.pth", image_size=0),
        "image_size is 0; give the pixels a side that torchvision:resnet18 takes",
    ),
    "a limit in words": (
        lambda at: partial(c2f_lrp.load_images, "scenes", limit="3"),
        "limit is '3'; ask for at least one image, or None for all of them",
    ),
    "no scenes": (lambda at: partial(scenes.export, at.folder / "new", 0), "0 scenes make no folder; ask for at ..."),
    "scenes into a file": (
        lambda at: partial(scenes.export, at.photo(), 2),
        "{at}/photo.jpg is a file; name a new folder with --out",
    ),
    "K of zero": (lambda at: partial(LRPC, iterations=0), "iterations is 0; an attack needs at least 1"),
    "p below 1": (lambda at: partial(LRPC, p=0.5), "p is 0.5; a norm needs p >= 1, such as 1, 2 or float('inf')"),
    "unknown reading": (lambda at: partial(LRPC, init="delta"), "init is 'delta'; choose one of one_hot, logit"),
    "images of an unknown class": (
        lambda at: partial(c2f_lrp.load_images, "scenes", limit=8, coarse="cat"),
        "'cat' is no coarse class; choose one of fish, bird, ...",
    ),
    "images of a class that is not among so few": (
        lambda at: partial(c2f_lrp.load_images, "scenes", limit=1, coarse="vehicle"),
        "none of 1 images is of the class vehicle; try more images",
    ),
    "a figure of an unknown class": (
        lambda at: partial(panels.label_pairs, at.clf, at.images, "coarse", "cat"),
        "'cat' is no coarse class; choose one of class0, class1, class2",
    ),
    "training state damaged": (
        lambda at: train_on(at, b"x" * 100),
        "{at}/mine/coarse.training is no training state, or a damaged one (...); remove it to train from the start",
    ),
    # ---------------------------------------------------------------------------------------------------- archives
    "archive with ..": (
        lambda at: partial(extract, at.archive("train/a.JPEG", "../evil"), at.folder / "data"),
        REFUSED.format("'../evil'", "has '..' in its place"),
    ),
    "archive with an absolute place": (
        lambda at: partial(extract, at.archive("/evil"), at.folder / "data"),
        REFUSED.format("'/evil'", "has an absolute place"),
    ),
    "archive with a link": (
        lambda at: partial(extract, at.archive(("train", "/etc")), at.folder / "data"),
        REFUSED.format("'train'", "is a link or a device, not a file"),
    ),
    "archive truncated": (
        lambda at: partial(
            extract, at.write("photos.tar", at.archive("a", "b").read_bytes()[:1300]), at.folder / "data"
        ),
        "{at}/photos.tar cannot be unpacked (...); give a whole tar or zip archive",
    ),
    "archive missing": (
        lambda at: partial(extract, at.folder / "nowhere.tar", at.folder / "data"),
        "there is no archive {at}/nowhere.tar",
    ),
    "archive into a full folder": (
        lambda at: partial(extract, at.archive("a"), at.photo("data/photo.jpg").parent),
        "{at}/data is there already and not empty; name a new folder to unpack {at}/photos.tar into",
    ),
}


def contents(folder: Path) -> dict:
    """Every file; an empty folder is nothing half-written, nor is an empty lock, which stays for the next run."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def pattern_of(message: str, at) -> str:
    return ".*".join(map(re.escape, message.replace("{at}", str(at.folder)).split("...")))


def matches(found: str, message: str, at) -> None:
    assert re.fullmatch(pattern_of(message, at), found), f"{found}\nis not\n{message}"
    assert "\n" not in found


def test_the_table_is_as_long_as_it_says():
    assert len(COMMANDS) + len(CALLS) >= 140


@pytest.mark.parametrize("row", COMMANDS)
def test_a_command_refuses(at, row, capfd):
    make, message, *printed_before = COMMANDS[row]
    arguments = make(at).split()
    before = contents(at.folder)
    assert cli.main(arguments) == 1
    printed = capfd.readouterr()
    lines = [line.strip() for line in re.split("\r|\n|\x1b\\[A", printed.err)]
    error = [line for line in lines if line and not line.endswith("/s]")]  # the others are bars of tqdm
    assert len(error) == 1, printed
    words = arguments[: 2 if arguments[0] == "data" else 1]
    matches(error[0], f"c2f-lrp {' '.join(words)}: {message}", at)
    for line in printed_before:
        assert re.search(f"(?m)^{pattern_of(line, at)}$", printed.out), f"{printed.out}\nhas no line\n{line}"
    assert contents(at.folder) == before


@pytest.mark.parametrize("row", CALLS)
def test_a_call_refuses(at, row):
    make, message = CALLS[row]
    call = make(at)
    before = contents(at.folder)
    with pytest.raises((ValueError, OSError)) as error:
        call()
    matches(str(error.value), message, at)
    assert contents(at.folder) == before


# How photographs of each kind are read. Evaluation takes none but RGB ones, as the paper does.
KINDS = {
    "RGB": (Image.new("RGB", (64, 64), (10, 120, 230)), "JPEG", (10, 120, 230)),
    "grey": (Image.new("L", (64, 64), 100), "JPEG", (100, 100, 100)),
    "CMYK": (Image.new("CMYK", (64, 64), (245, 135, 25, 0)), "JPEG", (10, 120, 230)),
    "16-bit grey": (Image.fromarray(np.full((64, 64), 100 * 257, np.uint16)), "PNG", (100, 100, 100)),
    "RGBA, opaque": (Image.new("RGBA", (64, 64), (10, 120, 230, 255)), "PNG", (10, 120, 230)),
    "RGBA, transparent: white": (Image.new("RGBA", (64, 64), (10, 120, 230, 0)), "PNG", (255, 255, 255)),
    "black and white": (Image.new("1", (64, 64), 1), "PNG", (255, 255, 255)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_photograph_is_read_as_rgb_and_evaluation_takes_rgb_only(tmp_path, kind):
    image, ending, expected = KINDS[kind]
    folder = tmp_path / "train" / FIRST
    folder.mkdir(parents=True)
    for n in range(20):
        image.save(folder / f"{n}.png", ending)
    for split in ("train", "validation"):
        pixels = imagenet.read(imagenet.find(tmp_path, HIERARCHY, split, 64), split).pixels
        assert (pixels.float() - torch.tensor(expected).view(3, 1, 1)).abs().max() <= 2  # JPEG
    if kind == "RGB":
        assert len(imagenet.read(imagenet.find(tmp_path, HIERARCHY, "evaluation", 64), "evaluation")) == len(pixels)
    else:
        with pytest.raises(ValueError, match="evaluation"):
            imagenet.read(imagenet.find(tmp_path, HIERARCHY, "evaluation", 64), "evaluation")
