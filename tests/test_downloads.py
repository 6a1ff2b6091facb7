"""Downloads from a real server: checked, remembered, placed by hand."""

import hashlib
import http.server
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ValidationError

from ppap.data.downloads import Downloads
from ppap.data.settings import Download
from ppap.utils.errors import DataError
from tests.conftest import IMAGENET, refused

CONTENT = bytes([0x80, 2]) + os.urandom(300_000)
OTHER = bytes([0x80, 3]) + os.urandom(310_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Gives the next answer of a script, (status, body, length it claims); when it is over, CONTENT."""

    script: ClassVar[list[tuple[int, bytes, int]]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body, length = self.script.pop(0) if self.script else (200, CONTENT, len(CONTENT))
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.script.clear(), Server.asked.clear()
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/model.pt"
    running.shutdown()
    running.server_close()


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    return Downloads(tmp_path / "downloads", tmp_path / "downloads.lock")


def fetch(downloads: Downloads, url: str, expected: bytes = CONTENT, **wanted: Any) -> Path:
    """Download a file, which is of its format if it is what is expected."""
    with downloads.file(Download(url=url, **wanted)) as path:
        if path.read_bytes() != expected:
            raise DataError(f"{path}: not in the expected format")
    return path


def remembered(downloads: Downloads) -> dict[str, Any]:
    return json.loads(downloads.lock.read_text()) if downloads.lock.exists() else {}


def test_a_file_is_downloaded_once_and_must_stay_what_it_was(server, downloads) -> None:
    for _ in range(2):
        path = fetch(downloads, server)
    assert path == downloads.folder / "model.pt" and Server.asked == ["/model.pt"]
    entry = {"sha256": SHA, "size": len(CONTENT), "file": "model.pt"}
    assert remembered(downloads) == {server: entry}
    path.write_bytes(OTHER)
    with pytest.raises(DataError, match=rf"its sha256 is .*lock, of {server}, says {SHA}; if .*"):
        fetch(downloads, server, OTHER)
    path.unlink()
    assert fetch(downloads, server).read_bytes() == CONTENT


@pytest.mark.parametrize("printed", [SHA[:8], SHA], ids=["its first digits", "all of it"])
def test_what_the_publisher_prints_is_checked(server, downloads, printed: str) -> None:
    fetch(downloads, server, sha256=printed)
    wrong = ("0" if printed[0] != "0" else "1") + printed[1:]
    with pytest.raises(DataError, match=f"but its publisher says {wrong}"):
        fetch(downloads, server, sha256=wrong)


def test_only_what_was_read_is_remembered(server, downloads) -> None:
    Server.script[:] = [(200, b"<html>log in</html>", 19)]
    place = downloads.folder / "model.pt"
    advice = rf"if {re.escape(str(place))} is the wrong file, delete it and run the same command"
    with pytest.raises(DataError, match=rf"not in the expected format; {advice}"):
        fetch(downloads, server)
    assert not remembered(downloads)
    place.unlink()
    fetch(downloads, server)
    with pytest.raises(ZeroDivisionError), downloads.file(Download(url=server + "2")):
        raise ZeroDivisionError
    assert list(remembered(downloads)) == [server]


@pytest.mark.parametrize("answer", [(404, b"", 0), (200, CONTENT[:1000], len(CONTENT))])
def test_what_does_not_arrive_whole_leaves_nothing_and_says_where_to_place_it(server, downloads, answer) -> None:
    Server.script[:] = [answer]
    place = downloads.folder / "model.pt"
    with pytest.raises(DataError, match=rf"cannot be downloaded \(.*place it as {place} and run"):
        fetch(downloads, server)
    assert not list(downloads.folder.iterdir()) and not remembered(downloads)
    place.write_bytes(CONTENT)
    assert fetch(downloads, server) == place and len(Server.asked) == 1
    assert remembered(downloads)[server]["sha256"] == SHA


def test_a_file_of_the_same_name_from_elsewhere_is_not_taken_for_it(server, downloads) -> None:
    fetch(downloads, server)
    second = server.replace("/model.pt", "/v2/model.pt")
    with pytest.raises(DataError, match=rf"is what {re.escape(server)} is.*name of its own"):
        fetch(downloads, second)
    assert fetch(downloads, second, file="second.pt").name == "second.pt"


@pytest.mark.parametrize("write", [str, Path.as_uri], ids=["path", "url"])
def test_a_file_of_this_machine_is_used_in_place_and_not_remembered(downloads, tmp_path: Path, write) -> None:
    path = tmp_path / "my own.pt"
    path.write_bytes(CONTENT)
    assert fetch(downloads, write(path), sha256=SHA) == path
    assert not downloads.lock.exists() and not downloads.folder.exists()
    with pytest.raises(DataError, match=r"my own\.pt: its sha256 is .* but its publisher says 00"):
        fetch(downloads, write(path), sha256="0" * 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<<<<<<< HEAD", "Invalid JSON"),
        ('{"http://a/b": {}}', "http://a/b: sha256: Field required"),
        ('{"http://a/b": {"sha256": "abc", "size": 1}}', "http://a/b: sha256: .*match pattern"),
    ],
)
def test_a_damaged_lock_is_one_line_before_anything_is_downloaded(server, downloads, text: str, message: str) -> None:
    downloads.lock.write_text(text)
    with pytest.raises(DataError, match=rf"downloads\.lock: {message}") as refused:
        fetch(downloads, server)
    assert "\n" not in str(refused.value) and not Server.asked


def test_a_guides_and_an_evaluators_weights_must_be_theirs_to_be_remembered(
    preset_file, server, tmp_path: Path
) -> None:
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "weights.pth")
    body = (tmp_path / "weights.pth").read_bytes()
    Server.script[:] = [(200, body, len(body))]
    wanted = {"url": server}
    preset = preset_file(
        IMAGENET, guides__resnet18__weights=wanted,
        guides__deit_s__weights=wanted, evaluator__weights=wanted,
        evaluator__reference={"archive": wanted},
    )  # fmt: skip
    for name, reason in (
        ("resnet18", "lacks bn1.bias"),
        ("deit_s", "not the weights of timm:deit_small"),
        ("evaluator", "lacks Conv2d_1a_3x3.bn.bias"),
        ("reference", "lacks arr_0; it is no reference batch"),
    ):
        assert reason in refused("download", preset, name, cwd=tmp_path)
    assert not (tmp_path / "downloads.lock").exists()


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ({"url": "https://host/a/model.bin?download=true#part"}, "model.bin"),
        ({"url": "https://host/..%2F..%2Fetc%2Fpasswd"}, "passwd"),
        ({"url": "https://host/a/$(rm -r *)`x`.pt"}, "rm_-r_x_.pt"),
        ({"url": "https://host/a/" + "long" * 99 + ".pt"}, ("long" * 99 + ".pt")[-80:]),
        ({"url": "https://host/a/"}, "does not end in a file name: give `file`"),
        ({"url": "https://host/a/%2e%2e%2f"}, "does not end in a file name"),
        ({"url": "https://host/a", "file": ".."}, r"file '\.\.'"),
        ({"url": "ftp://host/a.pt"}, "neither https:// nor file:// nor a path"),
        ({"url": "file://host/a.pt"}, "on another machine"),
    ],
)
def test_the_name_of_a_file_is_what_is_safe_of_the_address(wanted, name: str) -> None:
    try:
        assert Download.model_validate(wanted).name == name
    except ValidationError as error:
        assert re.search(name, str(error))
