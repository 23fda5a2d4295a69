"""nnU-Net's own U-Nets: the baselines that every architecture is compared with."""

from typing import Any

from nnunet_cardiac.architectures.architecture import Architecture, Contender

_UNET: dict[str, Any] = {"planner": "ExperimentPlanner", "plans": "nnUNetPlans"}
_RESIDUAL_ENCODER: dict[str, Any] = {"planner": "nnUNetPlannerResEncM", "plans": "nnUNetResEncUNetMPlans"}
_RECIPE = "nnUNetTrainer"

ARCHITECTURE = Architecture(
    name="nnU-Net",
    paper="Isensee, Jaeger, Kohl, Petersen, Maier-Hein: nnU-Net: a self-configuring method for deep learning-based "
    "biomedical image segmentation, Nature Methods 18, 2021",
    link="https://doi.org/10.1038/s41592-020-01008-z",
    page="docs/benchmark.md",
    networks=(),
    planner=_UNET["planner"],
    plans=_UNET["plans"],
    trainer=_RECIPE,
    configurations={"2d": "U-Net on slices", "3d_fullres": "U-Net on volumes"},
    costed=("nnunet_2d", "nnunet_resenc_m"),
    contenders=(
        Contender(
            "nnunet_2d", **_UNET, configuration="2d", trainer=_RECIPE, description="nnU-Net's U-Net, nnU-Net's recipe"
        ),
        Contender(
            "nnunet_resenc_m",
            **_RESIDUAL_ENCODER,
            configuration="2d",
            trainer=_RECIPE,
            description="nnU-Net's residual encoder U-Net (M), nnU-Net's recipe",
        ),
        Contender(
            "nnunet_3d",
            **_UNET,
            configuration="3d_fullres",
            trainer=_RECIPE,
            description="nnU-Net's U-Net in 3D, nnU-Net's recipe",
            on_demand=True,
        ),
        Contender(
            "nnunet_resenc_m_3d",
            **_RESIDUAL_ENCODER,
            configuration="3d_fullres",
            trainer=_RECIPE,
            description="nnU-Net's residual encoder U-Net (M) in 3D, nnU-Net's recipe",
            on_demand=True,
        ),
    ),
)
