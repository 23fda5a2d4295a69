"""Published reference ranges of healthy adults.

Petersen et al., *Reference ranges for cardiac structure and function using cardiovascular magnetic resonance (CMR) in
Caucasians from the UK Biobank population cohort*, J Cardiovasc Magn Reson 19:18, 2017: 368 men and 432 women of 45 to
74 years, 1.5 T, balanced SSFP, drawn by hand. Mean and standard deviation by sex are those of its Table 12; a range is
mean ± 1.96 standard deviations, which holds 95 % of a normal distribution.

**Papillary muscles and trabeculae count to the cavity** in that paper (Kawel-Boehm et al., J Cardiovasc Magn Reson
22:87, 2020, Table 1), as in the labels of ACDC and M&Ms-2. Where they count to the wall, volumes are smaller and the
mass is larger, and these ranges do not hold.

Ejection fraction and mass index were read in the paper's abstract. Volumes were read where two public programs quote
the paper, the stroke volume index where one does, which names Table 12; EDV, ESV, stroke volume and ejection fraction
agree with each other. The paper's figures of the right ventricle, of age groups and of the other indices could
not be read and are left out; so are other ages.
"""

from dataclasses import dataclass

SOURCE = "Petersen et al., J Cardiovasc Magn Reson 19:18, 2017, Table 12: healthy, 45 to 74 years, mean ± 1.96 SD"
AGES = (45, 74)
"""Years."""
MEAN_AND_SD: dict[str, dict[str, tuple[float, float]]] = {
    "LV_EDV_mL": {"M": (166, 32), "F": (124, 21)},
    "LV_ESV_mL": {"M": (69, 16), "F": (49, 11)},
    "LV_SV_mL": {"M": (96, 20), "F": (75, 14)},
    "LV_SV_index_mL_m2": {"M": (49, 10), "F": (45, 8)},
    "LV_EF_percent": {"M": (58, 5), "F": (61, 5)},
    "LV_mass_index_g_m2": {"M": (53, 9), "F": (42, 7)},
}
"""By index and sex, in the index's unit."""


@dataclass(frozen=True)
class Range:
    """
    Args:
        low, high: in the index's unit
        source: paper, table and population
    """

    low: float
    high: float
    source: str


def reference_range(index: str, sex: str | None, age: float | None) -> Range | None:
    """What 95 % of healthy people of that sex and age have; None where no figure is known to hold for them.

    Args:
        index: name as in ``nnunet_cardiac.evaluation.indices``
        sex: "F" or "M"; None where unknown
        age: years; None where unknown
    """
    if age is None or not AGES[0] <= age < AGES[1] + 1:
        return None
    of_sex = MEAN_AND_SD.get(index, {}).get(sex or "")
    if of_sex is None:
        return None
    mean, sd = of_sex
    return Range(mean - 1.96 * sd, mean + 1.96 * sd, SOURCE)
