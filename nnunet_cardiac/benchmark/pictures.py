"""The same cases for all contenders: chosen, cut out around the heart, outlined by the experts and all others."""

import base64
import io
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import SimpleITK as sitk
from PIL import Image
from skimage.measure import find_contours

from nnunet_cardiac.benchmark.folder import BenchmarkFolder
from nnunet_cardiac.benchmark.results import ContenderResults, Results
from nnunet_cardiac.environment import folder
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.segmentation import Structures, read_segmentation
from nnunet_cardiac.model import Model
from nnunet_cardiac.pages import data_uri, greys, webp
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import unforeseen

EXPERT = "expert"
"""Whose outlines come first."""
MARGIN = 12
"""Pixels around everything that anybody has outlined."""
MOST_BYTES = 5_000_000
"""Of all cases together, as they stand in the page."""
MOST_CASES = 30
SHOWN = ("best", "median", "worst")
"""Why a case is among the fixed pictures."""
SHARES = (0.85, 0.5, 0.15)
"""Where in the heart, from its lowest to its highest slice, the slices of the fixed pictures are."""
STEPS_PER_PIXEL = 2
"""The outlines run between the pixels' centres, so that half a pixel is all they need."""


@dataclass(frozen=True)
class CasePicture:
    """One case, as it is drawn.

    Args:
        case: its name
        why: it was chosen
        images: a data URI for each slice, all cut out alike
        width, height: of an image, pixels
        aspect: height of a pixel divided by its width
        slices: three of them, as ``SHARES`` say
        outlines: by "expert", the contenders' names and those of stages that are no contenders, SVG paths of every
            slice and structure in 1/``STEPS_PER_PIXEL`` pixels; None for a segmentation that cannot be read
    """

    case: str
    why: str
    images: list[str]
    width: int
    height: int
    aspect: float
    slices: list[int]
    outlines: dict[str, list[list[str]] | None]

    def image(self, z: int) -> np.ndarray:
        """The slice as it is drawn: (Y, X), 8 bits."""
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(self.images[z].split(",")[1]))).convert("L"))

    @property
    def size(self) -> int:
        """Bytes in the page, nearly."""
        paths = (path for slices in self.outlines.values() for paths in slices or () for path in paths)
        return sum(map(len, self.images)) + sum(map(len, paths))


def side_by_side(contenders: list[ContenderResults]) -> list[ContenderResults]:
    """Contenders in their order, but those that build on another's stage right after it."""
    ordered: dict[str, ContenderResults] = {}
    by_model = {c.model: c for c in contenders}
    for c in contenders:
        first = next((by_model[stage] for stage in c.stages if stage in by_model), c)
        for member in [first, *(other for other in contenders if first.model in other.stages)]:
            ordered.setdefault(member.name, member)
    return list(ordered.values())


def choose(results: Results) -> list[tuple[str, str]]:
    """Cases that are worth a look, the most important first, and why.

    First the best, the median and the worst, by the mean Dice of all contenders; then, by turns, the next worst and
    those about which the contenders disagree most. Cases that not all have segmented come in if there are no others.
    """
    dice = pd.DataFrame({c.name: c.by_case("dice") for c in results.contenders})
    complete = dice.dropna()
    dice = complete if len(complete) else dice.dropna(how="all")
    order = dice.mean(axis=1).sort_values(kind="stable").index
    chosen = dict(zip((order[-1], order[len(order) // 2], order[0]), SHOWN, strict=True))
    spread = (dice.max(axis=1) - dice.min(axis=1)).sort_values(ascending=False, kind="stable").index
    for bad, disputed in zip(order, spread, strict=True):
        chosen.setdefault(bad, "among the worst")
        chosen.setdefault(disputed, "among the most disputed")
    return list(chosen.items())


def draw_cases(results: Results, benchmark: BenchmarkFolder) -> tuple[list[CasePicture], list[str]]:
    """As many of the chosen cases as there is room for, and why others could not be drawn."""
    drawn: list[CasePicture] = []
    problems: list[str] = []
    for case, why in progress(choose(results)[:MOST_CASES], desc="Outlining", unit="case"):
        try:
            picture = draw_case(case, why, results, benchmark)
        except Exception as e:  # one case never stops the others
            problems.append(f"{case} is not shown: {e if isinstance(e, UserError) else unforeseen(e)}")
            continue
        if len(drawn) >= len(SHOWN) and sum(p.size for p in drawn) + picture.size > MOST_BYTES:
            break
        drawn.append(picture)
    return drawn, problems


def draw_case(case: str, why: str, results: Results, benchmark: BenchmarkFolder) -> CasePicture:
    """
    Raises:
        UserError, OSError, RuntimeError: image or ground truth cannot be read
    """
    dataset = results.settings.dataset
    raw = folder("nnUNet_raw") / dataset
    structures = Structures.of(raw / "dataset.json")
    name = f"{case}{structures.file_ending}"
    truth = read_segmentation(folder("nnUNet_preprocessed") / dataset / "gt_segmentations" / name)
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(raw / "imagesTr" / f"{case}_0000{structures.file_ending}")))
    axis = truth.slice_axis
    labels: dict[str, np.ndarray | None] = {EXPERT: np.moveaxis(truth.labels, axis, 0)}
    shown = {c.model for c in results.contenders}
    for c in side_by_side(results.contenders):
        for i, stage in enumerate(c.stages, 1):
            if stage == c.model or stage not in shown:
                who = c.name if stage == c.model else f"{c.name}, stage {i}"
                labels[who] = _prediction(c, stage, case, name, truth.labels.shape, axis, results, benchmark)
                shown.add(stage)
    known = [array for array in labels.values() if array is not None]
    window = _window(np.logical_or.reduce([array.any(0) for array in known]))
    occupied = np.flatnonzero(known[0].any((1, 2))) if known[0].any() else np.arange(len(known[0]))
    images = _images(np.moveaxis(image, axis, 0)[:, window[0], window[1]])
    outlines = {
        who: None if array is None else [
            [outline(np.isin(labels_of_slice[window], values)) for values in structures.values.values()]
            for labels_of_slice in array
        ]
        for who, array in labels.items()
    }  # fmt: skip
    dy, dx = (s for i, s in enumerate(truth.spacing) if i != axis)
    height, width = known[0][0][window].shape
    slices = [int(occupied[round(share * (len(occupied) - 1))]) for share in SHARES]
    return CasePicture(case, why, images, width, height, dy / dx, slices, outlines)


def _prediction(
    contender: ContenderResults,
    stage: Model,
    case: str,
    name: str,
    shape: tuple[int, ...],
    axis: int,
    results: Results,
    benchmark: BenchmarkFolder,
) -> np.ndarray | None:
    rows = contender.metrics[contender.metrics["case"] == case]
    if not len(rows):
        return None
    place = benchmark.fold_folder(results.settings, stage, int(rows["fold"].iloc[0]))
    try:
        labels = read_segmentation(place / "validation" / name).labels
    except (UserError, OSError):
        return None
    return np.moveaxis(labels, axis, 0) if labels.shape == shape else None


def _window(anything: np.ndarray) -> tuple[slice, slice]:
    """The box of everything that is outlined in any slice, with a margin; all where nothing is."""
    ys, xs = np.nonzero(anything)
    if not len(ys):
        return slice(None), slice(None)
    y, x = (slice(max(0, int(v.min()) - MARGIN), int(v.max()) + MARGIN + 1) for v in (ys, xs))
    return y, x


def _images(voxels: np.ndarray) -> list[str]:
    """Slices (Z, Y, X) as data URIs, all with the same greys."""
    return [data_uri(webp(image, 80), "webp") for image in greys(voxels, voxels)]


def outline(mask: np.ndarray) -> str:
    """The borders of a mask, holes as well, as an SVG path in 1/``STEPS_PER_PIXEL`` pixels.

    Args:
        mask: (Y, X), bool; the first pixel reaches from 0 to 1
    """
    if not mask.any():
        return ""
    path = []
    for points in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        ring = np.round(points[:-1, ::-1] * 2 - 1).astype(int)
        steps = np.diff(ring, axis=0, append=ring[:1])
        corners = ring[(steps != np.roll(steps, 1, 0)).any(1)]
        moves = np.diff(corners, axis=0).ravel()
        path.append(f"M{corners[0, 0]} {corners[0, 1]}l{' '.join(map(str, moves))}z")
    return "".join(path)


def polygons(path: str) -> list[np.ndarray]:
    """What ``outline`` gave, as points: (2, n), x and y in pixels, the first point again at the end."""
    rings = [re.findall(r"-?\d+", ring) for ring in path.split("z")[:-1]]
    points = [np.array(ring, int).reshape(-1, 2).cumsum(0) / STEPS_PER_PIXEL for ring in rings]
    return [np.vstack([ring, ring[:1]]).T for ring in points]


def metrics_of(picture: CasePicture, results: Results) -> dict[str, tuple[float, float]]:
    """Mean Dice and HD95 (mm) of a case, by contender; NaN where it was not evaluated."""
    return {
        c.name: (c.by_case("dice").get(picture.case, np.nan), c.by_case("hausdorff95_mm").get(picture.case, np.nan))
        for c in results.contenders
    }
