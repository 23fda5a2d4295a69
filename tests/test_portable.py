"""Nothing that Windows and macOS lack."""

import ast
import builtins
import importlib
import pkgutil
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [file for name in ("nnunet_cardiac", "planners", "trainers", "dataset_conversion")
           for file in sorted((ROOT / name).rglob("*.py"))]  # fmt: skip
UNIX = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "crypt")
OF_OS = {"fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "getpgrp", "setpgid", "setsid", "killpg", "nice",
         "sched_getaffinity", "sched_setaffinity", "register_at_fork", "mkfifo", "uname", "statvfs", "getloadavg",
         "chown", "wait", "wait3", "wait4", "WNOHANG", "O_NONBLOCK", "pread", "sysconf"}  # fmt: skip
OF_SIGNAL = {name for name in dir(signal) if name.startswith("SIG")} - {"SIGINT", "SIGTERM", "SIGABRT", "SIGFPE",
             "SIGILL", "SIGSEGV", "SIGBREAK", "SIG_DFL", "SIG_IGN"}  # fmt: skip
OF_POPEN = {"preexec_fn", "pass_fds", "user", "group", "umask"}


def test_every_module_can_be_imported_without_what_only_unix_has(monkeypatch):
    """Ours; PyTorch and others know how to do without, each in its own way."""
    wanted = builtins.__import__

    def on_windows(name, globals=None, *more, **options):
        importer = (globals or {}).get("__name__", "")
        if importer.startswith("nnunet_cardiac") and name in UNIX:
            raise ImportError(f"{importer} imports {name}")
        return wanted(name, globals, *more, **options)

    monkeypatch.setattr(builtins, "__import__", on_windows)
    with pytest.raises(ImportError, match="nnunet_cardiac.mine imports fcntl"):
        exec("import fcntl", {"__name__": "nnunet_cardiac.mine"})
    before = take_ours_away()
    try:
        package = importlib.import_module("nnunet_cardiac")
        names = [module.name for module in pkgutil.walk_packages(package.__path__, "nnunet_cardiac.")]
        assert len(names) > 100
        for name in names:
            if not name.endswith("__main__"):
                importlib.import_module(name)
    finally:
        take_ours_away()
        sys.modules.update(before)


def take_ours_away() -> dict[str, ModuleType]:
    """Removes our modules, so that they are imported anew, and returns them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "nnunet_cardiac"}


def unix_only(source: str) -> set[str]:
    """What a module uses of Unix without asking ``hasattr`` or catching ``ImportError``."""
    found, asked = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Try):
            asked |= {alias.name for part in node.body if isinstance(part, ast.Import) for alias in part.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in UNIX}
        elif isinstance(node, ast.ImportFrom) and node.module in UNIX:
            found.add(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
            asked |= {node.args[1].value} if isinstance(node.args[1], ast.Constant) else set()
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = {"os": OF_OS, "signal": OF_SIGNAL}.get(node.value.id, set())
            found |= {node.attr} & names
        elif isinstance(node, ast.keyword) and node.arg in OF_POPEN:
            found.add(node.arg)
    return found - asked


def test_what_only_unix_has_is_found():
    code = "import os, fcntl, signal\nos.fork()\nos.kill(0, signal.SIGKILL)\nPopen([], pass_fds=[1])"
    assert unix_only(code) == {"fcntl", "fork", "SIGKILL", "pass_fds"}
    asking = "try:\n    import resource\nexcept ImportError:\n    pass\nif hasattr(os, 'nice'):\n    os.nice(1)"
    assert unix_only(asking) == set()


def test_nothing_is_used_that_only_unix_has():
    used = {str(file.relative_to(ROOT)): unix_only(file.read_text(encoding="utf-8")) for file in SOURCES}
    assert {name: names for name, names in used.items() if names} == {}
