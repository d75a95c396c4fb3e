"""Downloads and archives. Nothing here runs unless a command asks for it.

A file is fetched over https only and has its name once its checksum is right; an archive is unpacked whole or not at
all, and none of its members can leave the folder.
"""

import hashlib
import tarfile
import zipfile
import zlib
from http.client import HTTPException
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, build_opener

from tqdm.auto import tqdm

from c2f_lrp.files import atomic_write
from c2f_lrp.files import sha256 as sha256_of

TIMEOUT = 60  # seconds without a byte
BLOCK = 1 << 20


class _HttpsOnly(HTTPRedirectHandler):
    def redirect_request(self, request, file, code, message, headers, url):
        check_https(url)
        return super().redirect_request(request, file, code, message, headers, url)


def check_https(url: str) -> None:
    if not url.startswith("https://"):
        raise ValueError(f"{url} is not fetched: it is no https address, and what comes otherwise could be anyone's")


def fetch(url: str, path: Path, sha256: str) -> Path:
    """Download `url` to the file `path`, whose SHA-256 (64 hexadecimal digits) must be as given; returns `path`.

    A file that is there with this checksum is kept, one with another is replaced. Raises ValueError for an address
    that is not https, also after a redirect, and for a wrong checksum; OSError where the connection or the disk
    fails. In each case `path` is as it was.
    """
    check_https(url)
    if len(sha256) != 64:
        raise ValueError(f"the SHA-256 given for {url} is {sha256!r}; give all 64 hexadecimal digits")
    path = Path(path)
    if path.is_file() and sha256_of(path) == sha256:
        return path
    try:
        answer = build_opener(_HttpsOnly).open(url, timeout=TIMEOUT)
    except (URLError, TimeoutError) as error:
        raise OSError(f"{url} could not be fetched ({getattr(error, 'reason', error)}); try again later") from error
    digest, expected = hashlib.sha256(), int(answer.headers.get("Content-Length", 0))
    with atomic_write(path) as part:
        with (
            answer,
            part.open("wb") as file,
            tqdm(total=expected or None, desc=path.name, unit="B", unit_scale=True) as bar,
        ):
            try:
                while block := answer.read(BLOCK):
                    digest.update(block)
                    bar.update(file.write(block))
            except HTTPException as error:
                raise OSError(f"the connection to {url} broke off: {error}") from error
        if bar.n < expected:
            raise OSError(f"the connection to {url} ended after {bar.n} of {expected} bytes; try again")
        if digest.hexdigest() != sha256:
            raise ValueError(
                f"{url} has SHA-256 {digest.hexdigest()}, but {sha256} is expected; it was altered on the way or is "
                "not the file meant: nothing was kept"
            )
    return path


def extract(archive: Path | IO[bytes], folder: Path, name: str | None = None) -> int:
    """Unpack a tar archive (also compressed) or a zip archive into the new folder `folder`; returns how many files.

    `archive` may be an open file, such as a member of another archive, with `name` to call it in errors. Raises
    ValueError, and leaves no folder, for a member whose place is absolute or outside the folder, for one that is no
    plain file or folder (a link, a device), for a damaged or truncated archive, and for a folder that holds something.
    """
    folder = Path(folder)
    name = name or str(archive)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already and not empty; name a new folder to unpack {name} into")
    if isinstance(archive, str | Path):
        if not Path(archive).is_file():
            raise FileNotFoundError(f"there is no archive {archive}")
        with Path(archive).open("rb") as file:
            return extract(file, folder, name)
    is_zip = zipfile.is_zipfile(archive)
    archive.seek(0)
    with atomic_write(folder) as part:
        part.mkdir()
        try:
            count = (_unpack_zip if is_zip else _unpack_tar)(archive, part, name)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, RuntimeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
            raise ValueError(f"{name} cannot be unpacked ({reason}); give a whole tar or zip archive") from error
        if not count:
            raise ValueError(f"{name} holds no file; give a whole tar or zip archive")
        if folder.is_dir():  # empty: see above
            folder.rmdir()
    return count


def _unpack_tar(file: IO[bytes], folder: Path, name: str) -> int:
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError("Python 3.11.4 or newer is needed, whose tarfile can tell harmless members")
    count = 0
    with tarfile.open(fileobj=file) as archive, tqdm(archive, f"unpacking {name}", unit="file", leave=False) as members:
        for member in members:
            if not (member.isfile() or member.isdir()):
                raise _refusal(name, member.name, "is a link or a device, not a file")
            _check_place(name, member.name)
            # The data filter checks the place once more, and drops owners and permission bits.
            archive.extract(member, folder, filter="data")
            count += member.isfile()
        # tarfile takes an archive that was cut between two members for a whole one. A compressed one has an end of
        # its own, which has been read.
        if archive.fileobj is file:
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise EOFError("it ends early")
    return count


def _unpack_zip(file: IO[bytes], folder: Path, name: str) -> int:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for member in members:
            _check_place(name, member.filename)
        with tqdm(members, f"unpacking {name}", unit="file", leave=False) as bar:
            for member in bar:
                archive.extract(member, folder)  # compares the member's own checksum; a link would become a plain file
    return sum(not member.is_dir() for member in members)


def _check_place(archive: str, member: str) -> None:
    if PurePosixPath(member).is_absolute() or PureWindowsPath(member).anchor:
        raise _refusal(archive, member, "has an absolute place")
    if ".." in PurePosixPath(member.replace("\\", "/")).parts:
        raise _refusal(archive, member, "has '..' in its place")


def _refusal(archive: str, member: str, problem: str) -> ValueError:
    return ValueError(f"{archive}: its member {member!r} {problem}; nothing was unpacked, get it from its publisher")
