"""Writing files so that each is there as a whole or not at all."""

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


def remove_partial(folder: Path) -> None:
    """Removes what killed processes left in a folder and those in it; for when no other process writes there."""
    for own in list(folder.rglob(f"{PARTIAL}*")):
        shutil.rmtree(own, ignore_errors=True)
