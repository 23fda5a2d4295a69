import pytest

from nnunet_cardiac.cine.reference_ranges import RANGES, reference_range
from nnunet_cardiac.evaluation.indices import INDICES

MEAN_AND_SD = {
    "LV_EDV_mL": {"M": (166, 32), "F": (124, 21)}, "LV_ESV_mL": {"M": (69, 16), "F": (49, 11)},
    "LV_SV_mL": {"M": (96, 20), "F": (75, 14)}, "LV_SV_index_mL_m2": {"M": (49, 10), "F": (45, 8)},
}  # fmt: skip
"""The paper's means by sex (Table 12), of all ages together."""
IN_ALL_AGE_GROUPS = {
    "LV_EDV_mL": (88, 161), "LV_ESV_mL": (31, 68), "LV_SV_mL": (49, 100),
    "RV_EDV_mL": (85, 166), "RV_ESV_mL": (27, 77), "RV_SV_mL": (48, 99),
}  # fmt: skip
"""Women: where the intervals of all age groups overlap."""


def test_ejection_fraction_and_mass_are_those_of_the_abstract():
    """58 ± 5 and 61 ± 5 %, 53 ± 9 and 42 ± 7 g/m²."""
    abstract = {"LV_EF_percent": {"M": (58, 5), "F": (61, 5)}, "LV_mass_index_g_m2": {"M": (53, 9), "F": (42, 7)}}
    for index, by_sex in abstract.items():
        for sex, (mean, sd) in by_sex.items():
            found = reference_range(index, sex, 60)
            assert found is not None and "1.96 SD" in found.source
            assert (found.low, found.high) == pytest.approx((mean - 1.96 * sd, mean + 1.96 * sd), abs=0.5)


def test_volumes_agree_with_the_paper_s_means():
    """Limits of the widest of three age groups lie at or a little beyond mean ± 1.96 SD of all ages."""
    for index, by_sex in MEAN_AND_SD.items():
        for sex, (mean, sd) in by_sex.items():
            low, high = RANGES[index][1][sex]
            assert low <= mean - 1.96 * sd and mean + 1.96 * sd <= high
            assert low >= mean - 2.8 * sd and mean + 2.8 * sd >= high


def test_what_all_age_groups_have_lies_within_the_range():
    for index, (low, high) in IN_ALL_AGE_GROUPS.items():
        found = reference_range(index, "F", 60)
        assert found is not None and found.low < low < high < found.high


def test_volumes_of_a_ventricle_agree_with_each_other():
    """Absolute limits over indexed ones are surfaces of bodies; stroke volumes of both ventricles agree."""
    for ventricle in ("LV", "RV"):
        for what in ("EDV", "ESV", "SV"):
            for sex, surfaces in {"M": (1.7, 2.1), "F": (1.5, 1.9)}.items():
                absolute = RANGES[f"{ventricle}_{what}_mL"][1][sex]
                over_surface = RANGES[f"{ventricle}_{what}_index_mL_m2"][1][sex]
                for a, b in zip(absolute, over_surface, strict=True):
                    assert surfaces[0] <= a / b <= surfaces[1]
    for sex in "MF":
        assert RANGES["LV_SV_mL"][1][sex] == pytest.approx(RANGES["RV_SV_mL"][1][sex], abs=5)


def test_ranges_name_indices_and_their_source():
    assert set(RANGES) <= set(INDICES)
    for index in RANGES:
        men, women = reference_range(index, "M", 60), reference_range(index, "F", 60)
        assert men and women and 0 < men.low < men.high and 0 < women.low < women.high
        assert "19:18, 2017" in men.source
        assert (men.high < women.high) == (index == "LV_EF_percent")  # men's hearts are larger


@pytest.mark.parametrize(
    "index, sex, age",
    [
        ("LV_EDV_mL", "M", 44.9), ("LV_EDV_mL", "F", 75), ("LV_EDV_mL", "M", None), ("LV_EDV_mL", None, 60),
        ("LV_EDV_mL", "O", 60), ("RV_EF_percent", "M", 60), ("LV_PFR_mL_s", "M", 60),
    ],
)  # fmt: skip
def test_there_is_no_range_where_none_is_known(index, sex, age):
    assert reference_range(index, sex, age) is None
    assert reference_range("LV_EDV_mL", "M", 74.9) and reference_range("LV_EDV_mL", "F", 45)
