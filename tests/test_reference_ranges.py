import pytest

from nnunet_cardiac.cine.reference_ranges import MEAN_AND_SD, reference_range
from nnunet_cardiac.evaluation.indices import INDICES


def test_ejection_fraction_and_mass_are_those_of_the_abstract():
    """58 ± 5 and 61 ± 5 %, 53 ± 9 and 42 ± 7 g/m²."""
    limits = {
        (index, sex): (found.low, found.high)
        for index in ("LV_EF_percent", "LV_mass_index_g_m2")
        for sex in "MF"
        if (found := reference_range(index, sex, 60))
    }
    assert limits[("LV_EF_percent", "M")] == pytest.approx((48.2, 67.8))
    assert limits[("LV_EF_percent", "F")] == pytest.approx((51.2, 70.8))
    assert limits[("LV_mass_index_g_m2", "M")] == pytest.approx((35.36, 70.64))
    assert limits[("LV_mass_index_g_m2", "F")] == pytest.approx((28.28, 55.72))


def test_figures_agree_with_each_other():
    for sex in "MF":
        edv, esv, stroke, ejection = (
            MEAN_AND_SD[index][sex][0] for index in ("LV_EDV_mL", "LV_ESV_mL", "LV_SV_mL", "LV_EF_percent")
        )
        assert edv - esv == pytest.approx(stroke, abs=1) and 100 * stroke / edv == pytest.approx(ejection, abs=1)


def test_ranges_name_indices_and_their_source():
    assert set(MEAN_AND_SD) <= set(INDICES)
    for index in MEAN_AND_SD:
        men, women = reference_range(index, "M", 60), reference_range(index, "F", 60)
        assert men and women and 0 < men.low < men.high and 0 < women.low < women.high
        assert "19:18, 2017, Table 12" in men.source
        assert (men.high < women.high) == (index == "LV_EF_percent")  # men's hearts are larger


@pytest.mark.parametrize(
    "index, sex, age",
    [
        ("LV_EDV_mL", "M", 44.9), ("LV_EDV_mL", "F", 75), ("LV_EDV_mL", "M", None), ("LV_EDV_mL", None, 60),
        ("LV_EDV_mL", "O", 60), ("RV_EDV_mL", "M", 60), ("LV_PFR_mL_s", "M", 60),
    ],
)  # fmt: skip
def test_there_is_no_range_where_none_is_known(index, sex, age):
    assert reference_range(index, sex, age) is None
    assert reference_range("LV_EDV_mL", "M", 74.9) and reference_range("LV_EDV_mL", "F", 45)
