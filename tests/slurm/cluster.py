"""A real Slurm on this machine, private to a test: munged, slurmctld and slurmd in a folder of their own."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "squeue")

CONF = """\
ClusterName=ppap
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=1
ReturnToService=2
KillWait=2
SlurmdTimeout=10
GresTypes=gpu
NodeName=localhost CPUs=4 RealMemory=16000 Gres=gpu:h100:2 State=UNKNOWN
PartitionName=cpu Nodes=localhost Default=YES OverSubscribe=NO State=UP
PartitionName=gpu Nodes=localhost State=UP
PartitionName=short Nodes=localhost State=UP
PartitionName=accelerated Nodes=localhost State=UP
PartitionName=urgent Nodes=localhost PriorityTier=10 State=UP
"""
"""Requeued jobs start again after 5 seconds (cred_expire) instead of 120, a node that is silent for 10 is down."""


def missing() -> list[str]:
    """Programs that this machine lacks (Debian's slurm-wlm and munge have them)."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    return [program for program in PROGRAMS if not shutil.which(program, path=path)]


class Cluster:
    """One node, five partitions, two GPUs faked as links to /dev/null, no accounting. Use it in a `with`.

    Jobs of the partition `urgent` preempt those of the others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a user's shell needs to reach this cluster."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}:/usr/sbin"
        return os.environ | {"PATH": path, "SLURM_CONF": str(self.conf)}

    def __enter__(self) -> Cluster:
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(mode=0o755)
        for gpu in range(2):
            (self.folder / f"gpu{gpu}").symlink_to("/dev/null")
        ports = {"controller": _free_port(), "node": _free_port()}
        self.conf.write_text(CONF.format(folder=self.folder, user=getpass.getuser(), **ports))
        (self.folder / "gres.conf").write_text(f"Name=gpu Type=h100 File={self.folder}/gpu[0-1]\n")
        self._shim()
        self._munge()
        self.start_controller()
        self.start_node()
        self._wait("sinfo", "-h", "-o", "%T", wanted="idle")
        return self

    def __exit__(self, *error: object) -> None:
        self.run("scancel", "--me")
        for _ in range(100):  # let jobs end before the daemons that watch them
            if not self.jobs():
                break
            time.sleep(0.2)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            daemon.wait(timeout=30)

    def start_controller(self) -> None:
        """Start slurmctld; it knows the jobs that it knew when it ended."""
        self._start("slurmctld", "-D", "-f", str(self.conf))

    def start_node(self) -> None:
        """Start slurmd, which is this machine as a node."""
        self._start("slurmd", "-D", "-f", str(self.conf), "-N", "localhost")

    def stop_controller(self) -> None:
        """End slurmctld as its operator does; jobs go on, and it knows them when it starts again."""
        self.daemons["slurmctld"].terminate()
        self.daemons["slurmctld"].wait()

    def crash_node(self) -> None:
        """End slurmd and all jobs at once, as a power cut does; the controller finds out by itself.

        Those that watch jobs end first: one that sees its job end would tell the controller so.
        """
        self.daemons["slurmd"].kill()
        watching = self._steps()
        jobs = [process for step in watching for process in step.children(recursive=True)]
        for process in (*watching, *jobs):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.daemons["slurmd"].wait()

    def _steps(self) -> list[psutil.Process]:
        """The processes by which slurmd watches jobs; psutil cannot read their environment."""
        ours = f"SLURM_CONF={self.conf}".encode()
        found = []
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(OSError):  # it has ended
                if process.info["name"].startswith("slurmstepd"):
                    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                    found += [process] if ours in environment else []
        assert found
        return found

    def answers(self) -> bool:
        return " is UP" in self.run("scontrol", "ping").stdout

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)

    def jobs(self) -> list[str]:
        """Jobs that are queued or running."""
        return self.run("squeue", "-h", "-t", "PD,R,CG,CF,S", "-o", "%i %j %P %T %b").stdout.splitlines()

    def history(self) -> list[dict[str, str]]:
        """All jobs that Slurm remembers, oldest first, with the fields of `scontrol show job`."""
        lines = self.run("scontrol", "show", "job", "--oneliner").stdout.splitlines()
        found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if "JobId=" in line]
        return sorted(found, key=lambda job: int(job["JobId"]))

    def _shim(self) -> None:
        """Snakemake's plugin takes SLURM_CONF from the environment before its inner srun; give it back."""
        shim = self.folder / "bin" / "srun"
        real = shutil.which("srun")
        shim.write_text(f'#!/bin/sh\nSLURM_CONF="{self.conf}" exec {real} "$@"\n')
        shim.chmod(0o755)

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        subprocess.run(["/usr/sbin/mungekey", "-c", "-k", str(key)], check=True)
        options = {
            "key-file": key,
            "socket": self.folder / "munge.socket",
            "pid-file": self.folder / "munge.pid",
            "log-file": self.folder / "munge.log",
            "seed-file": self.folder / "munge.seed",
        }
        self._start("munged", "-F", "-f", *(f"--{name}={path}" for name, path in options.items()))
        while not (self.folder / "munge.socket").exists():
            time.sleep(0.05)

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("ab") as out:
            daemon = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)
        self.daemons[command[0]] = daemon

    def _wait(self, *command: str, wanted: str, seconds: int = 60) -> None:
        for _ in range(10 * seconds):
            if wanted in self.run(*command).stdout:
                return
            time.sleep(0.1)
        logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
        raise RuntimeError(f"Slurm did not start within {seconds} s:\n{logs}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
