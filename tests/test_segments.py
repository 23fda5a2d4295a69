import numpy as np
import pytest

from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.evaluation.segments import OF_THIRD, SEGMENTS, base_is_last, thickening, wall_thickness
from nnunet_cardiac.phantom.short_axis import ShortAxisPhantom

STRUCTURES = Structures({"RV": (1,), "MYO": (2,), "LV": (3,)})
LOST = np.diag([1.0, 1.0, 8.0, 1.0])
"""An affine that tells no orientation; pixels of 1 mm."""
THIN, THICK = 7.0, 12.0


def in_room(x, y, z) -> np.ndarray:
    """An affine whose rows, columns and slices go in these directions (right, anterior, superior)."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([x, y, z], float).T * (1, 1, 8)
    return affine


def heart(thick_at: float | None = None, wall: float = THIN, septum: float = np.pi, n: int = 9) -> np.ndarray:
    """A half-ellipsoid seen with the septum to the left, apex first.

    The right ventricle touches 120° of the wall. The wall is thicker in the 60° around ``thick_at``, an angle in
    radians from the right (columns) downwards (rows).
    """
    y, x = np.indices((96, 96)) - 48
    radius, angle = np.hypot(y, x), np.arctan2(y, x)

    def around(direction: float, width: float) -> np.ndarray:
        return abs(np.angle(np.exp(1j * (angle - direction)))) < np.deg2rad(width) / 2

    labels = np.zeros((n + 2, 96, 96), np.uint8)
    for z in range(1, n + 1):
        cavity = 22 * np.sqrt(1 - (1 - (z + 2) / (n + 2)) ** 2)
        outside = cavity + (wall if thick_at is None else np.where(around(thick_at, 60), THICK, wall))
        labels[z][(radius < outside + 12) & around(septum, 120)] = 1
        labels[z][radius < outside] = 2
        labels[z][radius < cavity] = 3
    return labels


@pytest.mark.parametrize("pixel", [1.0, 1.7])
@pytest.mark.parametrize("wall", [4.0, 7.0, 11.0])
def test_a_ring_is_measured_to_within_half_a_pixel(wall, pixel):
    affine = np.diag([pixel, pixel, 8.0, 1.0])
    assert wall_thickness(heart(wall=wall), STRUCTURES, affine) == pytest.approx(
        np.full(16, wall * pixel), abs=pixel / 2
    )


def test_an_image_with_longer_pixels_one_way_is_measured_in_mm():
    labels = np.repeat(heart(), 2, axis=2)
    affine = np.diag([0.5, 1.0, 8.0, 1.0])
    assert wall_thickness(labels, STRUCTURES, affine) == pytest.approx(np.full(16, THIN), abs=0.5)


# the middle of each sector, counted from the right downwards: the septum is to the left, anterior is up
MIDDLE = {1: 270, 2: 210, 3: 150, 4: 90, 5: 30, 6: 330}
APICAL = {13: 270, 14: 180, 15: 90, 16: 0}


@pytest.mark.parametrize(
    "segments, degrees",
    [((s, s + 6), degrees) for s, degrees in MIDDLE.items()] + [((s,), degrees) for s, degrees in APICAL.items()],
)
def test_a_thick_sector_is_found_where_the_convention_has_it(segments, degrees):
    found = wall_thickness(heart(np.deg2rad(degrees)), STRUCTURES, LOST)
    level = slice(12) if len(segments) == 2 else slice(12, 16)  # basal and mid, or apical
    expected = np.full(16, THIN)
    expected[np.array(segments) - 1] = THICK if len(segments) == 2 else (60 * THICK + 30 * THIN) / 90
    assert found[level] == pytest.approx(expected[level], abs=0.5)


def test_names_and_order_agree():
    assert sorted(sum(OF_THIRD, ())) == list(range(1, 17)) and len(SEGMENTS) == 16
    assert [SEGMENTS[s - 1] for s in (1, 8, 14, 16)] == [
        "basal anterior", "mid anteroseptal", "apical septal", "apical lateral",
    ]  # fmt: skip


@pytest.mark.parametrize("flips", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_the_way_an_image_is_stored_does_not_matter(flips):
    """Base first or apex first, mirrored or turned: with its affine it is the same heart."""
    row, column = np.array([0.6, -0.6, -0.53]), np.array([0.66, 0.75, -0.1])  # down and right in the usual display
    row, column = row / np.linalg.norm(row), column - (column @ row) * row / (row @ row)
    directions = [np.cross(column, row), row, column / np.linalg.norm(column)]  # of z, y, x
    labels = heart(np.deg2rad(MIDDLE[2]))
    expected = wall_thickness(labels, STRUCTURES, LOST)
    assert expected[1] == pytest.approx(THICK, abs=0.6)
    for axis in flips:
        directions[axis] = -directions[axis]
    stored, affine = np.flip(labels, flips), in_room(directions[2], directions[1], directions[0])
    assert wall_thickness(stored, STRUCTURES, affine) == pytest.approx(expected, abs=0.2)
    swapped = in_room(directions[1], directions[2], directions[0])
    assert wall_thickness(stored.swapaxes(1, 2), STRUCTURES, swapped) == pytest.approx(expected, abs=0.2)


def test_thirds_are_those_of_the_slices_with_a_cavity():
    labels = heart(n=9)
    for z, wall in ((1, 4), (2, 4), (3, 4), (7, 10), (8, 10), (9, 10)):
        labels[z] = heart(wall=wall, n=9)[z]
    found = wall_thickness(labels, STRUCTURES, LOST)
    assert found == pytest.approx(np.repeat([10.0, THIN, 4.0], [6, 6, 4]), abs=0.5)
    labels[7:] = 0  # the base has moved down, as at ES: the thirds are new
    assert wall_thickness(labels, STRUCTURES, LOST) == pytest.approx(np.repeat([THIN, THIN, 4.0], [6, 6, 4]), abs=1.6)


def test_slices_without_a_right_ventricle_take_their_neighbours_insertions():
    labels = heart(np.deg2rad(MIDDLE[4]))
    expected = wall_thickness(labels, STRUCTURES, LOST)
    labels[1:5][labels[1:5] == 1] = 0
    labels[5][labels[5] == 1] = 0
    labels[5, 48, 48 - 36 : 48 - 26] = 1  # its tip
    assert wall_thickness(labels, STRUCTURES, LOST) == pytest.approx(expected, abs=0.2)


def test_what_cannot_be_told_is_nan():
    labels = heart()
    assert np.isnan(wall_thickness(np.where(labels == 1, 0, labels), STRUCTURES, LOST)).all()
    assert np.isnan(wall_thickness(labels, Structures({"MYO": (2,), "LV": (3,)}), LOST)).all()
    assert np.isnan(wall_thickness(np.zeros_like(labels), STRUCTURES, LOST)).all()


def test_an_open_sector_is_not_covered_and_islands_are_no_wall():
    labels = heart()
    expected = wall_thickness(labels, STRUCTURES, LOST)
    y, x = np.indices((96, 96)) - 48
    lateral = abs(np.angle(np.exp(1j * (np.arctan2(y, x) - np.deg2rad(MIDDLE[5]))))) < np.deg2rad(30)
    labels[:, lateral] = np.where(labels[:, lateral] == 2, 0, labels[:, lateral])
    labels[5, 0:4, 0:4] = 2
    found = wall_thickness(labels, STRUCTURES, LOST)
    assert np.isnan(found[[4, 10]]).all()
    assert found[[0, 1, 2, 7, 8, 9]] == pytest.approx(expected[[0, 1, 2, 7, 8, 9]], abs=0.2)


@pytest.mark.parametrize("group", ["NOR", "HCM"])
def test_phantom_has_the_wall_and_the_thickening_that_it_was_drawn_with(group):
    phantom = ShortAxisPhantom(group, 3)
    affine = np.diag([1.6, 1.6, 10.0, 1.0])
    ed, es = (wall_thickness(phantom.frame(contraction)[1], STRUCTURES, affine) for contraction in (0.0, 1.0))
    assert ed[:12] == pytest.approx(np.full(12, phantom.heart.wall), rel=0.08)
    assert ed[12:].mean() < ed[:12].mean()  # its apex is thinner
    assert (thickening(ed, es) > 10).all()


def test_infarct_thickens_less_than_the_wall_opposite():
    phantom = ShortAxisPhantom("MINF", 0)
    affine = np.diag([1.6, 1.6, 10.0, 1.0])
    at = [wall_thickness(phantom.frame(contraction)[1], STRUCTURES, affine) for contraction in (0.0, 1.0)]
    change = thickening(*at)
    # sectors are counted against the direction of angles, from the septum's middle between 2 and 3
    sector = int(((phantom.heart.septum - phantom.heart.infarct) % (2 * np.pi) + np.pi / 3) // (np.pi / 3)) % 6
    infarcted, opposite = (OF_THIRD[1][(sector + n) % 6] for n in (0, 3))
    assert change[infarcted - 1] < change[opposite - 1] - 5


def test_base_is_where_the_cavities_are_larger():
    blood = heart() % 2 == 1
    assert base_is_last(blood) and not base_is_last(blood[::-1])
    assert not base_is_last(np.zeros_like(blood))
