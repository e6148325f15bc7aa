"""A stand-in for Slurm's commands on one machine, for tests: sbatch, srun, sacct, scancel, scontrol requeue and sinfo.

It does what submitit relies on: arrays, a limit on how many tasks run at once, and requeueing. Every task has a file with its
state in the folder that SLURM_STAND_IN names. It knows no time: tests send the signal by which Slurm says that a limit is near,
when a task has come as far as they need, so that they do not depend on how fast a machine is.
"""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol", "sinfo")
PARTITIONS = ("gpu", "cpu")
ASKED = "asked"
"""Name of the file that says that sacct was called."""


def install(folder: Path) -> dict[str, str]:
    """Write the commands into a folder, and return the variables of the environment by which they are found."""
    folder.mkdir(parents=True)
    for name in COMMANDS:
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" {name} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
    (folder / "state").mkdir()
    return {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_STAND_IN": str(folder / "state")}


def trainers(state: Path) -> dict[str, psutil.Process]:
    """The processes that run submitted functions, by the number of their job."""
    found = {}
    for file in state.glob("*.pid"):
        try:
            process = psutil.Process(int(file.read_text()))
            for each in [process, *process.children(recursive=True)]:
                if "submitit.core._submit" in " ".join(each.cmdline()) and "srun" not in each.cmdline():
                    found[file.stem] = each
        except (psutil.NoSuchProcess, ValueError):
            continue
    return found


def _state() -> Path:
    return Path(os.environ["SLURM_STAND_IN"])


def _set(job: str, state: str) -> None:
    draft = _state() / f"{job}.{os.getpid()}.draft"
    draft.write_text(state)
    os.replace(draft, _state() / f"{job}.state")


def sbatch(file: str) -> int:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", Path(file).read_text(), re.MULTILINE))
    if options.get("partition", PARTITIONS[0]) not in PARTITIONS:
        print(f"sbatch: error: invalid partition specified: {options['partition']}", file=sys.stderr)
        print("sbatch: error: Batch job submission failed: Invalid partition name specified", file=sys.stderr)
        return 1
    number = str(1000 + len(list(_state().glob("*.job"))))
    (_state() / f"{number}.job").write_text(Path(file).read_text())
    tasks = re.match(r"0-(\d+)%(\d+)", options.get("array", ""))
    names = [f"{number}_{task}" for task in range(int(tasks[1]) + 1)] if tasks else [number]
    for name in names:
        _set(name, "PENDING")
    subprocess.Popen(
        [sys.executable, __file__, "serve", number, tasks[2] if tasks else "1", *names],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(_state() / f"{number}.log").open("w"),
    )
    print(f"Submitted batch job {number}")
    return 0


def serve(number: str, most: str, *names: str) -> int:
    """Run the tasks of a job, at most so many at once, until all have ended."""
    script = _state() / f"{number}.job"
    waiting, running = list(names), {}
    while waiting or running:
        for name in [each for each in waiting if (_state() / f"{each}.cancel").exists()]:
            waiting.remove(name)
            _set(name, "CANCELLED")
        while waiting and len(running) < int(most):
            name = waiting.pop(0)
            running[name] = _run(script, name)
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                again = _state() / f"{name}.requeue"
                if again.exists():
                    again.unlink()
                    _set(name, "PENDING")
                    waiting.append(name)
                elif (_state() / f"{name}.cancel").exists():
                    _set(name, "CANCELLED")
                else:
                    _set(name, "COMPLETED" if process.returncode == 0 else "FAILED")
                continue
            if (_state() / f"{name}.cancel").exists() and name in trainers(_state()):
                trainers(_state())[name].send_signal(signal.SIGTERM)
        time.sleep(0.2)
    return 0


def _run(script: Path, name: str) -> subprocess.Popen:
    job, _, task = name.partition("_")
    environment = {"SLURM_JOB_ID": job, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
    environment |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    environment |= {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": task} if task else {}
    process = subprocess.Popen(["bash", str(script)], env=os.environ | environment, start_new_session=True)
    (_state() / f"{name}.pid").write_text(str(process.pid))
    _set(name, "RUNNING")
    return process


def srun(*arguments: str) -> int:
    files, command = {}, list(arguments)
    while command[0].startswith("--"):
        option = command.pop(0)
        if option in ("--output", "--error"):
            files[option] = command.pop(0)
    variables = {"%A": "SLURM_ARRAY_JOB_ID", "%a": "SLURM_ARRAY_TASK_ID", "%j": "SLURM_JOB_ID", "%t": "SLURM_PROCID"}
    for option, descriptor in (("--output", 1), ("--error", 2)):
        path = files[option]
        for pattern, variable in variables.items():
            path = path.replace(pattern, os.environ.get(variable, ""))
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    # A job has its cores for itself: here one, as far as there are enough.
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")) % len(cores)]})
    os.execvp(command[0], command)


def sacct(*arguments: str) -> int:
    wanted = {arguments[place + 1] for place, each in enumerate(arguments) if each == "-j"}
    (_state() / ASKED).touch()
    print("JobID|State|NodeList")
    for file in sorted(_state().glob("*.state")):
        if file.stem.partition("_")[0] in wanted:
            print(f"{file.stem}|{file.read_text()}|here")
    return 0


def scancel(job: str, *_: str) -> int:
    for file in _state().glob("*.state"):
        if file.stem == job or file.stem.startswith(f"{job}_"):
            (_state() / f"{file.stem}.cancel").touch()
    return 0


def scontrol(_: str, job: str) -> int:
    (_state() / f"{job}.requeue").touch()
    return 0


def sinfo(*_: str) -> int:
    print("\n".join(PARTITIONS))
    return 0


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](*sys.argv[2:]))
