"""Files that are there as a whole or not at all, and those that a kill has cut off."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_cardiac.errors import UserError

DISK_FULL = "is the disk full?"
PARTIAL = ".partial_"
"""How folders begin in which files are written before they are moved into place."""


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of ``file`` at the block's end, if that is reached.

    It has the same name, which libraries tell the format from, and is in a hidden folder of its own beside ``file``: no
    other process writes there, and nobody takes what a killed one left there for a result.

    Raises:
        OSError: the folder of ``file`` cannot be written
    """
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=PARTIAL) as own:
        partial = Path(own, file.name)
        yield partial
        os.replace(partial, file)


@contextmanager
def writing(target: Path, way_out: str = "choose another folder with -o.") -> Iterator[None]:
    """Inside, an error of the operating system is one of the user's.

    Args:
        target: what is written
        way_out: what to do about it

    Raises:
        UserError: ``target`` cannot be written
    """
    try:
        yield
    except OSError as e:
        raise UserError(f"{target} cannot be written ({e.strerror or e}): {way_out}") from e


def write_text(text: str, file: Path) -> None:
    """Writes a whole file, in UTF-8; its line ends are the same on every system, as hashes of scripts in it want."""
    with written_whole(file) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(content: object, file: Path) -> None:
    """Writes a whole file."""
    write_text(json.dumps(content, indent=4), file)


def remove_partial(*folders: Path) -> None:
    """Removes what killed processes left in folders, not in those inside; for when no other process writes there."""
    for folder in folders:
        for own in list(folder.glob(f"{PARTIAL}*")):
            shutil.rmtree(own, ignore_errors=True)


def link(source: Path, target: Path) -> None:
    """A link to a file, or a copy where the system allows no links, as Windows without developer mode."""
    try:
        os.symlink(source.resolve(), target)
    except OSError:
        with written_whole(target) as partial:
            shutil.copyfile(source, partial)


def check_utf8(file: Path) -> None:
    """
    Raises:
        UserError: the file's path is not in UTF-8, which ends SimpleITK with the whole process
    """
    try:
        os.fsencode(file).decode()
    except UnicodeDecodeError as e:
        raise UserError(f"{os.fsencode(file)!r} is a path that is not in UTF-8: rename it.") from e


def set_aside(file: Path, why: str) -> None:
    """Renames a file that cannot be used, so that it is made again, to a name that is free; says so."""
    from nnunet_cardiac.texts import printable  # which writes files

    aside, n = file.with_name(f"{file.name}.unreadable"), 1
    while aside.exists():
        n += 1
        aside = file.with_name(f"{file.name}.{n}.unreadable")
    file.replace(aside)
    print(printable(f"{file} cannot be read ({why}) and was set aside as {aside.name}."))


def is_json(file: Path) -> bool:
    """Whether a file is there and whole, with or without a byte order mark.

    Raises:
        UserError: it cannot be read, which says nothing against it
    """
    try:
        json.loads(file.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, ValueError, RecursionError):
        return False
    except OSError as e:
        raise UserError(f"{file} cannot be read ({e.strerror}): check the file.") from e
    return True
