"""The spatial-attention U-Net and its four siblings: one network with three switches."""

from typing import Any

from nnunet_cardiac.architectures.architecture import Architecture, Contender, PublishedFigures

_PLANS: dict[str, Any] = {"planner": "SpatialAttentionUNetPlanner", "plans": "nnUNetSpatialAttentionUNetPlans"}
_RECIPE = "nnUNetTrainerSpatialAttentionUNet"

ARCHITECTURE = Architecture(
    name="Spatial-attention U-Net",
    paper="Cardiac-MRI-Segmentation, left ventricle on Sunnybrook; public code and its text",
    link="https://github.com/FaizanNabi-hub/Cardiac-MRI-Segmentation",
    page="docs/spatial_attention_unet.md",
    networks=("SpatialAttentionUNet",),
    planner=_PLANS["planner"],
    plans=_PLANS["plans"],
    trainer=_RECIPE,
    configurations={
        "2d": "Modified Spatial Attention U-Net: skip connections, encoder attention, attention gates",
        "2d_attention_gates": "Modified Attention U-Net: skip connections, attention gates",
        "2d_unet": "U-Net: skip connections",
        "2d_encoder_decoder": "Encoder Decoder: none of the three",
        "2d_attention_encoder_decoder": "Spatial Attention Encoder Decoder: encoder attention",
        "3d_fullres": "Modified Spatial Attention U-Net in 3D",
    },
    costed=("spatial_attention_unet",),
    contenders=(
        Contender(
            "nnunet_2d_spatial_recipe",
            planner="ExperimentPlanner",
            plans="nnUNetPlans",
            configuration="2d",
            trainer=_RECIPE,
            description="nnU-Net's U-Net, the spatial-attention U-Net's recipe",
        ),
        Contender(
            "spatial_attention_unet",
            **_PLANS,
            configuration="2d",
            trainer=_RECIPE,
            description="U-Net with encoder attention and attention gates, its own recipe",
        ),
        Contender(
            "spatial_nnunet_recipe",
            **_PLANS,
            configuration="2d",
            trainer="nnUNetTrainer",
            description="U-Net with encoder attention and attention gates, nnU-Net's recipe",
        ),
        Contender(
            "attention_gates_unet",
            **_PLANS,
            configuration="2d_attention_gates",
            trainer=_RECIPE,
            description="U-Net with attention gates, the same recipe",
        ),
        Contender(
            "plain_unet",
            **_PLANS,
            configuration="2d_unet",
            trainer=_RECIPE,
            description="U-Net without attention, the same recipe",
        ),
        Contender(
            "encoder_decoder",
            **_PLANS,
            configuration="2d_encoder_decoder",
            trainer=_RECIPE,
            description="neither skip connections nor attention, the same recipe",
        ),
        Contender(
            "attention_encoder_decoder",
            **_PLANS,
            configuration="2d_attention_encoder_decoder",
            trainer=_RECIPE,
            description="encoder attention without skip connections, the same recipe",
        ),
        Contender(
            "spatial_attention_unet_3d",
            **_PLANS,
            configuration="3d_fullres",
            trainer=_RECIPE,
            description="U-Net with encoder attention and attention gates in 3D, its own recipe",
            on_demand=True,
        ),
    ),
    published=(
        PublishedFigures(
            key="spatial",
            paper="Spatial-attention U-Net, public code",
            table="README",
            data="Sunnybrook, 805 images, LV cavity",
            columns=("Dice", "Jaccard"),
            structures=("LV",),
            rows={"first version": (0.4307, 0.2834), "Modified Spatial Attention U-Net": (0.8036, 0.70)},
            contenders={"Modified Spatial Attention U-Net": "spatial_attention_unet"},
            missing={"first version": "the README does not describe it"},
            remark="nnU-Net is not among the methods compared; the split is not reported. A Dice of 0.8036 in every "
            "image would be a Jaccard of 0.67.",
        ),
    ),
)
