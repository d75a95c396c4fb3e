"""checkpoints.csv: one row for each network of a profile, with the checksum of its weight file and how it was made."""

import csv
from pathlib import Path

from c2f_lrp.files import atomic_write
from c2f_lrp.paths import manifest_path
from c2f_lrp.profiles import Profile

CHECKPOINT_COLUMNS = (
    "profile,network,file,sha256,classes,accuracy,validation_images,training_images,epochs,seed,seconds,command,versions"
).split(",")


def checkpoints_table(profile: Profile, folder: Path | None = None) -> Path:
    """The checkpoints.csv of a weight folder; for weights inside the package data_manifests/checkpoints.csv."""
    folder = Path(folder or profile.weights)
    inside = folder.parent == Path(__file__).parent / "weights"
    return manifest_path("checkpoints.csv") if inside else folder / "checkpoints.csv"


def read_checkpoints(table: Path, profile: str) -> list[dict]:
    """The rows of one profile in a checkpoints.csv; none where there is no such file.

    Raises ValueError for a table with other columns.
    """
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [column for column in CHECKPOINT_COLUMNS if column not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"{table} has no column {', '.join(missing)}; give a table that c2f-lrp train wrote")
        return [row for row in reader if row["profile"] == profile]


def write_checkpoints(table: Path, profile: str, rows: list[dict]) -> None:
    """Replace the rows of one profile, keeping those of the others."""
    others = []
    if table.is_file():
        with table.open(newline="") as file:
            others = [row for row in csv.DictReader(file) if row["profile"] != profile]
    with atomic_write(table) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, CHECKPOINT_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*others, *rows], key=lambda row: row["profile"]))
