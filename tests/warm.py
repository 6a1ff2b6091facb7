"""Programs that start in milliseconds: a server has imported what they need, and forks for each call.

`environment()` has a folder first on PATH in which `ppap`, `snakemake` and `dvc` are programs that hand their call to
the server and wait for its exit code. So a graph of a hundred jobs costs the work of its jobs, not a hundred imports of
torch. That programs also start by themselves is seen where tests run them without it, and under Slurm.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import importlib.metadata
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import NoReturn

PROGRAMS = ("ppap", "snakemake", "dvc")
IMPORTED = (
    "ppap.workflow.steps", "ppap.workflow.rules", "ppap.workflow.preset_file", "ppap.workflow.check",
    "ppap.workflow.figures", "ppap.report.sheet", "timm", "torch._dynamo", "torch_fidelity", "sklearn.datasets",
    "seaborn", "snakemake.cli", "snakemake.workflow", "snakemake.scheduling.job_scheduler",
    "snakemake.executors.local", "snakemake_executor_plugin_slurm", "dvc.cli.parser", "dvc.repo", "dvc.fs",
)  # fmt: skip
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = json.dumps([{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [b"."], [0, 1, 2])
server.sendall(call)
server.shutdown(socket.SHUT_WR)
answers = server.makefile()
process = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(process, number))
sys.exit(int(answers.readline() or 1))
"""


@functools.cache
def environment() -> dict[str, str]:
    """Start this process's server, which ends with it, and return the variables of programs that start through it."""
    plain = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if not hasattr(os, "pidfd_open"):  # not Linux
        return {"PATH": plain}
    folder = tempfile.TemporaryDirectory(prefix="warm")
    atexit.register(folder.cleanup)
    address = f"{folder.name}/socket"
    for program in PROGRAMS:
        client = Path(folder.name, program)
        client.write_text(CLIENT.format(python=sys.executable, address=address, program=program))
        client.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        command = [sys.executable, "-m", "tests.warm", str(listening.fileno())]
        server = subprocess.Popen(
            command, cwd=Path(__file__).parent.parent, pass_fds=[listening.fileno()],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    atexit.register(server.communicate)  # which closes its input, and waits
    return {"PATH": f"{folder.name}:{plain}"}


def serve(listening: socket.socket) -> None:
    """Import, and then fork for each call, until the process that started this one lets go of it."""
    for module in IMPORTED:
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
            tell(connection, code % 256)
            connection.close()
            os.close(ended)
        if listening in ready:
            connection, _ = listening.accept()
            process = os.fork()
            if not process:
                listening.close()
                run(connection)
            tell(connection, process)
            running[os.pidfd_open(process)] = process, connection


def tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any longer
        connection.sendall(b"%d\n" % number)


def run(connection: socket.socket) -> NoReturn:
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
    sys.path[0] = str(Path(sys.executable).parent)
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


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
