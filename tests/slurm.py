"""A real SLURM of one node on this machine, with everything of its own in one folder."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
from pause import wait_for

#: Besides these, what starts jobs is used: sbatch, srun, scancel, squeue, scontrol.
DAEMONS = ("munged", "slurmctld", "slurmd")
NODE = "node"

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/slurmctld
SlurmdSpoolDir={folder}/slurmd
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# Works without control groups, which a container may not have.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# What takes more memory than it asked for is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Four cores, whether or not they are there: what is stated is tested, not how fast it runs.
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000
PartitionName=main Nodes=ALL Default=YES State=UP
"""
#: srun finds the configuration by a variable that the executor plugin drops in jobs.
SRUN = """\
#!/bin/sh
export SLURM_CONF={folder}/slurm.conf
exec {srun} "$@"
"""


def missing() -> str:
    """What keeps a SLURM from being started here; empty if nothing does."""
    absent = [name for name in DAEMONS if not shutil.which(name, path=_search_path())]
    if absent:
        return f"{', '.join(absent)} not installed: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "SLURM's daemons are started by root only"


def _search_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _is(what: Callable[[psutil.Process], bool], process: psutil.Process) -> bool:
    try:
        return what(process)
    except psutil.Error:  # it ended meanwhile
        return False


class Asked(NamedTuple):
    megabytes: float
    minutes: int


class Slurm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("munge", "slurmctld", "slurmd", "bin"):
            (folder / name).mkdir()
        host = socket.gethostname().split(".")[0]
        ports = {"ctld_port": _free_port(), "d_port": _free_port()}
        config = CONFIG.format(folder=folder, host=host, node=NODE, **ports)
        (folder / "slurm.conf").write_text(config)
        srun = folder / "bin" / "srun"
        srun.write_text(SRUN.format(folder=folder, srun=shutil.which("srun")))
        srun.chmod(0o755)
        #: What a run needs to find it.
        self.variables = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}:{_search_path()}",
        }

    def start(self) -> None:
        munge = self.folder / "munge"
        (munge / "key").write_bytes(secrets.token_bytes(128))
        (munge / "key").chmod(0o600)
        files = {"key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
        options = [f"--{option}={munge / name}" for option, name in files.items()]
        self._run("munged", "--force", f"--socket={munge / 'socket'}", *options)
        self.start_slurmctld()
        self.start_slurmd()
        wait_for(lambda: self.node_state() == "idle", "the node")

    def restart_slurmctld(self) -> None:
        pid = int((self.folder / "slurmctld.pid").read_text())
        self.scontrol("shutdown", "slurmctld")
        wait_for(lambda: not psutil.pid_exists(pid), "the end of slurmctld")
        self.start_slurmctld()

    def start_slurmctld(self) -> None:
        self._run("slurmctld")
        wait_for(lambda: "is UP" in self._run("scontrol", "ping", check=False), "slurmctld")

    def start_slurmd(self) -> None:
        self._run("slurmd", "-N", NODE)

    def kill(self, daemon: str) -> None:
        """End a daemon as a power failure would."""
        pid_file = self.folder / ("munge/pid" if daemon == "munged" else f"{daemon}.pid")
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = int(pid_file.read_text())
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not psutil.pid_exists(pid), f"the end of {daemon}")

    def kill_node(self) -> None:
        """End slurmd with everything that runs on the node."""
        self.kill("slurmd")
        # First what would report a job's end, all found before any is killed: others notice.
        found = [
            [p for p in psutil.process_iter() if _is(of_job, p)]
            for of_job in (self._watches_a_job, self._belongs_to_a_job)
        ]
        for process in [*found[0], *found[1]]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs([*found[0], *found[1]])

    def _watches_a_job(self, process: psutil.Process) -> bool:
        return process.name().startswith("slurmstepd") and process.cwd() == str(self.folder)

    def _belongs_to_a_job(self, process: psutil.Process) -> bool:
        environment = process.environ()
        return str(self.folder) in environment.get("PATH", "") and "SLURM_JOB_ID" in environment

    def stop(self) -> None:
        self.kill_node()
        for daemon in ("slurmctld", "munged"):
            self.kill(daemon)

    def scontrol(self, *arguments: str) -> str:
        return self._run("scontrol", *arguments)

    def jobs(self, states: str = "running") -> list[str]:
        """Ids of the jobs in some state, in their order."""
        command = ("squeue", "--noheader", "--format=%i", f"--states={states}")
        return sorted(self._run(*command).split(), key=int)

    def job_state(self, job: str) -> str:
        command = ("squeue", "--noheader", "--format=%T", "--states=all", f"--jobs={job}")
        return self._run(*command).strip()

    def asked(self, job: str) -> Asked:
        """What a job was submitted with."""
        text = self.scontrol("show", "job", job)
        hours, minutes, _ = re.search(r"TimeLimit=(\d+):(\d+):(\d+)", text).groups()
        memory = re.search(r"MinMemoryNode=([\d.]+)([MG])", text)
        megabytes = float(memory[1]) * {"M": 1, "G": 1024}[memory[2]]
        return Asked(megabytes, 60 * int(hours) + int(minutes))

    def log(self, daemon: str) -> str:
        return (self.folder / f"{daemon}.log").read_text()

    def node_state(self) -> str:
        return self._run("sinfo", "--noheader", "--format=%T", check=False).strip()

    def cancel(self, job: str) -> None:
        self._run("scancel", job)

    def _run(self, *command: str, check: bool = True) -> str:
        environment = os.environ | self.variables
        # A file, for a daemon keeps what it inherits open.
        with open(self.folder / "output.log", "w+", encoding="utf-8") as output:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            output.seek(0)
            text = output.read()
        assert done.returncode == 0 or not check, f"{command}: {text}"
        return text
