"""Programs that start in milliseconds: a server has imported what they need, and forks for each call.

A process takes some seconds of processor time to import torch, and many jobs of a small preset take no longer. Where
the folder of `environment()` comes first on PATH, `ppap` hands its call to the server (`fork_client`), and waits for its
exit code: a graph of hundreds of jobs costs their work, and one import. What a job gives is equal to the byte.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.metadata
import json
import os
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ppap.workflow import fork_client

OF_JOBS = ("ppap.workflow.steps", "ppap.workflow.figures", "sklearn.datasets", "timm", "torch_fidelity")
"""What most jobs import, beyond what their preset names."""


def environment(programs: Sequence[str] = ("ppap",), imported: Sequence[str] = OF_JOBS) -> dict[str, str]:
    """Start a server that ends with this process, and return the variables of processes whose programs start by it.

    Programs are console scripts of this Python environment. They start by themselves where there is no Linux, and where
    /tmp may hold no programs.
    """
    if "PPAP_FORK_SERVER" in os.environ:
        return {}  # this process was started by one
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if not hasattr(os, "pidfd_open"):
        return {"PATH": path}
    folder = tempfile.TemporaryDirectory(prefix="ppap", dir="/tmp")  # a socket's path is short
    atexit.register(folder.cleanup)
    address = f"{folder.name}/socket"
    for program in programs:
        command = shlex.join([sys.executable, "-IS", fork_client.__file__, program])
        file = Path(folder.name, program)
        file.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        file.chmod(0o755)
        if not os.access(file, os.X_OK):
            return {"PATH": path}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        server = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()", str(listening.fileno()), *imported],
            pass_fds=[listening.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # no threads before a fork; torch gets the number of each call
            start_new_session=True,  # Ctrl-C is for the clients, which pass it on
        )
    atexit.register(server.communicate)  # which closes its input, and waits
    return {"PATH": f"{folder.name}:{path}", "PPAP_FORK_SERVER": address}


def serve() -> None:
    """Import, and then fork for each call, until the process that started this one lets go of it."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.freeze()
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready = select.select([listening, sys.stdin, *running], [], [])[0]
        if sys.stdin in ready:
            os._exit(0)
        for ended in running.keys() & set(ready):
            process, connection = running.pop(ended)
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            _tell(connection, code % 256)
            connection.close()
            os.close(ended)
        if listening in ready:
            connection, _ = listening.accept()
            process = os.fork()
            if not process:
                listening.close()
                _run(connection)
            _tell(connection, process)
            running[os.pidfd_open(process)] = process, connection


def _tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any longer
        connection.sendall(b"%d\n" % number)


def _run(connection: socket.socket) -> NoReturn:
    """Become the program that is called."""
    import torch

    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile() as call:
        program, arguments, where, variables = json.load(call)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    os.chdir(where)
    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(int(variables.get("OMP_NUM_THREADS", 1)))
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=program)
    sys.argv = [str(Path(sys.executable).with_name(program)), *arguments]
    sys.path.insert(0, str(Path(sys.executable).parent))
    try:
        code = entry.load()()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
