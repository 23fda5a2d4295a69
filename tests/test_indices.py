import numpy as np
import pytest

from nnunet_cardiac.evaluation.indices import INDICES, cine_indices, indexed, patient_indices
from nnunet_cardiac.evaluation.segmentation import Segmentation, Structures

STRUCTURES = Structures({"RV": (1,), "MYO": (2,), "LV": (3,)})
UNITS = {"mL", "percent", "L_min", "mL_s", "g", "mm", "mL_m2", "g_m2", "L_min_m2"}


def segmentation(lv: int, rv: int, myocardium: int) -> Segmentation:
    """So many voxels of each, of 0.1 mL."""
    labels = np.zeros((3, 40, 40), np.uint8)
    labels.flat[: lv + rv + myocardium] = [3] * lv + [1] * rv + [2] * myocardium
    return Segmentation(labels, (4.0, 5.0, 5.0))


ED, ES = segmentation(1000, 1200, 900), segmentation(400, 640, 920)


def test_every_index_is_named_after_its_unit_and_is_described():
    for name, index in INDICES.items():
        assert index.name == name and index.title and index.definition
        assert any(name.endswith(f"_{unit}") for unit in UNITS)
        assert ("m²" in index.unit) == name.endswith("_m2") == ("index" in name)
    assert len({index.title for index in INDICES.values()}) == len(INDICES)


def test_every_index_of_a_cine_of_known_volumes():
    rates = {"LV": (400.0, 500.0), "RV": (300.0, 350.0)}
    thickness, thickening = np.full(16, 8.0), np.full(16, 40.0)
    thickness[3] = thickening[3] = np.nan
    found = cine_indices(ED, ES, STRUCTURES, 70, 2.0, rates, thickness, thickening)
    assert list(found) == list(INDICES)  # none is forgotten
    found.pop("LV_max_wall_thickness_mm")
    assert found == pytest.approx(
        {
            "LV_EDV_mL": 100, "LV_ESV_mL": 40, "LV_SV_mL": 60, "LV_EF_percent": 60,
            "RV_EDV_mL": 120, "RV_ESV_mL": 64, "RV_SV_mL": 56, "RV_EF_percent": 100 * 56 / 120,
            "LV_CO_L_min": 4.2, "RV_CO_L_min": 3.92, "LV_PER_mL_s": 400, "LV_PFR_mL_s": 500,
            "RV_PER_mL_s": 300, "RV_PFR_mL_s": 350, "LV_mass_g": 94.5, "LV_mass_ES_g": 96.6,
            "LV_mean_wall_thickness_mm": 8, "LV_mean_thickening_percent": 40,
            "LV_EDV_index_mL_m2": 50, "LV_ESV_index_mL_m2": 20, "LV_SV_index_mL_m2": 30, "LV_CO_index_L_min_m2": 2.1,
            "RV_EDV_index_mL_m2": 60, "RV_ESV_index_mL_m2": 32, "RV_SV_index_mL_m2": 28, "RV_CO_index_L_min_m2": 1.96,
            "LV_mass_index_g_m2": 47.25,
        }
    )  # fmt: skip


def test_what_is_not_known_is_nan_and_the_rest_is_as_measure_has_it():
    found = cine_indices(ED, ES, STRUCTURES)
    known = {name for name, value in found.items() if np.isfinite(value)}
    assert known == {*patient_indices(ED, ES, STRUCTURES), "LV_mass_ES_g"}
    assert {name: found[name] for name in patient_indices(ED, ES, STRUCTURES)} == patient_indices(ED, ES, STRUCTURES)


def test_a_structure_that_is_not_labelled_has_no_index():
    found = cine_indices(ED, ES, Structures({"RV": (1,)}), 70, 2.0)
    assert found and all(name.startswith("RV_") for name in found)


def test_names_per_body_surface():
    assert indexed("LV_EDV_mL") == "LV_EDV_index_mL_m2" and indexed("LV_mass_g") == "LV_mass_index_g_m2"
    assert "LV_EF_index_percent_m2" not in INDICES
