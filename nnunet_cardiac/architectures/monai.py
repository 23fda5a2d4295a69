"""Networks of MONAI that papers compare with, trained with nnU-Net's recipe."""

from typing import Any

from nnunet_cardiac.architectures.architecture import Architecture, Contender

_PLANS: dict[str, Any] = {"planner": "MonaiPlanner", "plans": "nnUNetMonaiPlans"}
_RECIPE = "nnUNetTrainerNoDeepSupervision"
_NETWORKS = {
    "": ("monai_unet", "U-Net"),
    "_residual": ("monai_resunet", "residual U-Net"),
    "_unetpp": ("monai_unetpp", "U-Net++"),
    "_attention": ("monai_attention_unet", "Attention U-Net"),
    "_segresnet": ("monai_segresnet", "SegResNet"),
    "_mednext": ("monai_mednext", "MedNeXt-S"),
    "_unetr": ("monai_unetr", "UNETR, a vision transformer"),
    "_swinunetr": ("monai_swinunetr", "Swin UNETR, a transformer of shifted windows"),
}
"""Name and description of a contender, by what follows ``2d`` or ``3d_fullres`` in a configuration's name."""

ARCHITECTURE = Architecture(
    name="MONAI's networks",
    paper="Cardoso et al.: MONAI: an open-source framework for deep learning in healthcare, arXiv:2211.02701; each "
    "network has a paper of its own",
    link="https://arxiv.org/abs/2211.02701",
    page="docs/monai.md",
    networks=(
        "monai.UNet",
        "monai.ResidualUNet",
        "monai.UNetPlusPlus",
        "monai.AttentionUNet",
        "monai.SegResNet",
        "monai.MedNeXt",
        "monai.UNETR",
        "monai.SwinUNETR",
    ),
    planner=_PLANS["planner"],
    plans=_PLANS["plans"],
    trainer=_RECIPE,
    configurations={
        **{f"2d{suffix}": words for suffix, (_, words) in _NETWORKS.items()},
        **{f"3d_fullres{suffix}": f"{words}, in 3D" for suffix, (_, words) in _NETWORKS.items()},
    },
    contenders=tuple(
        Contender(
            name,
            **_PLANS,
            configuration=f"2d{suffix}",
            trainer=_RECIPE,
            description=f"MONAI's {words}; nnU-Net's recipe without deep supervision",
            on_demand=True,
        )
        for suffix, (name, words) in _NETWORKS.items()
    ),
)
