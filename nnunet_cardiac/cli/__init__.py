"""The command ``nnunet_cardiac``.

Each command is a module here: ``add_parser`` describes its options, ``run`` does the work. Heavy imports stand in
``run``, so that ``--help`` and mistakes are answered at once.
"""

import argparse
import io
import os
import select
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version

from nnunet_cardiac.cli import (
    benchmark,
    cine,
    convert,
    cost,
    demo,
    env,
    evaluate,
    info,
    measure,
    models,
    plan_and_preprocess,
    predict,
    report,
    train,
)
from nnunet_cardiac.environment import ALLOW_CODE
from nnunet_cardiac.errors import sentence
from nnunet_cardiac.lock import waiting
from nnunet_cardiac.processes import Stopped, kill_children, stopped_by_signals
from nnunet_cardiac.texts import message

COMMANDS = (
    convert, plan_and_preprocess, train, predict, cine, models, evaluate, measure, benchmark, report, cost, env, info,
    demo,
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Exits with 1 and one sentence where the user can mend it, with 2 for wrong options, with
    128 and its number after a signal."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    for stream in (sys.stdout, sys.stderr):  # to files and pipes, Windows writes in a code page of few letters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    if getattr(options, "allow_code", False):
        os.environ[ALLOW_CODE] = "1"  # for this process and those that it starts
    try:
        with stopped_by_signals(), waiting(getattr(options, "wait", False)):
            failures = options.run(options)
            sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():  # but a process of ours has died
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)  # as a shell says SIGPIPE
    except Exception as e:
        if (said := sentence(e)) is None:
            raise
        sys.exit(f"nnunet_cardiac: error: {message(said)}")
    except Stopped as e:
        kill_children()
        print(f"nnunet_cardiac: {e}", file=sys.__stderr__)  # the demo sends the other one to a file
        sys.exit(e.exit_status)
    if failures:
        sys.exit(1)


def _nobody_reads() -> bool:
    """Whether the other end of standard output is closed, as ``| head`` does when it has read enough."""
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLERR)
    return bool(poll.poll(0))


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = argparse.ArgumentParser(
        "nnunet_cardiac",
        description="Published cardiac-MR segmentation architectures inside an unmodified nnU-Net v2.",
        epilog="A whole experiment: convert, benchmark. Step by step: plan_and_preprocess, train, predict, evaluate. "
        "To see it all in minutes: demo. Every command explains itself: nnunet_cardiac COMMAND --help",
    )
    root.add_argument("--version", action="version", version=f"nnunet_cardiac {_version()}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return root


def _version() -> str:
    try:
        return version("nnunet-cardiac")
    except PackageNotFoundError:
        return "of a checkout that is not installed"
