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
    PublishedFigures(
        paper="Mukisa, Bansal: DADU, Dual Attention-based Deep Supervised UNet",
        table="Table 3",
        data="ACDC, 100 examinations for training and 50 for testing",
        of=("DADUPlanner", "nnUNetTrainerDADU"),
        columns=tuple(
            f"{metric} {structure} {phase}{unit}"
            for structure in ("LV", "RV", "MYO")
            for metric, unit in (("Dice", ""), ("HD", " mm"))
            for phase in ("ED", "ES")
        ),
        rows={
            "U-Net": (0.96, 0.91, 6.5, 7.6, 0.93, 0.88, 22.3, 8.9, 0.89, 0.82, 12.2, 24.3),
            "FCN (Khened)": (0.96, 0.92, 8.1, 9.0, 0.94, 0.88, 14.0, 13.9, 0.89, 0.90, 9.8, 12.6),
            "CNN (Painchaud)": (0.96, 0.91, 6.1, 8.3, 0.93, 0.88, 13.7, 13.3, 0.88, 0.90, 8.6, 9.6),
            "CNN (Zotti)": (0.96, 0.91, 6.6, 8.7, 0.94, 0.88, 10.3, 14.0, 0.89, 0.90, 9.6, 9.3),
            "MRF (Grinias)": (0.95, 0.85, 9.0, 13.0, 0.90, 0.77, 19.0, 24.2, 0.80, 0.78, 12.3, 14.6),
            "UNet++": (0.96, 0.94, 5.5, 6.4, 0.94, 0.92, 19.3, 9.3, 0.90, 0.90, 8.5, 13.8),
            "Attention UNet": (0.97, 0.94, 2.9, 5.6, 0.95, 0.93, 16.6, 8.8, 0.91, 0.91, 9.0, 7.0),
            "DADU": (0.98, 0.96, 1.9, 3.9, 0.97, 0.94, 10.0, 4.0, 0.93, 0.92, 8.2, 6.3),
        },
        remark="No nnU-Net among the methods compared. The paper's own tables differ: Table 2 has an HD of 16.4 mm for "
        "the RV at ED after 100 epochs, Tables 1 and 3 have 10.0. Its data were scaled to 256 x 256 as PNG images.",
    ),
    PublishedFigures(
        paper="HALSR-Net, public code (ASFS-Net)",
        table="README",
        data="ACDC, LVQuan19 and an in-house data set, cavity and myocardium of the LV",
        of=("HALSRNetPlanner", "nnUNetTrainerHALSRNet"),
        columns=("accuracy, %", "F1, %"),
        rows={"HALSR-Net, up to": (98, 98)},
        remark="Neither the data set, the structure nor the split is told, and whether all pixels of the image count. "
        "In an image that is nearly all background, an accuracy of 98 % is little.",
    ),
    PublishedFigures(
        paper="Spatial-attention U-Net, public code",
        table="README",
        data="Sunnybrook, 805 images, LV cavity",
        of=("SpatialAttentionUNetPlanner", "nnUNetTrainerSpatialAttentionUNet"),
        columns=("Dice", "Jaccard"),
        rows={"first version": (0.4307, 0.2834), "Modified Spatial Attention U-Net": (0.8036, 0.70)},
        remark="No nnU-Net among the methods compared; the split is not told. A Dice of 0.8036 in every image would be "
        "a Jaccard of 0.67.",
    ),
)


def published_for(names: set[str]) -> list[PublishedFigures]:
    """The figures of those papers whose architectures or recipes take part, by planner and trainer."""
    return [figures for figures in PUBLISHED if names & set(figures.of)]
