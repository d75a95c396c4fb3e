"""Files that are whole or not there, written under a temporary name and renamed; tables in text, read with care."""

import contextlib
import csv
import hashlib
import io
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, overload

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@overload
def atomic_write(first: Path, second: Path, /, *more: Path) -> AbstractContextManager[tuple[Path, ...]]: ...
@overload
def atomic_write(path: Path, /) -> AbstractContextManager[Path]: ...
@contextlib.contextmanager
def atomic_write(*paths: Path) -> Iterator[Any]:
    """Temporary names beside `paths` to write files (or a folder) to; they become `paths` at the end of the block.

    One path gives one name, several give a tuple, and all are renamed or none. Where the block fails or is
    interrupted, what it wrote is removed and `paths` are as they were. Raises OSError that names them: a full disk says
    only that it is full.
    """
    paths = tuple(map(Path, paths))
    # A name may have 255 bytes, of which a character takes up to four.
    parts = tuple(path.with_name(f"{path.name[:40]}.{uuid.uuid4().hex[:8]}.part") for path in paths)
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield parts[0] if len(parts) == 1 else parts
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    except OSError as error:
        names = ", ".join(map(str, paths))
        raise OSError(f"{names} could not be written ({error.strerror or error}); it is as it was before") from error
    finally:
        for part in parts:
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # of the parent, when that is what failed
                    part.unlink()


def writable_folder(folder: Path, option: str = "--out") -> Path:
    """The folder, made where it is missing, once a file could be written to it: hours of work may follow.

    Raises OSError that says what to do.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written to ({error.strerror or error}); name another folder with {option}"
        ) from error


@contextlib.contextmanager
def alone(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock `path` while the block runs; it goes when the process ends, however it ends.

    Where another process holds it: waits for it, or raises OSError, in which `what` says what that is doing. Without a
    word where the system or the disk has no such locks.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"another run {what} (it holds {path}); wait until it ends, or use other folders") from error
        except OSError:
            pass
        yield


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def csv_rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line number where it begins, its cells) of each row that is not empty; of the file's first line, too.

    The file is UTF-8, with or without a byte-order mark, and lines end in any of the usual ways. Raises ValueError that
    names file and line for what is not, such as UTF-16 and Latin-1 from a spreadsheet, and for a quote without its end.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no table {path}")
    content, rows = Path(path).read_bytes(), []
    save_as = "save it as CSV UTF-8"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path}, line 1: the file is in UTF-16; {save_as}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(content[: error.start].decode(errors="replace").splitlines() or [""])
        line += content[: error.start].endswith((b"\n", b"\r"))
        byte = f"byte 0x{content[error.start]:02x}"
        raise ValueError(f"{path}, line {line}: {byte} is not UTF-8, but perhaps Latin-1; {save_as}") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{path}, line {line}: there is a zero byte, as in no text; {save_as}")
    reader, begins = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    try:
        for cells in reader:
            if cells:
                rows.append((begins, cells))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {begins}: {error}, in the row that begins here; look for its quotes") from error
    return rows


def csv_table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, row by the names in the first line) of a file that `csv_rows` reads.

    Raises ValueError that names file and line for a row that is longer or shorter than the first one.
    """
    (_, header), *rows = csv_rows(path) or [(1, [])]
    for line, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{path}, line {line}: {len(cells)} cells, must be {len(header)}: {','.join(header)}")
    return [(line, dict(zip(header, cells, strict=True))) for line, cells in rows]
