"""DADU: a U-Net with dual attention and edges in its skip connections, and learned deep supervision."""

from nnunet_cardiac.architectures.architecture import Architecture, Contender, PublishedFigures

_PLANS = {"planner": "DADUPlanner", "plans": "nnUNetDADUPlans"}
_RECIPE = "nnUNetTrainerDADU"

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
            "dadu_3d", **_PLANS, configuration="3d_fullres", trainer=_RECIPE, description="DADU in 3D, DADU's recipe"
        ),
    ),
    published=(
        PublishedFigures(
            paper="Mukisa, Bansal: DADU, Dual Attention-based Deep Supervised UNet",
            table="Table 3",
            data="ACDC, 100 examinations for training and 50 for testing",
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
            remark="nnU-Net is not among the methods compared. The paper's tables disagree: Table 2 gives an HD of "
            "16.4 mm for the RV at ED after 100 epochs, Tables 1 and 3 give 10.0. The images were PNG files scaled to "
            "256 x 256 pixels.",
        ),
    ),
)
