"""One attempt to transfer a file over HTTP (what a partial one lacks, or all of it), and what came instead."""

from __future__ import annotations

import contextlib
import html
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import requests
import urllib3

from ppap.utils.progress import Bar

_CHUNK = 1 << 16
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_FINAL = (
    requests.TooManyRedirects,
    *(requests.exceptions.SSLError, requests.exceptions.InvalidURL),
    *(requests.exceptions.InvalidSchema, requests.exceptions.InvalidHeader),
)


class BrokenTransferError(Exception):
    """A transfer that another attempt may carry further; the server may ask for a pause (seconds) first."""

    def __init__(self, reason: str, pause: float = 0) -> None:
        super().__init__(reason)
        self.pause = pause


class RefusedTransferError(Exception):
    """A transfer that would end the same however often it were tried."""


class Version(NamedTuple):
    """What a partial file is part of: its address, its ETag or time of change, and the size of the whole."""

    url: str
    validator: str
    size: int | None


def transfer(url: str, partial: Path, stall: float) -> None:
    """Append what is missing to a partial file, which exists and may be empty.

    Nothing but the rest of the very version that is there is appended; another version replaces it.
    `stall` is how many seconds to wait for a byte. BrokenTransferError keeps what has arrived, RefusedTransferError leaves
    the file as it was; OSError if it cannot be written.
    """
    have = partial.stat().st_size
    version = _version(partial, url) if have else None
    headers = {"User-Agent": "ppap", "Accept-Encoding": "identity"}
    if version:  # If-Range: the rest of this version, or else all of the new one
        headers |= {"Range": f"bytes={have}-", "If-Range": version.validator}
    with (
        _network_errors(),
        requests.get(url, headers=headers, stream=True, timeout=stall) as response,
    ):
        match response.status_code:
            case 200:
                _write_whole(url, partial, response)
            case 206 | 416:  # the rest, or: nothing is left
                size = _continued_size(response, version, have)
                if size is None:
                    forget_version(partial)
                    raise BrokenTransferError("the server offers another part than was asked for")
                if response.status_code == 206:
                    _append(partial, response.iter_content(_CHUNK), size)
            case status if status in _TRY_AGAIN:
                raise BrokenTransferError(_status(response), _pause(response))
            case _:
                raise RefusedTransferError(_status(response))


def forget_version(partial: Path) -> None:
    """Have the next attempt begin anew."""
    _version_file(partial).unlink(missing_ok=True)


def nature(path: Path) -> str:
    """What an unexpected file obviously is; nothing if it is binary or cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(4096)
        if not head:
            return "; it is empty"
        if page := _web_page(head):
            return f"; it is {page}"
        start = " ".join(head.decode(errors="replace").split())[:60]
        if start.isprintable() and "\ufffd" not in start:
            return f'; it is text ("{start}")'
    return ""


def _web_page(head: bytes) -> str | None:
    """What a file is if it begins (`head`) as a web page does: "a web page" and its title."""
    if not re.match(
        rb"(\xef\xbb\xbf)?\s*<(!--|(!doctype|html|head|body|meta|\?xml)\b)", head, re.I
    ):
        return None
    found = re.search(rb"<title[^>]*>(.*?)</title>", head, re.I | re.S)
    title = " ".join(html.unescape(found[1].decode(errors="replace")).split()) if found else ""
    shown = "".join(filter(str.isprintable, title))[:80]
    return f'a web page ("{shown}")' if shown else "a web page"


def _write_whole(url: str, partial: Path, response: requests.Response) -> None:
    chunks = response.iter_content(_CHUNK)
    first = next(chunks, b"")
    if page := _web_page(first):  # a log-in, or an error that calls itself a success
        raise RefusedTransferError(f"the answer is {page}")
    encoded = "Content-Encoding" in response.headers  # lengths and ranges are of what is encoded
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() and not encoded else None
    forget_version(partial)
    partial.write_bytes(b"")
    if (validator := _validator(response)) and not encoded:
        _version_file(partial).write_text(json.dumps(Version(url, validator, size)), "utf-8")
    _append(partial, itertools.chain([first], chunks), size)


def _append(partial: Path, chunks: Iterable[bytes], size: int | None) -> None:
    with (
        partial.open("ab") as file,
        Bar(total=size, initial=file.tell(), name=partial.name, unit="B", unit_scale=True) as bar,
    ):
        for chunk in chunks:
            file.write(chunk)
            bar.update(len(chunk))
    have = partial.stat().st_size
    if size is not None and have != size:
        raise BrokenTransferError(f"{have} bytes have arrived instead of {size}")


def _continued_size(response: requests.Response, version: Version | None, have: int) -> int | None:
    """The size of the whole file if this is the rest of `version` after `have` bytes, else None.

    Content-Range says "bytes FIRST-LAST/SIZE", or "bytes */SIZE" where nothing is left.
    """
    said = response.headers.get("Content-Range", "").strip()
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", said)
    if version is None or found is None or "Content-Encoding" in response.headers:
        return None
    first, size = int(found[1] or found[2]), int(found[2])
    same = _validator(response) in {version.validator, None} and version.size in {size, None}
    return size if same and first == have else None


def _validator(response: requests.Response) -> str | None:
    """What tells a version from others byte by byte: a strong ETag, else the time of the last change."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _version_file(partial: Path) -> Path:
    return partial.with_name(f".{partial.name}.version")


def _version(partial: Path, url: str) -> Version | None:
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        version = Version(*json.loads(_version_file(partial).read_text("utf-8")))
        return version if version.url == url else None
    return None


def _status(response: requests.Response) -> str:
    return f"{response.status_code} {response.reason or ''}".strip()


def _pause(response: requests.Response) -> float:
    try:
        return urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except urllib3.exceptions.InvalidHeader:
        return 0


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    try:
        yield
    except _FINAL as error:
        raise RefusedTransferError(_cause(error)) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise BrokenTransferError(_cause(error)) from None


def _cause(error: BaseException) -> str:
    """What the system says, without what `requests` and `urllib3` say around it."""
    while error.__context__ is not None:
        error = error.__context__
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(reason.split())
