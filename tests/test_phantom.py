import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import label as connected_components

from nnunet_cardiac.networks.heart_crop import heart_box
from nnunet_cardiac.phantom.acdc import N_FRAMES, write_patients
from nnunet_cardiac.phantom.short_axis import GROUPS, LV, MYO, RV, ShortAxisPhantom

SMALL = {"shape": (96, 88), "spacing": 3.0, "n_slices": 8}


@pytest.fixture(scope="module", params=GROUPS)
def phases(request):
    phantom = ShortAxisPhantom(request.param, seed=3, **SMALL)
    return request.param, phantom.frame(0.0), phantom.frame(1.0)


def millilitres(labels, value):
    return (labels == value).sum() * SMALL["spacing"] ** 2 * 10 / 1000


def test_volumes_and_ejection_fraction_are_those_of_the_group(phases):
    group, (_, ed), (_, es) = phases
    fraction = 1 - millilitres(es, LV) / millilitres(ed, LV)
    assert (0.15 < fraction < 0.42) if group == "DCM" else (0.3 < fraction < 0.8)
    assert (millilitres(ed, LV) > 160) == (group == "DCM")
    assert 60 < millilitres(ed, RV) < 260 and millilitres(es, RV) < millilitres(ed, RV)
    assert 60 < millilitres(ed, MYO) < 320


def test_anatomy_is_plausible(phases):
    _, (_, ed), (_, es) = phases
    for labels in (ed, es):
        for value in (LV, MYO, RV):
            assert connected_components(labels == value, np.ones((3, 3, 3)))[1] == 1
        padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)))
        for shift in ((0, 1), (1, 0), (0, -1), (-1, 0)):  # the cavity's neighbours in its slice: itself and the wall
            neighbours = np.roll(padded, shift, (1, 2))[padded == LV]
            assert set(np.unique(neighbours)) <= {LV, MYO}


def test_tapers_to_the_apex_and_ends_below_the_base(phases):
    _, (_, ed), _ = phases
    areas = (ed > 0).sum((1, 2))
    assert areas[0] == 0 or areas[0] < 0.5 * areas.max()
    assert areas[1] < areas[len(areas) // 2]


def test_looks_like_bright_blood(phases):
    _, (image, labels), _ = phases
    mean = {value: image[labels == value].mean() for value in (LV, MYO, RV)}
    assert mean[LV] > 1.7 * mean[MYO] and mean[RV] > 1.5 * mean[MYO]
    air = image[:, :4, :4]
    assert 0 < air.std() < 0.1 * mean[LV] and air.min() >= 0


def test_seeded():
    first, again, other = (ShortAxisPhantom("NOR", seed, **SMALL).frame(0.3)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_acdc_layout(tmp_path):
    write_patients(tmp_path / "training", [1, 2], cine=True, **SMALL)
    patient = tmp_path / "training" / "patient002"
    info = dict(line.split(": ") for line in (patient / "Info.cfg").read_text().splitlines())
    assert info["Group"] == GROUPS[1] and info["ED"] == "1" and info["NbFrame"] == str(N_FRAMES)
    cine = nib.load(patient / "patient002_4d.nii.gz")
    frame = nib.load(patient / f"patient002_frame{int(info['ES']):02d}.nii.gz")
    labels = nib.load(patient / f"patient002_frame{int(info['ES']):02d}_gt.nii.gz")
    assert cine.shape == (*frame.shape, N_FRAMES)
    assert np.array_equal(np.asanyarray(cine.dataobj)[..., int(info["ES"]) - 1], np.asanyarray(frame.dataobj))
    assert labels.shape == frame.shape and np.array_equal(labels.affine, frame.affine)
    middle = np.asanyarray(labels.dataobj)[:, :, labels.shape[2] // 2] > 0
    assert heart_box(middle) is not None
