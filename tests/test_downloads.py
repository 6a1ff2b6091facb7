"""Downloads from servers of all kinds: resumed, checked, remembered, placed by hand."""

import errno
import gzip
import hashlib
import http.server
import json
import logging
import os
import re
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from ppap.data.downloads import Downloads, Patience
from ppap.data.settings import Download
from ppap.utils.errors import DataError

CONTENT = bytes([0x80, 2]) + os.urandom(300_000)  # binary from its first byte on
OTHER = bytes([0x80, 3]) + os.urandom(310_000)
SHA = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html>\n<html><head><title> Log\n in &amp; accept</title></head></html>"
HALF = 2 << 16


class Server(http.server.BaseHTTPRequestHandler):
    """Gives the next answer of a script; when it is over, serves CONTENT as a good server does."""

    protocol_version = "HTTP/1.1"
    script: ClassVar[list[Callable[["Server"], None]]] = []
    asked: ClassVar[list[str | None]] = []
    answered: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range"))
        answer = self.script.pop(0) if self.script else good()
        answer(self)

    def send(self, status: int, headers: dict[str, object]) -> None:
        self.close_connection = True
        self.answered.append(status)
        self.send_response(status)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


Answer = Callable[[Server], None]


def reply(
    body: bytes = b"", status: int = 200, length: int | None = -1, **headers: object
) -> Answer:
    """An answer as it is; `length` is what Content-Length says, if it is not the truth (None: nothing)."""
    named: dict[str, object] = {name.replace("_", "-"): value for name, value in headers.items()}
    if length is not None:
        named["Content-Length"] = len(body) if length < 0 else length

    def answer(server: Server) -> None:
        server.send(status, named)
        server.wfile.write(body)

    return answer


def good(content: bytes = CONTENT, etag: str = '"one"', end: int | None = None) -> Answer:
    """What a good server answers, and how far it gets."""

    def answer(server: Server) -> None:
        asked, start = server.headers.get("Range"), 0
        if asked and server.headers.get("If-Range") == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            server.send(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0})
            return
        span = (
            {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        )
        length = {"Content-Length": len(content) - start, "ETag": etag}
        server.send(206 if start else 200, length | span)
        server.wfile.write(content[start:end])

    return answer


def chunked(*chunks: bytes, closed: bool = True, **headers: object) -> Answer:
    def answer(server: Server) -> None:
        server.send(200, {"Transfer-Encoding": "chunked", **headers})
        for chunk in [*chunks, b""] if closed else chunks:
            server.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if not closed:
            server.wfile.write(b"ffff\r\nless")

    return answer


def reset(server: Server) -> None:
    """Break the connection so that the client is told."""
    server.close_connection = True
    server.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.connection.close()
    server.wfile = server.rfile = open(os.devnull, "r+b")  # noqa: SIM115, PTH123


@pytest.fixture
def server() -> Iterator[str]:
    Server.script.clear()
    Server.asked.clear()
    Server.answered.clear()
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/model.pt"
    running.shutdown()
    running.server_close()


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    patience = Patience(stall=30, attempts=3, pause=0)
    return Downloads(tmp_path / "downloads", tmp_path / "downloads.lock", patience)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("ppap.data.downloads.time.sleep", found.append)
    return found


def fetch(downloads: Downloads, url: str, expected: bytes | None = CONTENT, **wanted: Any) -> Path:
    """Download a file, which is of its format if it is what is expected, or anything where this is None."""
    with downloads.file(Download(url=url, **wanted)) as path:
        if expected is not None and path.read_bytes() != expected:
            raise DataError(f"{path}: not in the expected format")
        name = path.name
    there = downloads.folder / name
    return there if there.exists() else path


def remembered(downloads: Downloads) -> dict[str, Any]:
    return json.loads(downloads.lock.read_text()) if downloads.lock.exists() else {}


def unfinished(downloads: Downloads) -> Path:
    return downloads.folder / "unfinished" / "model.pt"


# -- what arrives ----------------------------------------------------------------------------------


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server, downloads) -> None:
    Server.script[:] = [good(end=HALF), good(end=2 * HALF)]
    path = fetch(downloads, server)
    assert path == downloads.folder / "model.pt" and path.read_bytes() == CONTENT
    assert Server.asked == [None, f"bytes={HALF}-", f"bytes={2 * HALF}-"]
    assert Server.answered == [200, 206, 206]
    assert not list((downloads.folder / "unfinished").iterdir())


def test_as_long_as_something_arrives_attempts_do_not_run_out(server, downloads) -> None:
    Server.script[:] = [good(end=n << 16) for n in (1, 2, 3, 4)]
    assert fetch(downloads, server).read_bytes() == CONTENT


def test_what_one_command_has_transferred_another_goes_on_with(server, downloads) -> None:
    Server.script[:] = [good(end=HALF), *[reply(status=503)] * 3]
    with pytest.raises(
        DataError, match="503 Service Unavailable, 3 times in a row; what has arrived"
    ):
        fetch(downloads, server)
    assert unfinished(downloads).stat().st_size == HALF and not remembered(downloads)
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert Server.asked[-1] == f"bytes={HALF}-"


def test_a_file_that_changes_in_between_is_downloaded_anew(server, downloads) -> None:
    Server.script[:] = [good(OTHER, '"zero"', HALF)]
    assert fetch(downloads, server).read_bytes() == CONTENT


def part(
    start: int, size: int = len(CONTENT), etag: str | None = '"one"', **headers: object
) -> Answer:
    headers |= {"ETag": etag} if etag else {}
    headers.setdefault("Content_Range", f"bytes {start}-{size - 1}/{size}")
    return reply(CONTENT[start:], 206, **headers)


@pytest.mark.parametrize(
    "wrong",
    [
        part(HALF - 1),
        reply(
            CONTENT[HALF - 1 : -1],
            206,
            ETag='"one"',
            Content_Range=f"bytes {HALF - 1}-{len(CONTENT) - 2}/{len(CONTENT)}",
        ),
        part(HALF, size=len(CONTENT) + 1),
        part(HALF, etag='"two"'),
        part(HALF, Content_Range="nonsense"),
        part(HALF, Content_Range=f"bytes {HALF}-{len(CONTENT) - 1}/*"),
        reply(CONTENT[HALF:], 206),
        part(HALF, Content_Encoding="gzip"),
        reply(b"", 416),
        reply(b"", 416, Content_Range=f"bytes */{HALF - 1}"),
        reply(b"", 416, Content_Range=f"bytes */{HALF}"),
    ],
    ids=[
        *(
            "other range",
            "other range of the right length",
            "other size",
            "other version",
            "nonsense",
            "no size",
            "no range",
        ),
        *("encoded", "nothing left", "too long", "another whole size"),
    ],
)
def test_an_answer_that_does_not_go_on_is_not_appended(server, downloads, wrong) -> None:
    Server.script[:] = [good(end=HALF), wrong]
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert Server.asked == [None, f"bytes={HALF}-", None]


def test_a_part_that_nobody_asked_for_is_not_taken(server, downloads) -> None:
    Server.script[:] = [part(HALF)] * 3
    with pytest.raises(DataError, match="offers another part than was asked for, 3 times"):
        fetch(downloads, server)
    assert unfinished(downloads).stat().st_size == 0


def test_a_part_need_not_repeat_its_version_nor_go_to_the_end(server, downloads) -> None:
    middle = reply(
        CONTENT[HALF : 2 * HALF], 206, Content_Range=f"bytes {HALF}-{2 * HALF - 1}/{len(CONTENT)}"
    )
    Server.script[:] = [good(end=HALF), middle]
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert Server.asked[-1] == f"bytes={2 * HALF}-"


def test_a_whole_file_that_was_not_proved_is_not_transferred_again(server, downloads) -> None:
    with pytest.raises(DataError, match="not in the expected format; if it is the wrong file"):
        fetch(downloads, server, expected=b"what a mistyped preset expects")
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert Server.asked == [None, f"bytes={len(CONTENT)}-"] and not Server.script


@pytest.mark.parametrize(
    "answers",
    [
        [reply(CONTENT)],
        [reply(CONTENT[:HALF], length=len(CONTENT)), reply(CONTENT)],
        [reply(CONTENT, length=None)],
        [chunked(CONTENT[:HALF], CONTENT[HALF:])],
        [chunked(CONTENT[:HALF], closed=False), reply(CONTENT)],
        [chunked(CONTENT[:HALF], closed=False, ETag='"one"'), good()],
        [reply(CONTENT[:HALF], length=len(CONTENT), ETag='W/"one"'), reply(CONTENT)],
        [reply(gzip.compress(CONTENT), Content_Encoding="gzip", ETag='"one"')],
        [reset, good()],
    ],
    ids=[
        *("no ranges", "broken without ranges", "no length", "chunked", "broken chunks"),
        *("broken chunks with ranges", "weak version", "encoded", "reset"),
    ],
)  # fmt: skip
def test_servers_of_all_kinds_give_the_file(server, downloads, answers) -> None:
    Server.script[:] = answers
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert len(Server.asked) == len(answers) and remembered(downloads)[server]["sha256"] == SHA


@pytest.mark.parametrize(
    "first",
    [
        reply(CONTENT[:HALF], length=len(CONTENT)),
        reply(CONTENT[:HALF], length=len(CONTENT), ETag='W/"one"'),
        reply(
            gzip.compress(CONTENT)[:HALF],
            length=len(CONTENT),
            ETag='"one"',
            Content_Encoding="gzip",
        ),
    ],
    ids=["no version", "weak version", "encoded"],
)
def test_what_cannot_be_continued_byte_by_byte_begins_anew(server, downloads, first) -> None:
    Server.script[:] = [first]
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert Server.asked == [None, None]


def test_a_part_from_another_address_is_not_continued(server, downloads) -> None:
    Server.script[:] = [good(end=HALF), reply(status=404)]
    with pytest.raises(DataError, match="404"):
        fetch(downloads, server)
    Server.asked.clear()
    fetch(downloads, server.replace("/model.pt", "/v2/model.pt"))
    assert Server.asked == [None]


def test_a_time_of_change_will_do_where_there_is_no_etag(server, downloads) -> None:
    changed = formatdate(1_700_000_000, usegmt=True)
    rest = part(HALF, etag=None, Last_Modified=changed)
    Server.script[:] = [reply(CONTENT[:HALF], length=len(CONTENT), Last_Modified=changed), rest]
    assert fetch(downloads, server).read_bytes() == CONTENT and len(Server.asked) == 2


def test_what_was_cut_where_nobody_says_how_long_it_is_heals(server, downloads) -> None:
    Server.script[:] = [reply(CONTENT[:HALF], length=None, ETag='"one"')]
    with pytest.raises(DataError, match="not in the expected format"):
        fetch(downloads, server)
    assert not remembered(downloads)
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert Server.asked == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("length", [len(CONTENT) - 1, len(CONTENT) + 1], ids=["longer", "shorter"])
def test_a_body_of_another_length_is_not_accepted(server, downloads, length: int) -> None:
    Server.script[:] = [reply(CONTENT, length=length)] * 3
    with pytest.raises(DataError):
        fetch(downloads, server)
    assert not remembered(downloads) and not (downloads.folder / "model.pt").exists()
    Server.script.clear()
    assert fetch(downloads, server).read_bytes() == CONTENT


def test_an_odd_length_is_as_good_as_none(server, downloads) -> None:
    Server.script[:] = [reply(CONTENT, length=None, **{"Content-Length": "many"})]
    assert fetch(downloads, server).read_bytes() == CONTENT


# -- what is not a file ----------------------------------------------------------------------------


def test_a_web_page_with_status_200_is_named_and_costs_nothing_that_has_arrived(
    server, downloads
) -> None:
    Server.script[:] = [good(end=HALF), reply(PAGE, ETag='"page"')]
    with pytest.raises(DataError, match=r'the answer is a web page \("Log in & accept"\)'):
        fetch(downloads, server)
    assert not remembered(downloads)
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert Server.asked[-1] == f"bytes={HALF}-"


@pytest.mark.parametrize(
    ("body", "nature"),
    [
        (b"", "it is empty"),
        (b'{"error": "no\n such file"}', r'it is text \("{"error": "no such file"}"\)'),
        (b"version https://git-lfs.github.com/spec/v1\noid", "it is text .*git-lfs"),
        (b"\x80\x02\x00", "expected format; if it is the wrong file"),
    ],
    ids=["empty", "json", "a pointer", "binary"],
)
def test_what_is_not_of_the_format_is_named_and_not_remembered(
    server, downloads, body: bytes, nature: str
) -> None:
    Server.script[:] = [reply(body, ETag='"wrong"')]
    with pytest.raises(DataError, match=nature) as refused:
        fetch(downloads, server)
    assert "\n" not in str(refused.value) and not remembered(downloads)
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert remembered(downloads)[server]["sha256"] == SHA


def test_only_a_block_that_ends_well_takes_a_file_over(server, downloads) -> None:
    with pytest.raises(ZeroDivisionError), downloads.file(Download(url=server)):
        raise ZeroDivisionError
    assert not remembered(downloads) and not (downloads.folder / "model.pt").exists()


# -- what a server says ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["/weights/model.pt", "new/model.pt", "//localhost:PORT/model.pt"]
)
def test_redirects_are_followed(server, downloads, place: str) -> None:
    port = server.split(":")[2].partition("/")[0]
    Server.script[:] = [reply(status=302, Location=place.replace("PORT", port))]
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert list(remembered(downloads)) == [server]


@pytest.mark.parametrize("place", ["/model.pt", "ftp://127.0.0.1/model.pt", "file:///etc/passwd"])
def test_redirects_that_lead_nowhere_end(server, downloads, place: str, pauses) -> None:
    Server.script[:] = [reply(status=302, Location=place)] * 40
    with pytest.raises(
        DataError, match=r"cannot be downloaded \((Exceeded|No connection adapters)"
    ):
        fetch(downloads, server)
    assert not pauses


def test_a_server_that_stalls_is_asked_again(server, downloads) -> None:
    released = threading.Event()

    def stall(server: Server) -> None:
        good(end=HALF)(server)
        server.wfile.flush()
        released.wait(20)

    Server.script[:] = [stall]
    impatient = Downloads(
        downloads.folder, downloads.lock, Patience(stall=0.5, attempts=30, pause=0)
    )
    try:
        assert fetch(impatient, server).read_bytes() == CONTENT
    finally:
        released.set()
    assert Server.asked[:2] == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_is_busy_is_asked_again(server, downloads, status: int) -> None:
    Server.script[:] = [reply(status=status)] * 2
    assert fetch(downloads, server).read_bytes() == CONTENT


def test_pauses_double_and_a_server_may_ask_for_longer_ones(server, downloads, pauses) -> None:
    patience = Patience(attempts=6, pause=1, longest_pause=50)
    busy = [None, "7", "86400", formatdate(usegmt=True), "soon"]
    Server.script[:] = [reply(status=503, **({"Retry_After": b} if b else {})) for b in busy]
    fetch(Downloads(downloads.folder, downloads.lock, patience), server)
    assert pauses == [1, 7, 50, 8, 16]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_server_that_refuses_is_not_asked_again(server, downloads, status: int) -> None:
    Server.script[:] = [reply(status=status)]
    place = re.escape(str(downloads.folder / "model.pt"))
    with pytest.raises(
        DataError, match=rf"cannot be downloaded \({status} \w+.*place it as {place}"
    ):
        fetch(downloads, server)
    assert len(Server.asked) == 1


def test_without_network_the_error_says_where_to_place_the_file(downloads, caplog) -> None:
    url, place = "http://127.0.0.1:9/model.pt", downloads.folder / "model.pt"
    with pytest.raises(
        DataError,
        match=rf"\(Connection refused, 3 times in a row.*place it as {re.escape(str(place))} and run",
    ):
        fetch(downloads, url)
    assert caplog.messages == [f"{url}: Connection refused; trying again in 0 s"] * 2
    place.write_bytes(CONTENT)
    assert fetch(downloads, url) == place


# -- what is remembered ----------------------------------------------------------------------------


def test_a_file_is_downloaded_once_for_all_presets(server, downloads) -> None:
    for _ in range(2):
        fetch(downloads, server)
    assert len(Server.asked) == 1


def test_the_first_download_is_remembered_and_later_ones_must_be_the_same(
    server, downloads
) -> None:
    path = fetch(downloads, server)
    entry = {"sha256": SHA, "size": len(CONTENT), "file": "model.pt"}
    assert remembered(downloads) == {server: entry}
    path.write_bytes(OTHER)
    with pytest.raises(DataError, match=rf"model.pt: its sha256 is .*, but .*lock says {SHA}"):
        fetch(downloads, server)
    assert path.read_bytes() == OTHER


@pytest.mark.parametrize("printed", [SHA[:8], SHA], ids=["its first digits", "all of it"])
def test_what_the_publisher_prints_is_checked(server, downloads, printed: str) -> None:
    fetch(downloads, server, sha256=printed)
    wrong = ("0" if printed[0] != "0" else "1") + printed[1:]
    with pytest.raises(DataError, match=f"but its publisher says {wrong}"):
        fetch(downloads, server, sha256=wrong)


def test_a_page_that_an_older_version_remembered_is_got_rid_of_by_what_the_errors_say(
    server, downloads
) -> None:
    path = downloads.folder / "model.pt"
    path.parent.mkdir()
    path.write_bytes(PAGE)
    entry = {"sha256": hashlib.sha256(PAGE).hexdigest(), "size": len(PAGE)}
    downloads.lock.write_text(json.dumps({server: entry}))
    advice = (
        rf"delete it and run the same command again, .*; if {re.escape(str(downloads.lock))} "
        rf"remembers a wrong one, delete its entry of {re.escape(server)}"
    )
    with pytest.raises(DataError, match=rf"model.pt: .*; it is a web page .*{advice}"):
        fetch(downloads, server)
    path.unlink()
    with pytest.raises(DataError, match=rf"but .*lock says {entry['sha256']}.*{advice}"):
        fetch(downloads, server)
    downloads.lock.write_text("{}")
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert Server.asked == [None, f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JSON"),
        ('{"http://a/b": {"sha256": "', "Invalid JSON"),
        ("<<<<<<< HEAD", "Invalid JSON"),
        ("\udcff", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ('{"http://a/b": 3}', "http://a/b: Input should be an object"),
        ('{"http://a/b": {}}', "http://a/b: sha256: Field required"),
        ('{"http://a/b": {"sha256": "abc", "size": 1}}', "http://a/b: sha256: .*match pattern"),
        ('{"http://a/b": {"sha256": null, "size": 1}}', "http://a/b: sha256: .*valid string"),
        (json.dumps({"http://a/b": {"sha256": SHA, "size": "much"}}), "http://a/b: size: .*integer"),
    ],
)  # fmt: skip
def test_a_damaged_lock_is_one_line_before_anything_is_downloaded(
    server, downloads, text: str, message: str
) -> None:
    downloads.lock.write_text(text, errors="surrogateescape")
    with pytest.raises(DataError, match=rf"downloads\.lock: {message}") as refused:
        fetch(downloads, server)
    assert "\n" not in str(refused.value) and not Server.asked


def test_a_folder_in_the_locks_place_is_one_line(server, downloads) -> None:
    downloads.lock.mkdir()
    with pytest.raises(DataError, match=r"downloads\.lock: cannot be read: Is a directory"):
        fetch(downloads, server)


# -- what is placed by hand ------------------------------------------------------------------------


def test_a_wrong_file_that_was_placed_by_hand_is_named_and_kept(server, downloads) -> None:
    path = downloads.folder / "model.pt"
    path.parent.mkdir()
    path.write_bytes(PAGE)
    with pytest.raises(DataError, match=r"it is a web page .* delete it and run the same command"):
        fetch(downloads, server)
    assert path.read_bytes() == PAGE and not Server.asked and not remembered(downloads)


def test_a_file_of_the_same_name_from_elsewhere_is_not_taken_for_it(server, downloads) -> None:
    fetch(downloads, server)
    second = server.replace("/model.pt", "/v2/model.pt")
    with pytest.raises(DataError, match=rf"is what {re.escape(server)} is.*name of its own"):
        fetch(downloads, second, expected=None)
    assert fetch(downloads, second, file="second.pt").name == "second.pt"


@pytest.mark.parametrize("write", [str, Path.as_uri], ids=["path", "url"])
def test_a_file_of_this_machine_is_used_in_place_and_not_remembered(
    downloads, tmp_path: Path, write
) -> None:
    path = tmp_path / "my own.pt"
    path.write_bytes(CONTENT)
    assert fetch(downloads, write(path), sha256=SHA) == path
    assert not downloads.lock.exists() and not downloads.folder.exists()
    with pytest.raises(DataError, match=r"my own\.pt: its sha256 is .* but its publisher says 00"):
        fetch(downloads, write(path), sha256="0" * 8)
    with pytest.raises(DataError, match=r"nowhere\.pt: no such file$"):
        fetch(downloads, write(tmp_path / "nowhere.pt"))
    with pytest.raises(DataError, match=r"is a folder, not a file$"):
        fetch(downloads, write(tmp_path))


def test_a_file_that_may_not_be_read_is_one_line(downloads, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "model.pt").write_bytes(CONTENT)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"model\.pt: cannot be read: Permission denied$"):
        fetch(downloads, str(tmp_path / "model.pt"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/model.bin?download=true", "model.bin"),
        ("https://host/a/model.bin#part", "model.bin"),
        ("https://host/a/model;v=1.bin", "model_v=1.bin"),
        ("https://host/a/my%20model%0a.bin", "my_model_.bin"),
        ("https://host/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("https://host/..%5C..%5Cwin.ini", "win.ini"),
        ("https://host/a/.hidden", "hidden"),
        ("https://host/a/$(rm -r *)`x`.pt", "rm_-r_x_.pt"),
        ("https://host/a/" + "long" * 99 + ".safetensors", "long" * 17 + ".safetensors"),
    ],
)
def test_the_name_of_a_file_is_what_is_safe_of_the_address(url: str, name: str) -> None:
    assert Download(url=url).name == name


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"url": "https://host/a/"}, "does not end in a file name: give `file`"),
        ({"url": "https://host"}, "does not end in a file name"),
        ({"url": "https://host/a/.."}, "does not end in a file name"),
        ({"url": "https://host/a/%2e%2e%2f"}, "does not end in a file name"),
        ({"url": "https://host/a", "file": ".."}, r"file '\.\.'"),
        ({"url": "https://host/a", "file": "a\nb"}, "file"),
        ({"url": "ftp://host/a.pt"}, "neither https:// nor file:// nor a path"),
        ({"url": "file://host/a.pt"}, "on another machine"),
        ({"url": "https://[host/a.pt"}, "Invalid IPv6 URL"),
    ],
)
def test_an_address_without_a_safe_name_is_refused(wanted: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Download.model_validate(wanted)


# -- what the disk does ----------------------------------------------------------------------------


def test_a_full_disk_keeps_what_has_arrived_and_says_so(server, downloads) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))
    try:
        with pytest.raises(
            DataError, match=r"model\.pt: cannot be written: .*; what has arrived is kept$"
        ):
            fetch(downloads, server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert unfinished(downloads).stat().st_size == HALF
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert Server.asked == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize(
    "place", ["downloads", "downloads/unfinished", "downloads/unfinished/model.pt/x"]
)
def test_what_cannot_be_written_is_one_line(server, downloads, tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    with pytest.raises(DataError, match=r"downloads/unfinished/model\.pt: cannot be written: \w+"):
        fetch(downloads, server)
    assert not Server.asked


def test_a_lock_that_cannot_be_written_costs_no_second_download(
    server, downloads, monkeypatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise DataError(f"{path}: cannot be written: Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr("ppap.utils.files.write_json", refuse)
        for _ in range(2):
            with pytest.raises(DataError, match=r"downloads\.lock: cannot be written"):
                fetch(downloads, server)
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert Server.asked[1:] == [f"bytes={len(CONTENT)}-"] * 2


def waiting(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set as soon as somebody says that he waits for another process."""
    said = threading.Event()
    caplog.set_level(logging.INFO)

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for another process" in record.getMessage():
                said.set()

    monkeypatch.setattr(logging.getLogger("ppap.data.downloads"), "handlers", [Listener()])
    return said


def test_two_jobs_that_want_the_same_file_download_it_once(
    server, downloads, caplog, monkeypatch
) -> None:
    said = waiting(caplog, monkeypatch)

    def slow(server: Server) -> None:
        assert said.wait(20)
        good()(server)

    Server.script[:] = [slow]
    patient = Downloads(downloads.folder, downloads.lock, Patience(stall=30))
    found: list[Path] = []
    jobs = [threading.Thread(target=lambda: found.append(fetch(patient, server))) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(30)
    assert [path.read_bytes() == CONTENT for path in found] == [True, True]
    assert len(Server.asked) == 1 and not list((downloads.folder / "unfinished").iterdir())


def test_where_files_cannot_be_locked_this_is_said(server, downloads, caplog, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("ppap.data.downloads.fcntl.flock", refuse)
    assert fetch(downloads, server).read_bytes() == CONTENT
    assert "model.pt: cannot be locked (No locks available)" in caplog.text
