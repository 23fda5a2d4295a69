"""Who takes part in a benchmark: a planner, plans, a configuration and a trainer under one name."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_cardiac.errors import UserError

BASELINE = "nnunet_2d"


@dataclass(frozen=True)
class Contender:
    """
    Args:
        name: in tables and on the command line
        planner: what ``-pl`` names; makes ``plans`` where they do not exist
        plans, configuration, trainer: what ``-p``, ``-c`` and ``-tr`` name
        description: architecture and recipe in a few words
    """

    name: str
    planner: str
    plans: str
    configuration: str
    trainer: str
    description: str = ""


_NNUNET = ("ExperimentPlanner", "nnUNetPlans", "2d")
_CROCNET = ("CroCNetPlanner", "nnUNetCroCNetPlans")
_DADU = ("DADUPlanner", "nnUNetDADUPlans")
_HALSR = ("HALSRNetPlanner", "nnUNetHALSRNetPlans")
_SPATIAL = ("SpatialAttentionUNetPlanner", "nnUNetSpatialAttentionUNetPlans")
_SPATIAL_RECIPE = "nnUNetTrainerSpatialAttentionUNet"
BUILT_IN = {
    contender.name: contender
    for contender in (
        Contender("nnunet_2d", *_NNUNET, "nnUNetTrainer", "nnU-Net's U-Net, nnU-Net's recipe"),
        Contender(
            "nnunet_resenc_m", "nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", "2d", "nnUNetTrainer",
            "nnU-Net's residual encoder U-Net (M), nnU-Net's recipe",
        ),
        Contender("nnunet_2d_crocnet_recipe", *_NNUNET, "nnUNetTrainerCroCNet", "nnU-Net's U-Net, CroCNet's recipe"),
        Contender("e2aunet", *_CROCNET, "2d", "nnUNetTrainerCroCNet", "CroCNet's stage 1, CroCNet's recipe"),
        Contender("e2aunet_nnunet_recipe", *_CROCNET, "2d", "nnUNetTrainer", "CroCNet's stage 1, nnU-Net's recipe"),
        Contender("crocnet", *_CROCNET, "2d_cascade", "nnUNetTrainerCroCNet", "both stages, CroCNet's recipe"),
        Contender(
            "crocnet_nnunet_recipe", *_CROCNET, "2d_cascade", "nnUNetTrainerNoDeepSupervision",
            "both stages, nnU-Net's recipe (without deep supervision, which stage 2 has not)",
        ),
        Contender(
            "crocnet_single", *_CROCNET, "2d_cascade_single", "nnUNetTrainerCroCNet",
            "ablation: one network in stage 2, CroCNet's recipe",
        ),
        Contender(
            "crocnet_uncoupled", *_CROCNET, "2d_cascade_uncoupled", "nnUNetTrainerCroCNet",
            "ablation: specialists without coupling, CroCNet's recipe",
        ),
        Contender("nnunet_2d_dadu_recipe", *_NNUNET, "nnUNetTrainerDADU", "nnU-Net's U-Net, DADU's recipe"),
        Contender("dadu", *_DADU, "2d", "nnUNetTrainerDADU", "DADU, DADU's recipe"),
        Contender("dadu_nnunet_recipe", *_DADU, "2d", "nnUNetTrainer", "DADU, nnU-Net's recipe"),
        Contender(
            "dadu_no_edges", *_DADU, "2d_no_edges", "nnUNetTrainerDADU",
            "ablation: no edges in the skips, DADU's recipe",
        ),
        Contender(
            "dadu_no_attention", *_DADU, "2d_no_attention", "nnUNetTrainerDADU",
            "ablation: no attention in the skips, DADU's recipe",
        ),
        Contender(
            "nnunet_2d_halsrnet_recipe", *_NNUNET, "nnUNetTrainerHALSRNet", "nnU-Net's U-Net, HALSR-Net's recipe"
        ),
        Contender(
            "halsrnet", *_HALSR, "2d_cascade", "nnUNetTrainerHALSRNet",
            "HALSR-Net inside the left ventricle's box, its recipe in both phases",
        ),
        Contender(
            "halsrnet_whole_image", *_HALSR, "2d", "nnUNetTrainerHALSRNet",
            "ablation: HALSR-Net on the whole image, its recipe",
        ),
        Contender(
            "halsrnet_nnunet_recipe", *_HALSR, "2d", "nnUNetTrainer",
            "HALSR-Net on the whole image, nnU-Net's recipe",
        ),
        Contender(
            "nnunet_2d_spatial_recipe", *_NNUNET, _SPATIAL_RECIPE,
            "nnU-Net's U-Net, the spatial-attention U-Net's recipe",
        ),
        Contender(
            "spatial_attention_unet", *_SPATIAL, "2d", _SPATIAL_RECIPE,
            "U-Net with encoder attention and attention gates, its recipe",
        ),
        Contender(
            "spatial_nnunet_recipe", *_SPATIAL, "2d", "nnUNetTrainer",
            "U-Net with encoder attention and attention gates, nnU-Net's recipe",
        ),
        Contender(
            "attention_gates_unet", *_SPATIAL, "2d_attention_gates", _SPATIAL_RECIPE,
            "U-Net with attention gates, the same recipe",
        ),
        Contender("plain_unet", *_SPATIAL, "2d_unet", _SPATIAL_RECIPE, "U-Net without attention, the same recipe"),
        Contender(
            "encoder_decoder", *_SPATIAL, "2d_encoder_decoder", _SPATIAL_RECIPE,
            "neither skips nor attention, the same recipe",
        ),
        Contender(
            "attention_encoder_decoder", *_SPATIAL, "2d_attention_encoder_decoder", _SPATIAL_RECIPE,
            "encoder attention without skips, the same recipe",
        ),
        Contender("nnunet_3d", *_NNUNET[:2], "3d_fullres", "nnUNetTrainer", "nnU-Net's 3D U-Net, nnU-Net's recipe"),
        Contender(
            "nnunet_resenc_m_3d", "nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", "3d_fullres", "nnUNetTrainer",
            "nnU-Net's 3D residual encoder U-Net (M), nnU-Net's recipe",
        ),
        Contender(
            "e2aunet_3d", *_CROCNET, "3d_fullres", "nnUNetTrainerCroCNet", "CroCNet's stage 1 in 3D, CroCNet's recipe"
        ),
        Contender(
            "crocnet_3d", *_CROCNET, "3d_cascade_fullres", "nnUNetTrainerCroCNet",
            "both stages in 3D, CroCNet's recipe",
        ),
        Contender("dadu_3d", *_DADU, "3d_fullres", "nnUNetTrainerDADU", "DADU in 3D, DADU's recipe"),
        Contender(
            "halsrnet_3d", *_HALSR, "3d_cascade_fullres", "nnUNetTrainerHALSRNet",
            "HALSR-Net inside the left ventricle's 3D box, its recipe in both phases",
        ),
        Contender(
            "halsrnet_whole_image_3d", *_HALSR, "3d_fullres", "nnUNetTrainerHALSRNet",
            "HALSR-Net on the whole volume, its recipe",
        ),
        Contender(
            "spatial_attention_unet_3d", *_SPATIAL, "3d_fullres", _SPATIAL_RECIPE,
            "U-Net with encoder attention and attention gates in 3D, its recipe",
        ),
    )
}  # fmt: skip
"""Every architecture, recipe and ablation of the project, beside nnU-Net's own; those in 3D take part on demand."""


def choose(names: Sequence[str] | None, file: Path | None = None) -> list[Contender]:
    """Contenders by name, built-in or of a file.

    Args:
        names: None for all, the built-in ones in 2D and those of the file
        file: YAML or JSON: ``NAME: {planner: ..., plans: ..., configuration: ..., trainer: ..., description: ...}``

    Raises:
        UserError: a contender that does not exist, or a file that says something else
    """
    known = everyone(file)
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UserError(f"There is no contender '{unknown[0]}': there are {', '.join(known)}.")
    names = names or [name for name in known if name not in BUILT_IN or not known[name].configuration.startswith("3d")]
    return [known[name] for name in dict.fromkeys(names)]


def everyone(file: Path | None = None) -> dict[str, Contender]:
    """All there are, built-in and of a file, by name. Raises ``UserError`` for a file that says something else."""
    return BUILT_IN | (_read(file) if file is not None else {})


def _read(file: Path) -> dict[str, Contender]:
    import yaml

    try:
        entries = yaml.safe_load(file.read_text())
        return {str(name): Contender(str(name), **entry) for name, entry in entries.items()}
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as e:
        fields = ", ".join(key for key in asdict(BUILT_IN[BASELINE]) if key != "name")
        reason = " ".join(str(e).split())
        raise UserError(f"{file} describes no contenders ({reason}); each is 'NAME: {{{fields}}}'.") from e
