"""A private Slurm of one node, for tests: its own key, ports and folder, and nothing of a Slurm that is installed."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
CORES, MEMORY_MB = 4, 2000
"""Of the node, as it says: nothing is really kept from others."""
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=0
JobRequeue=0
KillWait=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory}
PartitionName=all Nodes=ALL Default=YES
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
    return [program for program in PROGRAMS if shutil.which(program, path=path) is None]


@contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """Inside, Slurm runs; what it writes is in the folder. Yields what its commands need in the environment."""
    (folder / "state").mkdir(parents=True)
    (folder / "spool").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().split(".")[0], ports=ports, folder=folder, cores=CORES, memory=MEMORY_MB,
            user=subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip(),
        )
    )  # fmt: skip
    environment = {"SLURM_CONF": str(configuration), "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])}
    srun = folder / "bin" / "srun"  # for Snakemake's plugin, which takes SLURM_CONF out of a job's environment
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF="{configuration}" exec "{shutil.which("srun")}" "$@"\n')
    srun.chmod(0o755)
    files = [
        f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")
    ]
    with ExitStack() as stack:
        for command in (
            ["munged", "--foreground", "--force", f"--key-file={key}", *files],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            stack.enter_context(_running(command, environment, folder))
        _wait_until_idle(environment)
        try:
            yield environment
        finally:  # they would outlive Slurm
            subprocess.run(["scancel", "--me", "--signal=KILL", "--full"], env=os.environ | environment)


@contextmanager
def _running(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[None]:
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
    with open(folder / f"{command[0]}.out", "w") as out:
        process = subprocess.Popen(
            command, env=os.environ | environment | {"PATH": path}, stdout=out, stderr=out, cwd=folder
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_idle(environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 30
    while True:
        sinfo = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], env=os.environ | environment, capture_output=True, text=True
        )
        if sinfo.stdout.strip() == "idle":
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"Slurm's node is not idle: {sinfo.stdout}{sinfo.stderr}")
        time.sleep(0.2)
