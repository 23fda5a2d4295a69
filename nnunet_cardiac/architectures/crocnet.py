"""CroCNet: one network finds the heart, a specialist for each anatomy segments it inside a crop."""

from typing import Any

from nnunet_cardiac.architectures.architecture import Architecture, Contender, PublishedFigures

_PLANS: dict[str, Any] = {"planner": "CroCNetPlanner", "plans": "nnUNetCroCNetPlans"}
_RECIPE = "nnUNetTrainerCroCNet"
_PAPER = "Khan, Asad, Benning, Roney, Slabaugh: Crop and Couple, ISBI 2024"
_DATA = "M&Ms-2, long axis"
_DISTANCES = "In the authors' code, the HD of their own networks is a 95th percentile in pixels."
_NO_PACKAGE = "no maintained package has it"
_SEVERAL_VIEWS = "it sees several views at once, and no maintained package has it"

ARCHITECTURE = Architecture(
    name="CroCNet",
    paper="Khan, Asad, Benning, Roney, Slabaugh: Crop and Couple: cardiac image segmentation using interlinked "
    "specialist networks, ISBI 2024",
    link="https://arxiv.org/abs/2402.09156",
    page="docs/crocnet.md",
    networks=("E2AUNet", "CroCNetRefiner"),
    planner=_PLANS["planner"],
    plans=_PLANS["plans"],
    trainer=_RECIPE,
    configurations={
        "2d": "stage 1 (E-2AUNet), on the whole image",
        "2d_cascade": "stage 2: coupled specialists inside the crop",
        "2d_cascade_single": "ablation of stage 2: one network for all anatomies, with attention and half the weights",
        "2d_cascade_self_coupled": "ablation of stage 2: as many weights, every specialist coupled to itself alone",
        "2d_cascade_uncoupled": "ablation of stage 2: specialists without coupling, with fewer weights",
        "3d_fullres": "stage 1 in 3D",
        "3d_cascade_fullres": "stage 2 in 3D",
    },
    costed=("e2aunet", "crocnet"),
    contenders=(
        Contender(
            "nnunet_2d_crocnet_recipe",
            planner="ExperimentPlanner",
            plans="nnUNetPlans",
            configuration="2d",
            trainer=_RECIPE,
            description="nnU-Net's U-Net, CroCNet's recipe",
        ),
        Contender(
            "e2aunet", **_PLANS, configuration="2d", trainer=_RECIPE, description="stage 1 of CroCNet, CroCNet's recipe"
        ),
        Contender(
            "e2aunet_nnunet_recipe",
            **_PLANS,
            configuration="2d",
            trainer="nnUNetTrainer",
            description="stage 1 of CroCNet, nnU-Net's recipe",
        ),
        Contender(
            "crocnet",
            **_PLANS,
            configuration="2d_cascade",
            trainer=_RECIPE,
            description="both stages of CroCNet, CroCNet's recipe",
        ),
        Contender(
            "crocnet_nnunet_recipe",
            **_PLANS,
            configuration="2d_cascade",
            trainer="nnUNetTrainerCrop",
            description="both stages of CroCNet, nnU-Net's recipe without deep supervision (stage 2 has none)",
        ),
        Contender(
            "crocnet_single",
            **_PLANS,
            configuration="2d_cascade_single",
            trainer=_RECIPE,
            description="ablation: one network in stage 2, with attention and half the weights, CroCNet's recipe",
        ),
        Contender(
            "crocnet_self_coupled",
            **_PLANS,
            configuration="2d_cascade_self_coupled",
            trainer=_RECIPE,
            description="ablation: specialists coupled to themselves alone, as many weights, CroCNet's recipe",
        ),
        Contender(
            "crocnet_uncoupled",
            **_PLANS,
            configuration="2d_cascade_uncoupled",
            trainer=_RECIPE,
            description="ablation: specialists without coupling, with fewer weights, CroCNet's recipe",
        ),
        Contender(
            "e2aunet_3d",
            **_PLANS,
            configuration="3d_fullres",
            trainer=_RECIPE,
            description="stage 1 of CroCNet in 3D, CroCNet's recipe",
            on_demand=True,
        ),
        Contender(
            "crocnet_3d",
            **_PLANS,
            configuration="3d_cascade_fullres",
            trainer=_RECIPE,
            description="both stages of CroCNet in 3D, CroCNet's recipe",
            on_demand=True,
        ),
    ),
    published=(
        PublishedFigures(
            key="crocnet1",
            paper=_PAPER,
            table="Table 1",
            data=_DATA,
            columns=(
                *(f"Dice {structure} %" for structure in ("LV", "RV", "MYO", "average")),
                *(f"HD {structure} mm" for structure in ("LV", "RV", "MYO", "average")),
            ),
            rows={
                "UNet": (87.26, 88.20, 79.96, 85.14, 13.04, 8.76, 12.24, 11.35),
                "ResUNet": (87.61, 88.41, 80.12, 85.38, 12.72, 8.39, 11.28, 10.80),
                "InfoTrans (several views)": (88.21, 89.11, 80.55, 85.96, 12.47, 7.23, 10.21, 9.97),
                "TransUNet": (87.91, 88.23, 79.05, 85.06, 12.02, 8.14, 11.21, 10.46),
                "MCTrans": (88.42, 88.19, 79.47, 85.36, 11.78, 7.65, 10.76, 10.06),
                "MCTrans (several views)": (88.81, 88.61, 79.94, 85.79, 11.52, 7.02, 10.07, 9.54),
                "UTNet": (86.93, 89.07, 80.48, 85.49, 11.47, 6.35, 10.02, 9.28),
                "UTNet (several views)": (87.36, 90.42, 81.02, 86.27, 11.13, 5.91, 9.81, 8.95),
                "TransFusion (several views)": (89.78, 91.52, 81.79, 87.70, 10.25, 5.12, 8.69, 8.02),
                "E-2AUNet": (93.64, 91.78, 84.33, 89.91, 3.56, 5.18, 3.02, 3.92),
                "CroCNet": (95.01, 92.14, 85.53, 90.89, 3.03, 4.10, 2.93, 3.35),
            },
            contenders={
                "UNet": "monai_unet",
                "ResUNet": "monai_resunet",
                "E-2AUNet": "e2aunet",
                "CroCNet": "crocnet",
            },
            missing={
                "InfoTrans (several views)": _SEVERAL_VIEWS,
                "TransUNet": _NO_PACKAGE,
                "MCTrans": _NO_PACKAGE,
                "MCTrans (several views)": _SEVERAL_VIEWS,
                "UTNet": _NO_PACKAGE,
                "UTNet (several views)": _SEVERAL_VIEWS,
                "TransFusion (several views)": _SEVERAL_VIEWS,
            },
            remark=f"nnU-Net is not among the methods compared. {_DISTANCES}",
        ),
        PublishedFigures(
            key="crocnet2",
            paper=_PAPER,
            table="Table 2",
            data=_DATA,
            columns=(
                *(f"Dice {structure} %" for structure in ("LV", "RV", "MYO")),
                *(f"HD {structure} mm" for structure in ("LV", "RV", "MYO")),
            ),
            rows={
                "single network": (94.44, 92.04, 84.58, 3.10, 4.41, 2.86),
                "CroCNet": (95.01, 92.14, 85.53, 3.03, 4.10, 2.93),
            },
            contenders={"single network": "crocnet_single", "CroCNet": "crocnet"},
            remark="The text calls its single network one without cross-E-2A, and the public code keeps attention in "
            f"it. {_DISTANCES}",
        ),
    ),
)
