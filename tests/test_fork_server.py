"""Programs that a fork server starts do what they do when they start by themselves."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ppap.config import reading as presets
from ppap.workflow import fork_server
from ppap.workflow.preset_file import prepare_first_job
from tests import warm
from tests.conftest import SMOKE

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux alone has a fork server")
ALONE, FORKED = str(Path(sys.executable).with_name("ppap")), "ppap"
SLOW = """
import os, time

def classifier(**options):
    print(os.getpid(), flush=True)
    while True:  # Python does not see a signal that comes just before a sleep until the sleep ends
        time.sleep(0.01)
"""


def started(program: str, *arguments: object, cwd: Path) -> subprocess.Popen[str]:
    command, variables = [program, *map(str, arguments)], os.environ | warm.environment()
    piped = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=variables, stdin=piped, stdout=piped, stderr=piped, text=True)


def test_a_job_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    job = started(FORKED, "pretrain", SMOKE, "resnet", cwd=tmp_path)
    assert "step 30 of 30" in job.communicate()[1] and job.returncode == 0
    made = Path("results", "smoke", "models", "resnet.safetensors")
    assert (tmp_path / made).read_bytes() == (built / made).read_bytes()


@pytest.mark.parametrize(("preset", "code"), [(SMOKE, 0), ("nowhere.yaml", 2)])
def test_a_call_says_the_same_and_ends_with_the_same_code(preset: str | Path, code: int, tmp_path: Path) -> None:
    calls = [started(program, "config", "check", preset, cwd=tmp_path) for program in (ALONE, FORKED)]
    said = [(*call.communicate(), call.returncode) for call in calls]
    assert said[0] == said[1] and said[0][2] == code and said[0][0] + said[0][1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_job(number: signal.Signals, preset_file, tmp_path: Path) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("who started the tests ignores the signal, and so does what they start")
    (tmp_path / "slow.py").write_text(SLOW)
    path = preset_file(guides__resnet__model="user:slow.classifier")
    jobs = [started(program, "pretrain", path, "resnet", cwd=tmp_path) for program in (ALONE, FORKED)]
    processes = [int(job.stdout.readline()) for job in jobs]
    for job in jobs:
        job.send_signal(number)
        job.wait(timeout=60)
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert all(job.returncode for job in jobs)


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import os, subprocess\n"
        "from ppap.workflow import fork_server\n"
        "os.environ.update(fork_server.environment(imported=['ppap']))\n"
        "assert fork_server.environment() == {}\n"
        "print(os.environ['PPAP_FORK_SERVER'], flush=True)\n"
        "subprocess.run(['ppap', '--help'], check=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    address, said = done.stdout.split("\n", 1)
    assert "Usage: ppap [OPTIONS] COMMAND" in said and not Path(address).parent.exists()
    with pytest.raises(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(address)


@pytest.mark.parametrize(
    ("device", "local", "forks"),
    [("cpu", True, True), ("auto", True, False), ("cuda", True, False), ("cpu", False, False)],
)
def test_jobs_of_the_processor_here_are_forked(
    device: str, local: bool, forks: bool, preset_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA does not outlive a fork, and a job under Slurm runs elsewhere."""
    monkeypatch.setattr(os, "environ", {**os.environ})
    monkeypatch.setattr(fork_server, "environment", lambda: {"PPAP_FORK_SERVER": "here"})
    checks = []
    done = subprocess.CompletedProcess((), 0)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: checks.append(command) or done)
    path = preset_file(runtime={"device": device})
    workflow = SimpleNamespace(_onstart=lambda log: None, touch=False, local_exec=local)
    prepare_first_job(workflow, str(path), presets.load(path))
    workflow._onstart(None)
    assert ("PPAP_FORK_SERVER" in os.environ) == forks
    assert [command[-4:] for command in checks] == [["config", "check", str(path), "--files"]]
