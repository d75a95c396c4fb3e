"""Every figure and table gets a sidecar: what made it, from which weights, with which versions."""

import json
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image

from c2f_lrp import shards
from c2f_lrp.checkpoints import checkpoints_table, read_checkpoints
from c2f_lrp.datasets import reader_class
from c2f_lrp.files import atomic_write, sha256, writable_folder
from c2f_lrp.paths import REPOSITORY, figures_folder, runs_folder
from c2f_lrp.profiles import get_profile

PACKAGES = ("c2f_lrp", "torch", "torchvision", "zennit", "numpy", "pandas", "pillow", "matplotlib", "papermill")


def output_folder(profile: str, out: str | Path | None = None) -> Path:
    """Where figures of a profile go: out/<profile>, by default figures/<profile> of the working copy.

    The environment variable C2F_LRP_FIGURES sets another default; the tests use it to leave figures/ alone.
    """
    return writable_folder(figures_folder(out) / get_profile(profile).name)


def save_figure(
    figure: Figure,
    name: str,
    profile: str,
    parameters: dict,
    out: str | Path | None = None,
    *,
    rows: pd.DataFrame | None = None,
) -> Path:
    """Write NAME.pdf, NAME.png and NAME.json, all or none; returns the png's path. `rows`: see `save_table`."""
    folder = output_folder(profile, out)
    with atomic_write(*(folder / f"{name}.{end}" for end in ("pdf", "png", "json"))) as (pdf, png, sidecar):
        # No creation date inside, so that the same figure is the same file.
        pdf.write_bytes(drawn(figure, format="pdf", metadata={"CreationDate": None}))
        png.write_bytes(drawn(figure, format="png", dpi=200, metadata={"Software": None}))
        write_sidecar(sidecar, {f"{name}.pdf": pdf, f"{name}.png": png}, profile, parameters, rows=rows)
    return folder / f"{name}.png"


def drawn(figure: Figure, **options) -> bytes:
    """What `figure.savefig` writes. Not to the disk itself: when that is full, it fails while it clears up."""
    file = BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()


def save_animation(
    figures: Iterable[Figure],
    name: str,
    profile: str,
    parameters: dict,
    out: str | Path | None = None,
    *,
    milliseconds: int = 500,
    rest: int = 2500,
) -> Path:
    """Write NAME.gif and NAME.json, both or none; returns the gif's path. It repeats for ever.

    figures: one for each frame, all of one size; milliseconds: how long each is shown, rest: the first and the last.
    Raises ValueError without a figure.
    """
    frames = []
    for figure in figures:
        with Image.open(BytesIO(drawn(figure, format="png", dpi=100, bbox_inches=figure.bbox_inches))) as frame:
            # One palette a frame and no dithering: noise that flickers would pass for something that moves.
            frames.append(frame.convert("RGB").quantize(256, kmeans=4, dither=Image.Dither.NONE))
    if not frames:
        raise ValueError(f"{name} has no frame; give at least one figure")
    last = len(frames) - 1
    shown = [rest if k in (0, last) else milliseconds for k in range(len(frames))]
    folder, file = output_folder(profile, out), BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=shown, loop=0, optimize=False)
    with atomic_write(folder / f"{name}.gif", folder / f"{name}.json") as (gif, sidecar):
        gif.write_bytes(file.getvalue())
        write_sidecar(sidecar, {f"{name}.gif": gif}, profile, parameters)
    return folder / f"{name}.gif"


def save_table(
    table: pd.DataFrame,
    name: str,
    profile: str,
    parameters: dict,
    out: str | Path | None = None,
    *,
    display: pd.DataFrame | None = None,
    rows: pd.DataFrame | None = None,
) -> Path:
    """Write NAME.csv, NAME.md and NAME.json, all or none; returns the csv's path. The md shows `display`, if given.

    rows: what `evaluation.evaluate` gave, if the table was made of that: its shards and their hash go into NAME.json.
    """
    folder = output_folder(profile, out)
    with atomic_write(*(folder / f"{name}.{end}" for end in ("csv", "md", "json"))) as (csv, md, sidecar):
        table.to_csv(csv, float_format="%.6g", lineterminator="\n")
        md.write_text(markdown(table if display is None else display), encoding="utf-8")
        write_sidecar(sidecar, {f"{name}.csv": csv, f"{name}.md": md}, profile, parameters, rows=rows)
    return folder / f"{name}.csv"


def save_page(
    text: str, name: str, profile: str, parameters: dict, sources: dict[str, Path], out: str | Path | None = None
) -> Path:
    """Write NAME.md and NAME.json, both or none; returns the md's path. `sources`: the tables it was made from."""
    folder = output_folder(profile, out)
    with atomic_write(folder / f"{name}.md", folder / f"{name}.json") as (md, sidecar):
        md.write_text(text, encoding="utf-8")
        write_sidecar(sidecar, {f"{name}.md": md}, profile, parameters, sources)
    return folder / f"{name}.md"


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table: truth as yes and no, bars escaped, levels of columns joined."""

    def plain(cell):
        if isinstance(cell, bool):
            return "yes" if cell else "no"
        if isinstance(cell, tuple):
            return plain(", ".join(part for part in cell if part))
        return cell.replace("|", "\\|") if isinstance(cell, str) else cell

    words = table.rename_axis(" " if table.index.name is None and table.index.nlevels == 1 else table.index.names)
    words = words.reset_index().map(plain)
    words.columns = map(plain, words.columns)
    return words.to_markdown(index=False, floatfmt=".4g") + "\n"


def write_sidecar(
    path: Path,
    files: dict[str, Path],
    profile: str,
    parameters: dict,
    sources: dict[str, Path] | None = None,
    rows: pd.DataFrame | None = None,
) -> None:
    """What made `files`, {name to be: where it lies now}, from which `sources`, {profile/name: where}, and `rows`."""
    settings = get_profile(profile)
    networks = read_checkpoints(checkpoints_table(settings), profile)
    kept = {} if rows is None else rows.attrs.get("shards", {})
    drawn_seeds = set() if rows is None else set(rows.seed.tolist()) - {-1}
    content = dict(
        files={name: sha256(file) for name, file in files.items()},
        **({"sources": {name: sha256(file) for name, file in sources.items()}} if sources else {}),
        profile=profile,
        parameters=parameters,
        **(
            {"rows": {"count": len(rows), "shards": list(kept), "sha256": shards.combined(kept)}}
            if rows is not None and kept
            else {}
        ),
        # Attacks draw nothing at random but for their start, where they are told to: training and the scenes do.
        seeds={"training": sorted({int(row["seed"]) for row in networks if row["seed"]})}
        | reader_class(settings).seeds
        | ({"attacks": sorted(drawn_seeds)} if drawn_seeds else {}),
        manifest={settings.manifest_path().name: sha256(settings.manifest_path())},
        checkpoints={row["network"]: row["sha256"] for row in networks},
        versions={package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
        git=git_revision(),
        device="cpu" if rows is None else rows.attrs.get("device", "cpu"),
        threads=torch.get_num_threads(),
        written=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def verify(folder: Path) -> list[str]:
    """What is wrong with the figures and tables in a folder, one line each; empty where all is well.

    altered: a file is not the one its sidecar describes, or is missing. stale: it was made from other weights, another
    manifest, other tables or by another version of this package than those here now, or the rows of attacks that it
    was made of are others; these are compared where runs/ holds them all. Raises ValueError where there is no sidecar
    at all, or one that cannot be read.
    """
    folder = Path(folder)
    sidecars = sorted(folder.glob("*.json"))
    if not sidecars:
        raise ValueError(f"{folder} holds no sidecar (NAME.json); give a folder that reproduce wrote, figures/PROFILE")
    found, described = [], set()
    for path in sidecars:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            settings, files, weights = get_profile(told["profile"]), told["files"], told["checkpoints"]
            manifest, made_by = told.get("manifest"), told["versions"]["c2f_lrp"]
            rows = told.get("rows", {"shards": [], "sha256": None})
            keys, rows_known = rows["shards"], rows["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a sidecar of this package ({error!r}); run reproduce again") from error
        described |= {path.name, *files}
        for name, known in files.items():
            if not (folder / name).is_file():
                found.append(f"{name}: missing, though {path.name} describes it")
            elif sha256(folder / name) != known:
                found.append(f"{name}: altered since {path.name} was written")
        now = {row["network"]: row["sha256"] for row in read_checkpoints(checkpoints_table(settings), settings.name)}
        others = sorted(name for name in weights | now if weights.get(name) != now.get(name))
        if others:
            found.append(f"{path.stem}: stale, made with other weights of {', '.join(others)}")
        # Sidecars of earlier versions do not name the manifest.
        here = settings.manifest_path()
        if manifest and manifest != {here.name: sha256(here)}:
            found.append(f"{path.stem}: stale, made with another {here.name}")
        for name, known in told.get("sources", {}).items():
            if (source := folder.parent / name).is_file() and sha256(source) != known:
                found.append(f"{path.stem}: stale, made from another {name}")
        rows_here = shards.rows_hash(runs_folder(settings.name) / "rows", keys) if keys else None
        if rows_here not in (None, rows_known):
            found.append(f"{path.stem}: stale, made from other rows than {runs_folder(settings.name) / 'rows'} has")
        if made_by != version("c2f_lrp"):
            found.append(f"{path.stem}: stale, made by version {made_by}, this is {version('c2f_lrp')}")
    strangers = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in described)
    return found + [f"{name}: no sidecar describes it" for name in strangers]


def git_revision() -> dict:
    """The commit that made it and whether the tree had changes; None where there is no working copy."""

    if not (REPOSITORY / "pyproject.toml").is_file():  # installed: a repository around it is somebody else's
        return {"commit": None, "changed": None}

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain", "--", "c2f_lrp", "notebooks", "data_manifests")
    return {"commit": git("rev-parse", "HEAD"), "changed": None if changes is None else bool(changes)}
