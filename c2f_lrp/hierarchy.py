"""The partition of fine labels into coarse ones that eqs. (1)-(2) of the paper classify with.

A hierarchy is read from a manifest, a CSV file with one row per fine class and the columns `COLUMNS`:

    wnid         the WordNet id of the class; for images other than ImageNet's `coarse/name`, as in fish/shark
    class_index  the class's index among ImageNet's 1000; for other images a running number
    name         what to call the fine class in a figure
    coarse       the name of its coarse class; coarse classes are numbered in order of first appearance
    fine_index   its index j inside the coarse class, without gaps

For photographs in folders of one's own there is a shorter form, with the columns `FOLDER_COLUMNS`:

    folder       where the photographs of the class are, below the folder of all of them; this is the class's id
    coarse       the name of its coarse class
    name         what to call it in a figure; the column may be left out, and the folder's own name is taken
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from c2f_lrp.files import csv_rows

COLUMNS = ("wnid", "class_index", "name", "coarse", "fine_index")
FOLDER_COLUMNS = ("folder", "coarse", "name")
N_IMAGENET = 1000
# Of a coarse class's name, beside letters, digits and the marks on letters that many scripts write; the last two join
# letters, or keep them apart, in Persian and in scripts of India.
NAME_SIGNS = " -_\u200c\u200d"
LONGEST_NAME = 200  # bytes in UTF-8
MOST_LINES = 10  # at fault that an error names


@dataclass(frozen=True)
class Hierarchy:
    """M coarse classes and, inside the i-th of them, M_i fine classes (paper, eqs. 1-2).

    Every fine class belongs to exactly one coarse class, so a pair (coarse, fine) names it; so does its id.
    """

    coarse_names: tuple[str, ...]  # (M,)
    fine_names: tuple[tuple[str, ...], ...]  # [i][j], i < M, j < M_i
    ids: tuple[tuple[str, ...], ...]  # [i][j]: a wnid, or `coarse/name` where the images are not ImageNet's
    # [i][j]: the index among ImageNet's 1000, or a running number
    class_indices: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self):
        if self.class_indices is None:
            starts = [sum(self.n_fine[:i]) for i in range(self.n_coarse)]
            running = tuple(tuple(range(s, s + n)) for s, n in zip(starts, self.n_fine, strict=True))
            object.__setattr__(self, "class_indices", running)
        for field in ("ids", "class_indices"):
            sizes = tuple(len(group) for group in getattr(self, field))
            if sizes != self.n_fine or len(sizes) != self.n_coarse:
                raise ValueError(
                    f"{field} holds {sizes} fine classes per coarse class, fine_names {self.n_fine}, "
                    f"for the {self.n_coarse} coarse classes {', '.join(self.coarse_names)}: these must agree"
                )

        for n, name in enumerate(self.coarse_names):
            for other in self.coarse_names[:n]:
                if same_file(name) == same_file(other):
                    raise ValueError(
                        f"coarse classes {other!r} and {name!r} would share one file of weights; rename one of them"
                    )

    @property
    def n_coarse(self) -> int:
        """M, the number of coarse classes."""
        return len(self.coarse_names)

    @property
    def n_fine(self) -> tuple[int, ...]:
        """(M_1, ..., M_M), the number of fine classes inside each coarse class."""
        return tuple(len(names) for names in self.fine_names)

    def coarse_index(self, name: str) -> int:
        """The coarse label of that name. Raises ValueError for another."""
        if name not in self.coarse_names:
            raise ValueError(f"{name!r} is no coarse class; choose one of {', '.join(self.coarse_names)}")
        return self.coarse_names.index(name)

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        return {id_: (i, j) for i, group in enumerate(self.ids) for j, id_ in enumerate(group)}

    def locate(self, id_: str) -> tuple[int, int]:
        """The labels (coarse i, fine j) of the class with this wnid (or `coarse/name`)."""
        if id_ not in self._places:
            raise ValueError(
                f"class {id_!r} is not in this hierarchy of {sum(self.n_fine)} fine classes "
                f"({self.ids[0][0]} ... {self.ids[-1][-1]}) in {', '.join(self.coarse_names)}"
            )
        return self._places[id_]

    def describe(self, coarse, fine, separator: str = " / ") -> list[str]:
        """Label pairs, two sequences (N,), in words: "vehicle / truck"."""
        return [f"{self.coarse_names[i]}{separator}{self.fine_names[i][j]}" for i, j in zip(coarse, fine, strict=True)]

    def index_by_id(self) -> dict[str, int]:
        """{id: class_index} of every fine class: what `from_csv(known=...)` takes.

        Raises ValueError for a hierarchy of folders, whose classes have no index.
        """
        if self.class_indices is None:
            raise ValueError("this hierarchy has no class indices; read a manifest with a column class_index")
        return {id_: self.class_indices[i][j] for id_, (i, j) in self._places.items()}

    @classmethod
    def from_csv(cls, path, known: Mapping[str, int] | None = None) -> "Hierarchy":
        """Read a manifest and check that it is a partition; an error names the file and up to ten lines at fault.

        A class is unknown if its id is neither a wnid nor `coarse/name`, if ImageNet has no such index, or if
        it is not in `known`, {id: class_index}, where that is given.
        """
        path = Path(path)
        rows, problems = _read_rows(path)
        _refuse(path, [*problems, *_unknown_classes(rows, known), *_repeated(rows)])
        _refuse(path, [*_gaps(rows), *_out_of_order(rows)])
        coarse_names = tuple(dict.fromkeys(row["coarse"] for _, row in rows))
        groups = [
            sorted((row for _, row in rows if row["coarse"] == coarse), key=lambda row: row["fine_index"])
            for coarse in coarse_names
        ]

        def column(key):
            return tuple(tuple(row[key] for row in group) for group in groups)

        return cls(coarse_names, column("name"), column("wnid"), column("class_index"))

    @classmethod
    def from_folders_csv(cls, path) -> "Hierarchy":
        """Read the short form of a manifest, or a whole one; an error names the file and up to ten lines at fault.

        Fine classes are numbered in the order of their lines. At least two coarse classes must be there.
        """
        path = Path(path)
        header = _read_header(path)
        if "wnid" in header:
            return cls.from_csv(path)
        rows, problems = _read_rows(path, FOLDER_COLUMNS if "name" in header else FOLDER_COLUMNS[:2])
        _refuse(path, [*problems, *_wrong_folders(rows)])
        groups: dict[str, list[dict]] = {}
        for _, row in rows:
            groups.setdefault(row["coarse"], []).append(row)
        if len(groups) < 2:
            only = rows[0][1]["coarse"]
            _refuse(path, [(rows[-1][0], f"all classes are of {only!r}, must be two coarse classes or more")])
        names = tuple(tuple(row["name"] for row in group) for group in groups.values())
        return cls(tuple(groups), names, tuple(tuple(row["folder"] for row in group) for group in groups.values()))


# A problem: (line number in the file, what is wrong there).
Problem: TypeAlias = tuple[int, str]
Rows: TypeAlias = list[tuple[int, dict[str, Any]]]  # (line number, row)


def _refuse(path: Path, problems: list[Problem]) -> None:
    """Raise ValueError for the lines at fault, each with the first of its problems, if there are any."""
    lines = sorted({line: f"line {line}: {problem}" for line, problem in reversed(problems)}.items())
    if lines:
        rest = len(lines) - MOST_LINES
        more = f"; and {rest} more line{'s' if rest > 1 else ''}" if rest > 0 else ""
        raise ValueError(f"{path}, {'; '.join(text for _, text in lines[:MOST_LINES])}{more}")


def _read_header(path: Path) -> list[str]:
    return [cell.strip() for cell in (csv_rows(path) or [(1, [])])[0][1]]


def _read_rows(path: Path, columns: Sequence[str] = COLUMNS) -> tuple[Rows, list[Problem]]:
    """The rows that have every cell present and filled and whole numbers for indices, and what is wrong with others.

    Also a coarse class that cannot name a file is a problem. Raises ValueError for other columns and for no rows.
    """
    header = _read_header(path)
    if sorted(header) != sorted(columns):
        missing, extra = [c for c in columns if c not in header], [c for c in header if c not in columns]
        told = f"(missing: {', '.join(missing) or 'none'}; extra: {', '.join(extra) or 'none'})"
        columns_are = f"columns {','.join(header) or '(none)'}: must be {','.join(columns)}, each once {told}"
        _refuse(path, [(1, columns_are)])
    rows: Rows = []
    problems: list[Problem] = []
    for line, cells in csv_rows(path)[1:]:
        if len(cells) != len(header):
            problems.append((line, f"{len(cells)} cells, must be {len(header)}: {','.join(header)}"))
            continue
        row: dict[str, Any] = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        indices = [key for key in ("class_index", "fine_index") if key in columns]
        wrong = [(line, f"{key} is empty, must be given") for key in columns if not row[key]] or [
            (line, f"{key} {row[key]!r} must be a whole number, 0 or more")
            for key in indices
            if not re.fullmatch("[0-9]{1,9}", row[key])
        ]
        problems += wrong
        if not wrong:
            rows.append((line, row | {key: int(row[key]) for key in indices}))
    if not rows and not problems:
        problems = [(1, "no class follows the column names, must be one row per fine class")]
    return rows, [*problems, *_unfit_coarse(rows)]


def _unfit_coarse(rows: Rows) -> Iterator[Problem]:
    """Each coarse class can name a file of weights, and no two of them the same one."""
    first: dict[str, tuple[str, int]] = {}
    for line, row in rows:
        coarse = row["coarse"]
        if not all(character in NAME_SIGNS or unicodedata.category(character)[0] in "LMN" for character in coarse):
            yield line, f"coarse {coarse!r} must consist of letters, digits, spaces, - and _"
        if len(coarse.encode()) > LONGEST_NAME:  # a file's name ends at 255 bytes
            yield line, f"coarse {coarse[:20]!r}... has {len(coarse.encode())} bytes, at most {LONGEST_NAME}"
        other, on = first.setdefault(same_file(coarse), (coarse, line))
        if other != coarse:
            yield line, f"coarse {coarse!r} would name the same file of weights as {other!r} on line {on}"


def file_name(coarse: str) -> str:
    """What a coarse class is called in the name of a file."""
    return coarse.replace(" ", "_")


def same_file(coarse: str) -> str:
    """Coarse classes for which this is equal have files of one name, on some disks: big cat, big_cat and Big_Cat."""
    return unicodedata.normalize("NFKC", file_name(coarse)).casefold()


def _wrong_folders(rows: Rows) -> Iterator[Problem]:
    """Each row names a folder below the folder of photographs, once; names are filled in and told apart."""
    first: dict[tuple, int] = {}
    for line, row in rows:
        folder = PurePosixPath(row["folder"])
        if folder.is_absolute() or ".." in folder.parts or set("\\:") & set(row["folder"]):
            yield line, f"folder {row['folder']!r} must lie below the folder of photographs, such as birds/owl"
        row["folder"] = str(folder)
        row.setdefault("name", folder.name)
        for what, key in (("folder", row["folder"]), ("(coarse, name)", (row["coarse"], row["name"]))):
            if first.setdefault((what, key), line) != line:
                yield line, f"{what} {key!r} must be there once, is already on line {first[what, key]}"


def _unknown_classes(rows: Rows, known: Mapping[str, int] | None) -> Iterator[Problem]:
    """Each row names a class that can exist: all that is knowable without ImageNet, and what `known` adds."""
    for line, row in rows:
        id_, index = row["wnid"], row["class_index"]
        is_wnid = re.fullmatch("n[0-9]{8}", id_)
        own_id = f"{row['coarse']}/{row['name']}"
        if not is_wnid and id_ != own_id:
            yield line, f"unknown class {id_!r}, must be a wnid such as n01440764, or {own_id!r}"
        if is_wnid and index >= N_IMAGENET:
            yield line, f"unknown class_index {index} for {id_}, must be within 0..{N_IMAGENET - 1}"
        if known is not None and id_ not in known:
            yield line, f"unknown class {id_!r}, must be one of the {len(known)} known ones"
        elif known is not None and index != known[id_]:
            yield line, f"class_index {index} for {id_}, must be {known[id_]}"


def _repeated(rows: Rows) -> Iterator[Problem]:
    """Every class is there once."""
    keys: dict[str, Callable[[dict], Any]] = {
        "wnid": lambda row: row["wnid"],
        "class_index": lambda row: row["class_index"],
        "(coarse, fine_index)": lambda row: (row["coarse"], row["fine_index"]),
    }
    for what, key in keys.items():
        first: dict[Any, int] = {}
        for line, row in rows:
            on = first.setdefault(key(row), line)
            if on != line:
                yield line, f"{what} {key(row)!r} must be there once, is already on line {on}"


def _gaps(rows: Rows) -> Iterator[Problem]:
    """The fine indices of a coarse class are 0, 1, 2, ..."""
    sizes = Counter(row["coarse"] for _, row in rows)
    used = {(row["coarse"], row["fine_index"]) for _, row in rows}
    for line, row in rows:
        coarse, size = row["coarse"], sizes[row["coarse"]]
        if row["fine_index"] >= size:  # no pair is there twice, so a gap shows as one too large
            gap = min(j for j in range(size) if (coarse, j) not in used)
            problem = f"fine_index {row['fine_index']} of {coarse!r} leaves a gap, {gap} is missing: "
            yield line, f"{problem}the {size} fine classes of {coarse!r} must be numbered 0..{size - 1}"


def _out_of_order(rows: Rows) -> Iterator[Problem]:
    """ImageNet's 1000 classes are numbered in order of wnid, so a slip can show without that list."""
    imagenet = sorted((row["class_index"], row["wnid"], line) for line, row in rows if "/" not in row["wnid"])
    for (_, below, below_line), (index, id_, line) in pairwise(imagenet):
        if id_ < below:
            problem = f"class_index {index} for {id_} must be smaller than that of {below} (line {below_line}): "
            yield line, f"{problem}ImageNet numbers its classes in order of wnid"
