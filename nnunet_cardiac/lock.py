"""One process at a time writes to a target. The lock is the operating system's: what dies lets go of it."""

import errno
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.texts import printable

LOCK = ".lock"
"""Of a folder, in it; gone when it is let go of, and harmless where a kill has left it."""
LONGEST = 60
"""Characters of a file's name, each of 4 bytes at most, that its lock's name has room for."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems without locks answer."""
_waiting: ContextVar[bool] = ContextVar("waiting", default=False)


@contextmanager
def waiting(wait: bool = True) -> Iterator[None]:
    """Inside, ``locked`` waits for other processes, if ``wait``, instead of refusing."""
    before = _waiting.set(wait)
    try:
        yield
    finally:
        _waiting.reset(before)


@contextmanager
def locked(target: Path, way_out: str = "choose another folder with -o", is_file: bool = False) -> Iterator[None]:
    """Keeps other processes from writing to a folder, or file, in the meantime.

    Where the file system has no locks, this is said, and the work is done all the same.

    Args:
        target: a folder, which is made where it does not exist and does not stay empty, or a file
        way_out: what else a user can do, for the messages
        is_file: the target is a file; its lock is beside it

    Raises:
        UserError: another process holds it and ``waiting`` does not say to wait, or it cannot be written
    """
    short = sha256(os.fsencode(target.name)).hexdigest()[:32] if len(target.name) > LONGEST else target.name
    file = target.with_name(f".{short}{LOCK}") if is_file else target / LOCK
    lock = FileLock(file, fallback_to_soft=False)
    made: list[Path] = []
    try:
        made = [folder for folder in file.parents if not folder.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as e:
            occupied = f"{target} is being written by {_holder(file)}"
            if not _waiting.get():
                raise UserError(f"{occupied}: wait for it with --wait, or {way_out}.") from e
            print(printable(f"{occupied}: waiting for it."), file=sys.stderr, flush=True)
            while not lock.is_locked:
                file.parent.mkdir(parents=True, exist_ok=True)  # the other one deletes it, if it is empty
                with suppress(FileNotFoundError):
                    lock.acquire()
    except OSError as e:
        if e.errno not in NO_LOCKS:
            raise UserError(f"{target} cannot be written ({e.strerror}): check its folder, or {way_out}.") from e
        said = f"{target} is on a file system without locks: let no other process write to it."
        print(printable(said), file=sys.stderr)
    try:
        if lock.is_locked:
            _sign(file)
        yield
    finally:
        with suppress(OSError):  # Windows deletes it by itself, after it is let go of
            file.unlink()
        lock.release()
        with suppress(OSError):  # they are not empty
            for folder in made:
                folder.rmdir()


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Waits for a lock file, which stays; without a word, and also where the file system has no locks."""
    lock = FileLock(file, fallback_to_soft=False, preserve_lock_file=True)
    try:
        lock.acquire()
    except OSError as e:
        if e.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()


def _sign(file: Path) -> None:
    """Says in a lock who holds it; behind its first byte, which is what Windows locks."""
    text = f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    with suppress(OSError), open(file, "r+b", buffering=0) as out:
        out.seek(1)
        out.write(text.encode().ljust(200))


def _holder(file: Path) -> str:
    with suppress(OSError), open(file, "rb", buffering=0) as lock:
        lock.seek(1)
        return lock.read(1000).decode(errors="replace").strip() or "another process"
    return "another process"
