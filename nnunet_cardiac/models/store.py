"""Where models are installed, and how they come there: from one zip file, checked before it counts."""

import lzma
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path

from platformdirs import user_data_path

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import DISK_FULL, writing, written_whole
from nnunet_cardiac.lock import locked
from nnunet_cardiac.models.saved_model import DESCRIPTION, SavedModel, check_path

BOX = Path(__file__).parent / "box"
"""Models that come with the package."""
MODEL_IN_THE_BOX = "cardiac"
"""The one of them that segments where none is named."""
FOLDER_VARIABLE = "NNUNET_CARDIAC_MODELS"
"""Environment variable with the folder of installed models, in place of the user's data folder."""
LARGEST_MODEL = 10_000_000_000
"""Bytes of a model with all its files."""
MOST_FILES = 200
SMALL, MOST_DEFLATED = 20_000_000, 20
"""Bytes that any file may unpack to, and how many times its own a larger one: weights hardly become smaller."""
UNFINISHED = ".installing_"
"""How folders begin in which models are unpacked."""
NO_ZIP = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error, lzma.LZMAError)
"""What zipfile raises of files that are no archives, cut off, damaged, encrypted or packed in another way."""


def installation_folder() -> Path:
    """Where ``models install`` puts models."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else user_data_path("nnunet_cardiac") / "models"


def installed_folders() -> dict[str, Path]:
    """Folders of all models, by name; those in the box last."""
    return {
        file.parent.name: file.parent
        for parent in (installation_folder(), BOX)
        for file in sorted(parent.glob(f"*/{DESCRIPTION}"))
    }


def find_model(name: str) -> SavedModel:
    """The model called ``name``, checked.

    Raises:
        UserError: there is none, or its files are not what they should be
    """
    folders = installed_folders()
    if name not in folders:
        raise UserError(
            f"There is no model '{name}': installed are {', '.join(folders)}; nnunet_cardiac models install FILE "
            "installs one."
        )
    return SavedModel.load(folders[name])


def pack(model: SavedModel, target: Path) -> None:
    """Writes a model's folder as one zip file; what is at ``target`` is replaced.

    Raises:
        UserError: it would be larger than what ``install`` takes, or cannot be written
    """
    files = sorted(file for file in model.folder.rglob("*") if file.is_file())
    if len(files) > MOST_FILES or sum(file.stat().st_size for file in files) > LARGEST_MODEL:
        raise UserError(f"{model.name} is larger than {LARGEST_MODEL / 1e9:g} GB: export fewer folds with -f.")
    with writing(target, DISK_FULL):
        with written_whole(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(model.folder).as_posix())


def install(source: Path, overwrite: bool = False) -> SavedModel:
    """Checks a model's zip file, builds its networks to try them, and installs it.

    Raises:
        UserError: no such file, no model, damaged, hostile, installed already, or another process installs one
    """
    place = installation_folder()
    with locked(place, f"choose another folder with {FOLDER_VARIABLE}"):
        for left in place.glob(f"{UNFINISHED}*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=UNFINISHED) as temporary:
            folder = Path(temporary) / "model"
            unpack(source, folder)
            model = SavedModel.load(folder, known_as=source)
            try:
                model.try_out()
            except UserError as e:
                raise UserError(f"{source}: {e}") from e
            name = model.name
            target = place / name
            if (BOX / name).exists():
                raise UserError(
                    f"{source} is called {name}, as the model that comes with the package: it is not installed."
                )
            if os.path.lexists(target):
                if not overwrite:
                    raise UserError(f"{name} is installed already, in {target}: use --overwrite to replace it.")
                os.replace(target, Path(temporary) / "before")  # so that one of both is there at any moment but this
            os.replace(folder, target)
    return SavedModel.load(target)


def unpack(source: Path, folder: Path) -> None:
    """Unpacks a model's zip file into a folder that does not exist yet; nothing lands outside it.

    Raises:
        UserError: no such file, no zip file, too large, or a member that is no plain file in the folder
    """
    if not source.is_file():
        raise UserError(f"There is no file {source}: give one that models export has written.")
    try:
        with zipfile.ZipFile(source) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            size = sum(m.file_size for m in members)
            if len(members) > MOST_FILES or size > min(LARGEST_MODEL, SMALL + MOST_DEFLATED * source.stat().st_size):
                raise UserError(
                    f"{source} unpacks to more than a model has ({LARGEST_MODEL / 1e9:g} GB, {MOST_FILES} files): it "
                    "is not installed."
                )
            if len({member.filename.casefold() for member in members}) < len(members):
                raise UserError(f"{source} holds two files of one name: it is not installed.")
            for member in members:
                check_path(member.filename, source)
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise UserError(f"{source} holds a link, {member.filename}: it is not installed.")
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, open(target, "wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    except UserError:  # which is one of NO_ZIP's
        raise
    except NO_ZIP as e:
        raise UserError(f"{source} is no model's file, or is cut off ({e}): get it again.") from e
    except OSError as e:
        raise UserError(f"{source} cannot be unpacked to {folder.parent} ({e.strerror or e}): check both.") from e
