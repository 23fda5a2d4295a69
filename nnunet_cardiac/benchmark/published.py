"""Figures that the papers publish, to stand beside what was measured; never a result of this project."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFigures:
    """
    Args:
        paper: authors, title and where it appeared
        table: which of its tables
        data: on which data set, and which view of it
        of: planners and trainers whose contenders it belongs to
        columns: titles of the numbers
        rows: by the paper's name of a method, its numbers
        remark: what a reader must know before comparing
    """

    paper: str
    table: str
    data: str
    of: tuple[str, ...]
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    remark: str = ""


PUBLISHED = (
    PublishedFigures(
        paper="Khan, Asad, Benning, Roney, Slabaugh: Crop and Couple, ISBI 2024",
        table="Tables 1 and 2",
        data="M&Ms-2, long axis",
        of=("CroCNetPlanner", "nnUNetTrainerCroCNet"),
        columns=("Dice LV %", "Dice RV %", "Dice MYO %", "HD LV mm", "HD RV mm", "HD MYO mm"),
        rows={
            "UNet": (87.26, 88.20, 79.96, 13.04, 8.76, 12.24),
            "ResUNet": (87.61, 88.41, 80.12, 12.72, 8.39, 11.28),
            "TransUNet": (87.91, 88.23, 79.05, 12.02, 8.14, 11.21),
            "MCTrans": (88.42, 88.19, 79.47, 11.78, 7.65, 10.76),
            "UTNet": (86.93, 89.07, 80.48, 11.47, 6.35, 10.02),
            "TransFusion (several views)": (89.78, 91.52, 81.79, 10.25, 5.12, 8.69),
            "E-2AUNet": (93.64, 91.78, 84.33, 3.56, 5.18, 3.02),
            "single network": (94.44, 92.04, 84.58, 3.10, 4.41, 2.86),
            "CroCNet": (95.01, 92.14, 85.53, 3.03, 4.10, 2.93),
        },
        remark="No nnU-Net among the methods compared. The HD of the last three rows is, in the authors' code, a 95th "
        "percentile in pixels.",
    ),
)


def published_for(names: set[str]) -> list[PublishedFigures]:
    """The figures of those papers whose architectures or recipes take part, by planner and trainer."""
    return [figures for figures in PUBLISHED if names & set(figures.of)]
