"""The left ventricle's wall in segments 1 to 16 of the American Heart Association.

Cerqueira et al., *Standardized myocardial segmentation and nomenclature for tomographic imaging of the heart*,
Circulation 105:539, 2002. The apex itself, segment 17, is not seen in short-axis slices.

- **Along the long axis** the slices from the first to the last one with cavity and myocardium are divided into equal
  thirds: a slice belongs to the third that its middle lies in. Each phase is divided by its own slices.
- **The base** is the end of the stack where the cavities of both ventricles are larger.
- **Around the cavity** the basal and the mid third have six sectors of 60°, the apical third four of 90°. They are
  counted from the anterior insertion of the right ventricle, over the septum: anteroseptal, inferoseptal, inferior and
  so on. The apical septal sector has the same middle as the two septal ones above it.
- **The insertions** are the ends of the arc over which the right ventricle touches the wall. A slice where it touches
  little or nothing, as next to the apex, takes the insertions of the nearest slice.
- **Which insertion is anterior** is what the affine says: the one that lies further to the front and to the head. An
  affine without rotation is that of an image whose orientation was lost, as no short axis is parallel to the body's
  axes; there, row 0 is taken to be anterior, as images are usually shown.
- **Thickness** is the length of myocardium on rays from the middle of the cavity, one for each degree; a sector's is
  their mean. That is exact for a ring around the cavity's middle. A ray that meets the wall at an angle finds too much,
  by up to 0.6 % for an ellipse with axes of 9 to 10.
"""

import cc3d
import numpy as np
from scipy.ndimage import binary_dilation, center_of_mass, map_coordinates

from nnunet_cardiac.evaluation.segmentation import Structures

SEGMENTS = (
    "basal anterior", "basal anteroseptal", "basal inferoseptal",
    "basal inferior", "basal inferolateral", "basal anterolateral",
    "mid anterior", "mid anteroseptal", "mid inferoseptal",
    "mid inferior", "mid inferolateral", "mid anterolateral",
    "apical anterior", "apical septal", "apical inferior", "apical lateral",
)  # fmt: skip
"""Names of segments 1 to 16."""
OF_THIRD = ((2, 3, 4, 5, 6, 1), (8, 9, 10, 11, 12, 7), (14, 15, 16, 13))
"""Segments of the basal, mid and apical third, in the order in which sectors are counted."""
APICAL_START = np.deg2rad(15)
"""Of the apical septal sector, from the anterior insertion: its middle is at 60°, as that of the basal septum is."""
RAYS = 360
STEP = 0.25
"""Distance between samples on a ray, in pixels."""
TOUCH = 2
"""Pixels between right ventricle and wall that still count as touching: labels leave gaps."""
SHORTEST_SEPTUM = 0.5
"""Of the stack's longest septal arc: shorter ones show the tip of the right ventricle, not its insertions."""
COVERED = 0.5
"""Share of a sector's rays that must meet the wall; it is open where the outflow tract leaves."""


def wall_thickness(labels: np.ndarray, structures: Structures, affine: np.ndarray) -> np.ndarray:
    """Mean thickness of the wall in each segment.

    Args:
        labels: (Z, Y, X), Z across the slices, in either direction
        structures: tells cavities and myocardium by their names
        affine: (4, 4), from indices (x, y, z) to right, anterior, superior, mm

    Returns:
        (16,), mm; NaN where no slice covers the segment, and everywhere if a structure is not labelled
    """
    thickness = np.full(16, np.nan)
    if not {"LV", "RV", "MYO"} <= structures.roles.keys():
        return thickness
    cavity, rv, wall = (structures.mask(labels, structures.roles[role]) for role in ("LV", "RV", "MYO"))
    for in_wall, in_cavity in zip(wall, cavity, strict=True):
        heart = cc3d.largest_k(np.ascontiguousarray(in_wall | in_cavity), k=1, connectivity=8) > 0
        in_wall &= heart
        in_cavity &= heart
    slices = np.flatnonzero(cavity.any((1, 2)) & wall.any((1, 2)))
    pixel = np.linalg.norm(affine[:3, [1, 0]], axis=0)
    insertions = _insertions(cavity, rv, wall, slices, pixel, _anterior(affine))
    if not insertions:
        return thickness
    ends = slices[[-1, 0]] if base_is_last(cavity | rv) else slices[[0, -1]]
    rays: dict[int, list[np.ndarray]] = {}
    for z in slices.tolist():
        third = int(3 * (abs(z - ends[0]) + 0.5) / (np.ptp(slices) + 1))
        start, sense = insertions[min(insertions, key=lambda other: abs(other - z))]
        turned = sense * (np.linspace(0, 2 * np.pi, RAYS, endpoint=False) - start) - (third == 2) * APICAL_START
        sectors = (turned % (2 * np.pi) / (2 * np.pi) * len(OF_THIRD[third])).astype(int)
        found = _thickness_on_rays(wall[z], cavity[z], pixel)
        for sector, segment in enumerate(OF_THIRD[third]):
            rays.setdefault(segment, []).append(found[sectors == sector])
    for segment, of_slices in rays.items():
        found = np.concatenate(of_slices)
        met = found >= pixel.min() / 2
        if met.mean() >= COVERED:
            thickness[segment - 1] = found[met].mean()
    return thickness


def thickening(at_ed: np.ndarray, at_es: np.ndarray) -> np.ndarray:
    """How much thicker each segment is at ES, in percent of its thickness at ED; NaN where either is not known."""
    return 100 * (at_es - at_ed) / at_ed


def base_is_last(blood: np.ndarray) -> bool:
    """Whether the last slice is the one towards the base: where the cavities are larger.

    Args:
        blood: cavities of both ventricles, or of one; bool, (Z, Y, X)
    """
    areas = blood.sum((1, 2))
    found = np.flatnonzero(areas)
    return bool(len(found)) and float(((found - found.mean()) * areas[found]).sum()) > 0


def _anterior(affine: np.ndarray) -> np.ndarray:
    """The direction in the slice, as (y, x), that is most anterior. The anterior wall of the heart looks to the front
    and to the head, the inferior one lies on the diaphragm."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(abs(directions), np.eye(3), atol=1e-3):  # the orientation was lost
        return np.array([-1.0, 0.0])
    return np.array([0.0, 1.0, 1.0]) @ directions[:, [1, 0]]


def _insertions(
    cavity: np.ndarray, rv: np.ndarray, wall: np.ndarray, slices: np.ndarray, pixel: np.ndarray, anterior: np.ndarray
) -> dict[int, tuple[float, int]]:
    """By slice, the angle of the anterior insertion, radians, and 1 if angles grow from it over the septum, else -1."""
    arcs = {}
    for z in slices.tolist():
        touching = binary_dilation(wall[z], iterations=TOUCH) & rv[z]
        if touching.any():
            y, x = (np.argwhere(touching) - center_of_mass(cavity[z])).T * pixel[:, None]
            arcs[z] = _arc(np.arctan2(y, x))
    longest = max((length for _, length in arcs.values()), default=0.0)
    insertions = {}
    for z, (start, length) in arcs.items():
        if length < SHORTEST_SEPTUM * longest:
            continue
        ends = [start, start + length]
        towards = [float(anterior @ (np.sin(angle), np.cos(angle))) for angle in ends]
        insertions[z] = (ends[0], 1) if towards[0] > towards[1] else (ends[1], -1)
    return insertions


def _arc(angles: np.ndarray) -> tuple[float, float]:
    """Start and length of the shortest arc that holds all angles: what remains outside their largest gap."""
    ordered = np.sort(angles % (2 * np.pi))
    gaps = np.diff(ordered, append=ordered[0] + 2 * np.pi)
    largest = int(gaps.argmax())
    return float(ordered[(largest + 1) % len(ordered)]), float(2 * np.pi - gaps[largest])


def _thickness_on_rays(wall: np.ndarray, cavity: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Length of wall on each of the rays from the cavity's middle, mm; angles grow from x to y."""
    angles = np.linspace(0, 2 * np.pi, RAYS, endpoint=False)
    step = STEP * pixel.min()
    distances = (np.arange(np.hypot(*(wall.shape * pixel)) / step) + 0.5) * step
    directions = np.stack([np.sin(angles), np.cos(angles)])[:, :, None] / pixel[:, None, None]
    points = np.array(center_of_mass(cavity))[:, None, None] + directions * distances
    return map_coordinates(wall.astype(np.float32), points, order=1).sum(1) * step
