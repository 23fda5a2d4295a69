"""Files that are there as a whole or not at all, and those that a kill has cut off."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def write_json(content: object, file: Path) -> None:
    """Writes a whole file."""
    with written_whole(file) as partial:
        partial.write_text(json.dumps(content, indent=4), encoding="utf-8")


def remove_partial(folder: Path) -> None:
    """Removes what killed processes left in a folder and those in it; for when no other process writes there."""
    for own in list(folder.rglob(f"{PARTIAL}*")):
        shutil.rmtree(own, ignore_errors=True)


def set_aside(file: Path, why: str) -> None:
    """Renames a file that cannot be used, so that it is made again; says so."""
    file.replace(file.with_name(f"{file.name}.unreadable"))
    print(f"{file} cannot be read ({why}) and was set aside as {file.name}.unreadable.")


def is_json(file: Path) -> bool:
    """Whether a file is there and whole."""
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return True
