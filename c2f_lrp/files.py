"""Files that are whole or not there: written under a temporary name and renamed."""

import contextlib
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write a file or a folder to; it becomes `path` at the end of the block.

    Where the block fails or is interrupted, what it wrote is removed and `path` is as it was. Raises OSError that names
    `path`: a full disk says only that it is full.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise OSError(f"{path} could not be written ({error.strerror or error}); it is as it was before") from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
