"""A program of the fork server's folder: hands its call to the server, and waits for the exit code.

Run as a file by a Python without packages, so that it takes milliseconds.
"""

import json
import os
import signal
import socket
import sys
from types import FrameType

if __name__ == "__main__":
    server = socket.socket(socket.AF_UNIX)
    server.connect(os.environ["PPAP_FORK_SERVER"])
    socket.send_fds(server, [b"."], [0, 1, 2])
    here = os.getcwd()  # noqa: PTH109 (to import pathlib takes as long as all else here)
    server.sendall(json.dumps([sys.argv[1], sys.argv[2:], here, dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    answers = server.makefile()
    process = int(answers.readline())

    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(process, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    sys.exit(int(answers.readline() or 1))
