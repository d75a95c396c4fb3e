"""Files that are whole or not there: written under a temporary name and renamed."""

import contextlib
import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, overload


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
    parts = tuple(path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part") for path in paths)
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


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
