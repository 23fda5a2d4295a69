"""HALSR-Net: a regressed box around the left ventricle, then hybrid attention and reconstruction inside it."""

from typing import Any

from nnunet_cardiac.architectures.architecture import Architecture, Contender, PublishedFigures

_PLANS: dict[str, Any] = {"planner": "HALSRNetPlanner", "plans": "nnUNetHALSRNetPlans"}
_RECIPE = "nnUNetTrainerHALSRNet"

ARCHITECTURE = Architecture(
    name="HALSR-Net",
    paper="Fakhfakh, Sarry, Clarysse: HALSR-Net: Improving CNN Segmentation of Cardiac Left Ventricle MRI with Hybrid "
    "Attention and Latent Space Reconstruction, Computerized Medical Imaging and Graphics 123, 2025; built from its "
    "public code",
    link="https://doi.org/10.1016/j.compmedimag.2025.102546",
    page="docs/halsr_net.md",
    networks=("LVBoxRegressor", "HALSRNet"),
    planner=_PLANS["planner"],
    plans=_PLANS["plans"],
    trainer=_RECIPE,
    recipe_chooses_epoch=True,
    configurations={
        "2d": "segmentation of the whole image",
        "2d_roi": "phase 1: the box of the left ventricle",
        "2d_cascade": "phase 2: segmentation inside the box",
        "3d_fullres": "segmentation of the whole volume",
        "3d_roi": "phase 1 in 3D",
        "3d_cascade_fullres": "phase 2 in 3D",
    },
    costed=("halsrnet_whole_image", "halsrnet"),
    contenders=(
        Contender(
            "nnunet_2d_halsrnet_recipe",
            planner="ExperimentPlanner",
            plans="nnUNetPlans",
            configuration="2d",
            trainer=_RECIPE,
            description="nnU-Net's U-Net, HALSR-Net's recipe",
        ),
        Contender(
            "halsrnet",
            **_PLANS,
            configuration="2d_cascade",
            trainer=_RECIPE,
            description="HALSR-Net inside the left ventricle's box, its own recipe in both phases",
        ),
        Contender(
            "halsrnet_whole_image",
            **_PLANS,
            configuration="2d",
            trainer=_RECIPE,
            description="ablation: HALSR-Net on the whole image, its own recipe",
        ),
        Contender(
            "halsrnet_nnunet_recipe",
            **_PLANS,
            configuration="2d",
            trainer="nnUNetTrainer",
            description="HALSR-Net on the whole image, nnU-Net's recipe",
        ),
        Contender(
            "halsrnet_3d",
            **_PLANS,
            configuration="3d_cascade_fullres",
            trainer=_RECIPE,
            description="HALSR-Net inside the left ventricle's 3D box, its own recipe in both phases",
            on_demand=True,
        ),
        Contender(
            "halsrnet_whole_image_3d",
            **_PLANS,
            configuration="3d_fullres",
            trainer=_RECIPE,
            description="HALSR-Net on the whole volume, its own recipe",
            on_demand=True,
        ),
    ),
    published=(
        PublishedFigures(
            key="halsrnet",
            paper="HALSR-Net, public code (ASFS-Net)",
            table="README",
            data="ACDC, LVQuan19 and an in-house data set, cavity and myocardium of the LV",
            columns=("accuracy, %", "F1, %"),
            structures=("LV", "MYO"),
            rows={"HALSR-Net, up to": (98, 98)},
            contenders={"HALSR-Net, up to": "halsrnet"},
            remark="The README does not say for which data set, structure and split this holds, nor whether all pixels "
            "count. Where nearly all of an image is background, an accuracy of 98 % is little.",
        ),
    ),
)
