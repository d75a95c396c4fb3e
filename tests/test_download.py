"""Downloads and archives: https only, checksummed, whole or not there, and nothing leaves its folder."""

import hashlib
import io
import ssl
import subprocess
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from c2f_lrp.download import extract, fetch

CONTENT = bytes(range(256)) * 9000  # more than one block
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/weights")
        elif self.path == "/moved-to-http":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/weights")
        elif self.path == "/missing":
            self.send_response(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            if self.path == "/broken":
                self.wfile.write(CONTENT[: len(CONTENT) // 2])
            else:
                self.wfile.write(CONTENT)
            return
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real https server with a certificate of its own; yields its address and the certificate's file."""
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    command = [*command.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("the command openssl, which makes the server's certificate, is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("localhost", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_port}", certificate
        server.shutdown()
        thread.join()


@pytest.fixture
def trusted(server, monkeypatch):
    address, certificate = server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("no_proxy", "localhost")
    return address


def test_a_file_is_fetched_kept_and_replaced_when_it_is_another(trusted, tmp_path):
    path = tmp_path / "new" / "weights"
    assert fetch(f"{trusted}/moved", path, SHA256) == path
    assert path.read_bytes() == CONTENT
    assert fetch("https://localhost:1/nobody-listens", path, SHA256) == path  # it is there: nothing is asked for
    path.write_bytes(b"other")
    fetch(f"{trusted}/weights", path, SHA256)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "place, sha256, error, message",
    [
        ("/broken", SHA256, OSError, f"ended after {len(CONTENT) // 2} of {len(CONTENT)} bytes"),
        ("/weights", "0" * 64, ValueError, f"has SHA-256 {SHA256}, but {'0' * 64} is expected"),
        ("/weights", SHA256[:8], ValueError, "give all 64 hexadecimal digits"),
        ("/missing", SHA256, OSError, "could not be fetched .*Not Found"),
        ("/moved-to-http", SHA256, ValueError, "http://localhost:.* is not fetched: it is no https address"),
    ],
)
def test_what_goes_wrong_leaves_the_file_as_it_was(trusted, tmp_path, place, sha256, error, message):
    path = tmp_path / "weights"
    for before in (None, b"an earlier version"):
        if before is not None:
            path.write_bytes(before)
        with pytest.raises(error, match=message):
            fetch(trusted + place, path, sha256)
        assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if before is None else [before])


def test_an_unknown_certificate_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(OSError, match="certificate"):
        fetch(f"{server[0]}/weights", tmp_path / "weights", SHA256)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["http://localhost/x", "ftp://localhost/x", "file:///etc/hostname"])
def test_only_https_is_fetched(tmp_path, url):
    with pytest.raises(ValueError, match="it is no https address"):
        fetch(url, tmp_path / "x", SHA256)
    assert not list(tmp_path.iterdir())


def tar(path, *members, mode="w"):
    """A tar archive of (name, content) or TarInfo members."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            information = tarfile.TarInfo(name)
            information.size = len(content)
            archive.addfile(information, io.BytesIO(content))
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    information = tarfile.TarInfo(name)
    information.type, information.linkname = kind, target
    return information


def zipped(path, *members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


GOOD = ("train/n01443537/a.JPEG", b"abc" * 1000), ("train/n01443537/b.JPEG", b"def" * 500)


@pytest.mark.parametrize("ending, make", [("tar", tar), ("tar.gz", lambda *a: tar(*a, mode="w:gz")), ("zip", zipped)])
def test_an_archive_is_unpacked(tmp_path, ending, make):
    archive = make(tmp_path / f"photos.{ending}", *GOOD)
    (tmp_path / "data").mkdir()  # an empty folder may be there
    assert extract(archive, tmp_path / "data") == 2
    for name, content in GOOD:
        assert (tmp_path / "data" / name).read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", archive.name]
    with pytest.raises(ValueError, match="is there already and not empty; name a new folder"):
        extract(archive, tmp_path / "data")


def test_a_member_that_is_an_archive_is_unpacked_from_inside(tmp_path):
    inner = tar(tmp_path / "n01443537.tar", *GOOD)
    outer = tar(tmp_path / "all.tar", ("n01443537.tar", inner.read_bytes()), ("n01443538.tar", b"x" * 2000))
    with tarfile.open(outer) as archive:
        whole_one, bad_one = archive.getmembers()
        assert extract(archive.extractfile(whole_one), tmp_path / "a", name="all.tar: n01443537.tar") == 2
        with pytest.raises(ValueError, match="^all.tar: n01443538.tar cannot be unpacked"):
            extract(archive.extractfile(bad_one), tmp_path / "b", name="all.tar: n01443538.tar")
    assert (tmp_path / "a" / GOOD[0][0]).read_bytes() == GOOD[0][1] and not (tmp_path / "b").exists()


BAD_MEMBERS = {
    "parent": (("../evil", b"x"), "'../evil' has '..' in its place"),
    "hidden parent": (("a/../../evil", b"x"), "'a/../../evil' has '..' in its place"),
    "absolute": (("/tmp/evil", b"x"), "'/tmp/evil' has an absolute place"),
    "drive": (("C:/evil", b"x"), "'C:/evil' has an absolute place"),
    "link": (link("evil", "/etc"), "'evil' is a link or a device, not a file"),
    "hard link": (link("evil", "../x", tarfile.LNKTYPE), "'evil' is a link or a device, not a file"),
    "device": (link("evil", "", tarfile.CHRTYPE), "'evil' is a link or a device, not a file"),
}


@pytest.mark.parametrize(
    "ending, case",
    [("tar", case) for case in BAD_MEMBERS]
    + [("zip", case) for case, (member, _) in BAD_MEMBERS.items() if isinstance(member, tuple)],
)
def test_members_that_could_leave_the_folder_are_refused_by_name(tmp_path, ending, case):
    member, message = BAD_MEMBERS[case]
    place = tmp_path / "deep" / "place"
    place.mkdir(parents=True)
    archive = (tar if ending == "tar" else zipped)(place / f"photos.{ending}", GOOD[0], member)
    with pytest.raises(ValueError) as error:
        extract(archive, place / "data")
    assert f"{archive}: its member {message}; nothing was unpacked" in str(error.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive] and not (place / "data").exists()


def cut_inside(content):
    return content[: len(content) // 2]


def cut_between(content):
    """After the first member, where tarfile sees no fault: its header, three thousand bytes in six blocks."""
    return content[: 512 * 7]


@pytest.mark.parametrize(
    "mode, damage",
    [("w", cut_inside), ("w", cut_between), ("w:gz", cut_inside), ("w:xz", cut_inside), ("w", lambda content: b"no")],
    ids=["tar cut inside", "tar cut between members", "tar.gz cut", "tar.xz cut", "no archive"],
)
def test_a_damaged_archive_leaves_no_folder(tmp_path, mode, damage):
    archive = tar(tmp_path / "photos", *GOOD, mode=mode)
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(ValueError, match="photos cannot be unpacked .*; give a whole tar or zip archive"):
        extract(archive, tmp_path / "data")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_damaged_zip_leaves_no_folder(tmp_path):
    archive = zipped(tmp_path / "photos.zip", *GOOD)
    content = bytearray(archive.read_bytes())
    content[100] ^= 1  # inside the first member, whose own checksum tells
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="photos.zip cannot be unpacked .*Bad CRC-32"):
        extract(archive, tmp_path / "data")
    assert list(tmp_path.iterdir()) == [archive]


def test_no_archive_and_an_empty_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no archive .*nowhere.tar"):
        extract(tmp_path / "nowhere.tar", tmp_path / "data")
    with pytest.raises(ValueError, match="holds no file"):
        extract(tar(tmp_path / "empty.tar"), tmp_path / "data")
    assert not (tmp_path / "data").exists()
