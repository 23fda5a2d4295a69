"""Segmentation files and the structures in them: reading, naming, comparing geometry."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.nifti import read_image, read_nifti
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import read_cases

CASE_COLUMNS = ("patient", "phase", "group", "vendor")
"""Of ``cases.csv``; carried into every table by case."""
ROLES = {
    "LV": ("lv", "lvc", "leftventricle", "lvcavity", "leftventricularcavity", "lvbloodpool"),
    "RV": ("rv", "rvc", "rightventricle", "rvcavity", "rightventricularcavity", "rvbloodpool"),
    "MYO": ("myo", "myocardium", "lvm", "lvmyo", "lvmyocardium", "leftventricularmyocardium"),
}
"""What data sets call the left ventricle's cavity, the right one's, and the left ventricle's myocardium."""
COLOURS_OF_ROLES = {"LV": "#d55e00", "RV": "#56b4e9", "MYO": "#009e73"}
"""Okabe and Ito's, told apart by colour-blind readers; the same in all pictures."""
FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl.gz", ".gipl")
"""Of volumes, where no dataset.json tells it."""
MOST_LABELS = 120
"""A folder with more values than that holds images, also of 8 bits; TotalSegmentator's labels are 117."""


@dataclass(frozen=True)
class Segmentation:
    """A label map.

    Args:
        labels: (Z, Y, X), integer
        spacing: mm, in the same order
        origin, direction: of the physical space, as SimpleITK gives them
    """

    labels: np.ndarray
    spacing: tuple[float, ...]
    origin: tuple[float, ...] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @property
    def voxel_volume(self) -> float:
        """mL."""
        return float(np.prod(self.spacing)) / 1000

    @property
    def diagonal(self) -> float:
        """The longest distance in the image, between the centres of opposite corners, mm."""
        return float(np.linalg.norm((np.array(self.labels.shape) - 1) * self.spacing))

    @property
    def slice_axis(self) -> int:
        """The axis across the slices: that of one slice alone, else of the largest spacing, the first of equals."""
        return self.labels.shape.index(1) if 1 in self.labels.shape else int(np.argmax(self.spacing))

    def check_geometry(self, other: "Segmentation", what: str) -> None:
        """
        Raises:
            UserError: ``other`` has another size, spacing, origin or direction; ``what`` names both
        """
        if self.labels.shape != other.labels.shape:
            raise UserError(f"{what} differ in size: {self.labels.shape} and {other.labels.shape} voxels (Z, Y, X).")
        for name, tolerance in (("spacing", 1e-3), ("origin", 1e-1), ("direction", 1e-3)):
            mine, others = getattr(self, name), getattr(other, name)
            if not np.allclose(mine, others, atol=tolerance):
                raise UserError(f"{what} differ in {name}: {_short(mine)} and {_short(others)}.")


def _short(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in values) + ")"


def read_segmentation(path: Path) -> Segmentation:
    """A label map from a file of any format that SimpleITK reads.

    Raises:
        UserError: the file cannot be read, or holds something else than whole numbers
    """
    if path.name.endswith((".nii", ".nii.gz")):
        read_nifti(path)  # finds files that SimpleITK would pad with zeros
    image = read_image(path)
    voxels = sitk.GetArrayFromImage(image)
    if voxels.ndim != 3 or image.GetNumberOfComponentsPerPixel() > 1:
        raise UserError(f"{path} is not a segmentation: it has {' x '.join(map(str, voxels.shape))} values.")
    with np.errstate(invalid="ignore"):  # of what fits no label
        labels = voxels.astype(np.int16)
    if not np.array_equal(labels, voxels):
        raise UserError(f"{path} is not a segmentation: it holds values that are not labels, {voxels.max():g} for one.")
    return Segmentation(labels, image.GetSpacing()[::-1], image.GetOrigin(), image.GetDirection())


@dataclass(frozen=True)
class Structures:
    """Names of a data set's structures and the label values of each (several for nnU-Net's regions).

    Args:
        values: label values by name
        ignore: nnU-Net's ignore label
        file_ending: of the segmentations; None where nothing tells it
        complete: whether a file may hold no other labels
    """

    values: dict[str, tuple[int, ...]]
    ignore: int | None = None
    file_ending: str | None = ".nii.gz"
    complete: bool = True

    @classmethod
    def of(cls, dataset_json: Path) -> "Structures":
        """Those of a ``dataset.json``.

        Raises:
            UserError: it does not exist, or names no structures
        """
        try:
            description = json.loads(dataset_json.read_text(encoding="utf-8-sig"))
            return cls.named(description["labels"], description.get("file_ending", ".nii.gz"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise UserError(
                f"{dataset_json} does not tell the labels' names ({type(e).__name__}): check -djfile."
            ) from e

    @classmethod
    def named(
        cls, labels: Mapping[str, int | Sequence[int]], file_ending: str | None = None, complete: bool = True
    ) -> "Structures":
        """Those of ``labels`` as in a ``dataset.json``, where "background" and "ignore" may be among them.

        Raises:
            ValueError: a label is neither a number nor several
        """
        if not isinstance(labels, Mapping) or not (file_ending is None or isinstance(file_ending, str)):
            raise ValueError("The labels have no names, or the files no ending.")
        for name, value in labels.items():
            if not isinstance(value, int) and not (
                isinstance(value, list | tuple) and value and all(isinstance(v, int) for v in value)
            ):
                raise ValueError(f"The label {name} is {value!r}, not a number.")
        values = {name: (v,) if isinstance(v, int) else tuple(v) for name, v in labels.items()}
        ignore = values.pop("ignore", (None,))[0]
        values.pop("background", None)
        return cls(values, ignore, file_ending, complete)

    @classmethod
    def by_value(cls, folders: Sequence[Path]) -> "Structures":
        """One for each label value in the files of ``folders``, named "1", "2", ...; unreadable files are passed over.

        Raises:
            UserError: a folder holds no segmentation; no label in any, or too many to be labels
        """
        found: set[int] = set()
        images: list[Path] = []
        files = [file for folder in folders for file in find_segmentations(folder).values()]
        for file in progress(files, desc="Looking for labels", unit="file", leave=False):
            try:
                values = set(np.unique(read_segmentation(file).labels).tolist())
            except UserError:
                continue  # named when the case's turn comes
            if len(found | values) > MOST_LABELS:
                images.append(file)  # likewise
            else:
                found |= values
        if images and not found - {0}:
            raise UserError(f"{images[0]} is not a segmentation, it seems: it holds as many values as an image.")
        if not found - {0}:
            raise UserError(f"No file in {' or '.join(map(str, folders))} holds a label: all that can be read is 0.")
        return cls({str(value): (value,) for value in sorted(found - {0})}, file_ending=None)

    def mask(self, labels: np.ndarray, name: str) -> np.ndarray:
        """Where the structure is: bool, of the shape of ``labels``."""
        return np.isin(labels, self.values[name]) if len(self.values[name]) > 1 else labels == self.values[name][0]

    def check_labels(self, labels: np.ndarray, path: Path) -> None:
        """
        Raises:
            UserError: ``labels`` has values that no structure has, and the structures are ``complete``
        """
        if not self.complete:
            return
        known = {0, *(v for values in self.values.values() for v in values)}
        known |= set() if self.ignore is None else {self.ignore}
        unknown = sorted(set(np.unique(labels).tolist()) - known)
        if unknown:
            more = " and more" * (len(unknown) > 10)
            raise UserError(f"{path} has unknown labels {unknown[:10]}{more}; known are {sorted(known)}.")

    @property
    def roles(self) -> dict[str, str]:
        """See ``roles``."""
        return roles(self.values)


def roles(names: Iterable[str]) -> dict[str, str]:
    """Role ("LV", "RV", "MYO") to the structure's name, for those roles that the names reveal."""
    plain = {re.sub("[^a-z]", "", name.lower()): name for name in names}
    return {role: plain[n] for role, known in ROLES.items() for n in known if n in plain}


def find_structures(
    folders: Sequence[Path], dataset_json: Path | None = None, labels: Mapping[str, int | Sequence[int]] | None = None
) -> Structures | None:
    """The named structures in folders of segmentations; None where nothing names them.

    Args:
        folders: of segmentations
        dataset_json: names the labels; None to look for one in and above ``folders``
        labels: names them instead; other labels may be in the files and are not looked at

    Raises:
        UserError: a folder does not exist, or ``dataset_json`` cannot be used
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give a folder of segmentations.")
    if dataset_json is None:
        candidates = (place / "dataset.json" for place in _in_and_above(folders))
        dataset_json = next((file for file in candidates if file.is_file()), None)
    if labels is None:
        return None if dataset_json is None else Structures.of(dataset_json)
    ending = None
    if dataset_json is not None:
        with suppress(UserError):  # it names labels in another way, which does not matter here
            ending = Structures.of(dataset_json).file_ending
    return Structures.named(labels, ending, complete=False)


def find_case_table(given: Path | None, folders: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Rows of ``cases.csv`` by case: of the file given, else of one in or above ``folders``, else none.

    Raises:
        UserError: the file given does not exist or has no column "case"
    """
    if given is None:
        given = next((p / "cases.csv" for p in _in_and_above(folders) if (p / "cases.csv").is_file()), None)
        if given is None:
            return {}
    try:
        return {row["case"]: row for row in read_cases(given.parent, given.name)}
    except KeyError as e:
        raise UserError(f"{given} cannot be used ({e}): it must be a table with a column 'case'.") from e


def _in_and_above(folders: Sequence[Path]) -> Iterable[Path]:
    for folder in folders:
        yield from (folder, folder.resolve().parent)


def find_segmentations(folder: Path, file_ending: str | None = None) -> dict[str, Path]:
    """Segmentation files by case.

    Args:
        folder: where they are
        file_ending: of the files; where there are none, or where it is None, another of ``FILE_ENDINGS`` is taken

    Raises:
        UserError: the folder has none, or files of several kinds
    """
    found = {ending: _ending_in(folder, ending) for ending in (file_ending, *FILE_ENDINGS) if ending is not None}
    if file_ending is not None and found[file_ending]:
        return found[file_ending]
    kinds = {ending: files for ending, files in found.items() if files}
    if not kinds:
        raise UserError(f"{folder} holds no segmentation that ends in {file_ending or ', '.join(FILE_ENDINGS)}.")
    if len(kinds) > 1:
        raise UserError(
            f"{folder} holds files that end in {' and in '.join(kinds)}: leave one kind there, or name a dataset.json "
            "with the right file_ending by -djfile."
        )
    return next(iter(kinds.values()))


def _ending_in(folder: Path, file_ending: str) -> dict[str, Path]:
    return {p.name.removesuffix(file_ending): p for p in sorted(folder.iterdir()) if p.name.endswith(file_ending)}
