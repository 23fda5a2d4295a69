"""How much the clinical indices vary when nothing is wrong: between two scans of a heart, and between readers of one.

Every number is from the abstract of the paper that is named. None is measured here. A number that could not be read in
its source is not here: add it when you have.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variation:
    """What one study reports.

    Args:
        between: what was repeated
        measure: how the study calls its number
        unit: "%" of the index's mean; "" for the index's own unit
        source: paper and population
        ranges: by index, lowest and highest of the study's groups or readers; the same twice where there is one number
    """

    between: str
    measure: str
    unit: str
    source: str
    ranges: dict[str, tuple[float, float]]


VARIATIONS = (
    Variation(
        "two scans", "coefficient of variability", "%",
        "Grothues et al., Am J Cardiol 90(1):29-34, 2002: 60 adults in three groups (healthy, heart failure, "
        "hypertrophy)",
        {"LV_EDV_mL": (2.9, 4.9), "LV_ESV_mL": (4.4, 9.2), "LV_EF_percent": (2.4, 7.3), "LV_mass_g": (2.8, 4.8)},
    ),
    Variation(
        "two scans", "coefficient of variability", "%",
        "Grothues et al., Am Heart J 147(2):218-223, 2004: 60 adults in three groups (healthy, heart failure, "
        "hypertrophy)",
        {"RV_EDV_mL": (4.2, 7.8), "RV_ESV_mL": (8.1, 18.1), "RV_EF_percent": (4.3, 10.4)},
    ),
    Variation(
        "two scans", "coefficient of variation", "%",
        "Davies et al., J Cardiovasc Magn Reson 24:16, 2022: 109 patients of several sites, read by three clinicians",
        {"LV_EF_percent": (6.0, 6.0), "LV_mass_g": (4.8, 4.8)},
    ),
    Variation(
        "two readers", "agreement between readers", "",
        "Suinesiaputra et al., J Cardiovasc Magn Reson 17:63, 2015: 15 studies, read in seven core laboratories",
        {"LV_EDV_mL": (15.2, 28.4), "LV_ESV_mL": (14.0, 21.5), "LV_EF_percent": (4.6, 7.5), "LV_mass_g": (20.2, 34.5)},
    ),
)  # fmt: skip
