"""DADU: a U-Net with dual attention and edges in its skip connections, and learned deep supervision."""

from typing import Any

from nnunet_cardiac.architectures.architecture import Architecture, Contender, PublishedFigures

_PLANS: dict[str, Any] = {"planner": "DADUPlanner", "plans": "nnUNetDADUPlans"}
_RECIPE = "nnUNetTrainerDADU"
_PAPER = "Mukisa, Bansal: DADU, Dual Attention-based Deep Supervised UNet"
_DATA = "ACDC, 100 examinations for training and 50 for testing"

ARCHITECTURE = Architecture(
    name="DADU",
    paper="Mukisa, Bansal: DADU: Dual Attention-based Deep Supervised UNet for Automated Semantic Segmentation of "
    "Cardiac Images, arXiv:2504.13415",
    link="https://arxiv.org/abs/2504.13415",
    page="docs/dadu.md",
    networks=("DADU",),
    planner=_PLANS["planner"],
    plans=_PLANS["plans"],
    trainer=_RECIPE,
    recipe_chooses_epoch=True,
    configurations={
        "2d": "as published",
        "2d_no_edges": "ablation: no edges in the skip connections",
        "2d_no_attention": "ablation: no attention in the skip connections",
        "3d_fullres": "the network in 3D",
    },
    costed=("dadu",),
    contenders=(
        Contender(
            "nnunet_2d_dadu_recipe",
            planner="ExperimentPlanner",
            plans="nnUNetPlans",
            configuration="2d",
            trainer=_RECIPE,
            description="nnU-Net's U-Net, DADU's recipe",
        ),
        Contender("dadu", **_PLANS, configuration="2d", trainer=_RECIPE, description="DADU, DADU's recipe"),
        Contender(
            "dadu_nnunet_recipe",
            **_PLANS,
            configuration="2d",
            trainer="nnUNetTrainer",
            description="DADU, nnU-Net's recipe",
        ),
        Contender(
            "dadu_no_edges",
            **_PLANS,
            configuration="2d_no_edges",
            trainer=_RECIPE,
            description="ablation: no edges in the skips, DADU's recipe",
        ),
        Contender(
            "dadu_no_attention",
            **_PLANS,
            configuration="2d_no_attention",
            trainer=_RECIPE,
            description="ablation: no attention in the skips, DADU's recipe",
        ),
        Contender(
            "dadu_3d",
            **_PLANS,
            configuration="3d_fullres",
            trainer=_RECIPE,
            description="DADU in 3D, DADU's recipe",
            on_demand=True,
        ),
    ),
    published=(
        PublishedFigures(
            key="dadu1",
            paper=_PAPER,
            table="Table 1",
            data=_DATA,
            columns=("Dice LV", "Dice RV", "Dice MYO", "HD LV", "HD RV", "HD MYO"),
            rows={"DADU, ED": (0.98, 0.97, 0.93, 1.9, 10.0, 8.3), "DADU, ES": (0.96, 0.94, 0.92, 3.9, 4.0, 6.4)},
            contenders={"DADU, ED": "dadu", "DADU, ES": "dadu"},
            remark="The table gives the HD no unit. Table 3 has it in mm, and 0.1 less for MYO.",
        ),
        PublishedFigures(
            key="dadu2",
            paper=_PAPER,
            table="Table 2",
            data=_DATA,
            columns=tuple(
                f"{metric} {structure} {phase}"
                for phase in ("ED", "ES")
                for metric in ("Dice", "HD")
                for structure in ("LV", "RV", "MYO")
            ),
            rows={
                "DADU, 20 epochs": (0.93, 0.89, 0.84, 4.1, 20.6, 14.6, 0.89, 0.88, 0.89, 10.0, 4.2, 7.4),
                "DADU, 40 epochs": (0.95, 0.92, 0.86, 2.2, 18.3, 10.2, 0.95, 0.90, 0.90, 5.8, 5.7, 4.9),
                "DADU, 60 epochs": (0.96, 0.95, 0.86, 2.8, 18.6, 11.4, 0.96, 0.91, 0.89, 5.6, 4.5, 7.2),
                "DADU, 80 epochs": (0.98, 0.97, 0.86, 2.4, 17.3, 10.4, 0.96, 0.92, 0.91, 4.0, 4.6, 6.8),
                "DADU, 100 epochs": (0.98, 0.97, 0.92, 1.8, 16.4, 7.6, 0.96, 0.94, 0.91, 3.0, 3.9, 6.4),
            },
            contenders={f"DADU, {n} epochs": "dadu" for n in (20, 40, 60, 80, 100)},
            shares={f"DADU, {n} epochs": n for n in (20, 40, 60, 80)},
            remark="After 100 epochs the figures should be those of Table 1, and are not: the HD of the RV at ED is "
            "16.4 here and 10.0 there.",
        ),
        PublishedFigures(
            key="dadu3",
            paper=_PAPER,
            table="Table 3",
            data=_DATA,
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
            contenders={
                "U-Net": "monai_unet",
                "UNet++": "monai_unetpp",
                "Attention UNet": "monai_attention_unet",
                "DADU": "dadu",
            },
            missing=dict.fromkeys(
                ("FCN (Khened)", "CNN (Painchaud)", "CNN (Zotti)", "MRF (Grinias)"), "no maintained package has it"
            ),
            remark="nnU-Net is not among the methods compared. The paper's tables disagree: Table 2 gives an HD of "
            "16.4 mm for the RV at ED after 100 epochs, Tables 1 and 3 give 10.0. The images were PNG files scaled to "
            "256 x 256 pixels.",
        ),
    ),
)
