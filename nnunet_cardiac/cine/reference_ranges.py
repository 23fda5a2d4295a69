"""Published reference ranges of healthy adults.

Petersen et al., *Reference ranges for cardiac structure and function using cardiovascular magnetic resonance (CMR) in
Caucasians from the UK Biobank population cohort*, J Cardiovasc Magn Reson 19:18, 2017: 368 men and 432 women of 45 to
74 years, 1.5 T, balanced SSFP, drawn by hand, in three groups of age (45 to 54, 55 to 64, 65 to 74).

**Volumes**: the lowest and the highest limit of the three groups' 95 % prediction intervals. What lies outside is
unusual at every age of these; what lies inside may still be unusual at one of them. **Ejection fraction and mass
index**: mean ± 1.96 standard deviations by sex, which holds 95 % of a normal distribution.

**Papillary muscles and trabeculae count to the cavity** in that paper (Kawel-Boehm et al., J Cardiovasc Magn Reson
22:87, 2020, Table 1), as in the labels of ACDC and M&Ms-2. Where they count to the wall, volumes are smaller and the
mass is larger, and these ranges do not hold.

How the figures were read: ejection fraction and mass index in the paper's abstract; volumes where a public program
quotes the paper. A second program quotes, for women, the narrower ranges in which all three groups agree, a third and a
fourth the means of the left ventricle by sex: the former lie inside, the latter in the middle. The paper's limits of
single groups and the right ventricle's ejection fraction could not be read and are left out; so are other ages.
"""

from dataclasses import dataclass

_POPULATION = "Petersen et al., J Cardiovasc Magn Reson 19:18, 2017: healthy, 45 to 74 years"
LIMITS = f"{_POPULATION}; what lies outside is unusual in all of its three age groups"
MEAN = f"{_POPULATION}, mean ± 1.96 SD"
AGES = (45, 74)
"""Years."""
RANGES: dict[str, tuple[str, dict[str, tuple[float, float]]]] = {
    "LV_EDV_mL": (LIMITS, {"M": (93, 232), "F": (80, 175)}),
    "LV_ESV_mL": (LIMITS, {"M": (34, 103), "F": (25, 73)}),
    "LV_SV_mL": (LIMITS, {"M": (49, 140), "F": (47, 110)}),
    "LV_EDV_index_mL_m2": (LIMITS, {"M": (52, 117), "F": (50, 101)}),
    "LV_ESV_index_mL_m2": (LIMITS, {"M": (19, 52), "F": (16, 43)}),
    "LV_SV_index_mL_m2": (LIMITS, {"M": (28, 70), "F": (29, 63)}),
    "RV_EDV_mL": (LIMITS, {"M": (99, 260), "F": (83, 192)}),
    "RV_ESV_mL": (LIMITS, {"M": (34, 135), "F": (26, 95)}),
    "RV_SV_mL": (LIMITS, {"M": (54, 140), "F": (47, 107)}),
    "RV_EDV_index_mL_m2": (LIMITS, {"M": (55, 128), "F": (51, 110)}),
    "RV_ESV_index_mL_m2": (LIMITS, {"M": (19, 67), "F": (16, 55)}),
    "RV_SV_index_mL_m2": (LIMITS, {"M": (30, 69), "F": (29, 61)}),
    "LV_EF_percent": (MEAN, {"M": (48, 68), "F": (51, 71)}),
    "LV_mass_index_g_m2": (MEAN, {"M": (35, 71), "F": (28, 56)}),
}
"""Source, and by sex the lower and upper limit in the index's unit."""


@dataclass(frozen=True)
class Range:
    """
    Args:
        low, high: in the index's unit
        source: paper and population
    """

    low: float
    high: float
    source: str


def reference_range(index: str, sex: str | None, age: float | None) -> Range | None:
    """What healthy people of that sex and age have; None where no figure is known to hold for them.

    Args:
        index: name as in ``nnunet_cardiac.evaluation.indices``
        sex: "F" or "M"; None where unknown
        age: years; None where unknown
    """
    if index not in RANGES or age is None or not AGES[0] <= age < AGES[1] + 1:
        return None
    source, by_sex = RANGES[index]
    return Range(*by_sex[sex], source) if sex in by_sex else None
