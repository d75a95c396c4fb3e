"""checkpoints.csv: one row for each network of a profile, with the checksum of its weight file and how it was made."""

import csv
from pathlib import Path

from c2f_lrp.files import alone, atomic_write, csv_rows, csv_table
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

    Raises ValueError for a table with other columns, and for what is no table in UTF-8.
    """
    if not table.is_file():
        return []
    _, header = (csv_rows(table) or [(1, [])])[0]
    missing = [column for column in CHECKPOINT_COLUMNS if column not in header]
    if missing:
        raise ValueError(f"{table} has no column {', '.join(missing)}; give a table that c2f-lrp train wrote")
    return [row for _, row in csv_table(table) if row["profile"] == profile]


def write_checkpoints(table: Path, profile: str, rows: list[dict]) -> None:
    """Replace the rows of one profile, keeping those of the others, also those that another training just wrote."""
    with alone(table.with_name(f".{table.name}.lock"), f"writes {table}", wait=True):
        others = [row for _, row in csv_table(table) if row["profile"] != profile] if table.is_file() else []
        with atomic_write(table) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, CHECKPOINT_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted([*others, *rows], key=lambda row: row["profile"]))
