"""Plans of the spatial-attention U-Net and its siblings: one configuration for each system of the text."""

from nnunet_cardiac.networks import SpatialAttentionUNet
from nnunet_cardiac.planners.network_planner import NetworkPlanner

SYSTEMS = {
    "2d": {"skip_connections": True, "encoder_attention": True, "attention_gates": True},
    "2d_attention_gates": {"skip_connections": True, "encoder_attention": False, "attention_gates": True},
    "2d_unet": {"skip_connections": True, "encoder_attention": False, "attention_gates": False},
    "2d_encoder_decoder": {"skip_connections": False, "encoder_attention": False, "attention_gates": False},
    "2d_attention_encoder_decoder": {"skip_connections": False, "encoder_attention": True, "attention_gates": False},
}
"""The network's switches, by configuration: the text's Modified Spatial Attention U-Net, Modified Attention U-Net,
U-Net, Encoder Decoder, Spatial Attention Encoder Decoder."""


class SpatialAttentionUNetPlanner(NetworkPlanner):
    """Plans the spatial-attention U-Net (``2d``; ``3d_fullres``) and its four siblings.

    ``paper`` resizes every image to 256 x 256 pixels, with intensities between 0 and 1 (nnU-Net's
    ``RescaleTo01Normalization``); batch 16 and five resolutions of 32 to 512 features are the project's choice where
    the text gives none.
    """

    network = SpatialAttentionUNet
    default_plans_name = "nnUNetSpatialAttentionUNetPlans"
    paper_batch_size = 16
    paper_image_size = (256, 256)
    optimiser_moments = 1  # SGD, as nnU-Net's

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self) -> tuple[list[str], list[bool]]:
        schemes, masks = super().determine_normalization_scheme_and_whether_mask_is_used_for_norm()
        if self.paper:
            return ["RescaleTo01Normalization"] * len(schemes), [False] * len(masks)
        return schemes, masks

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Shared with nnU-Net's default plans, but not where intensities are other than theirs."""
        if self.paper:
            return f"{self.plans_identifier}_{configuration_name}"
        return super().generate_data_identifier(configuration_name)

    def configurations(self, plans: dict) -> dict[str, dict]:
        """All five, and ``3d_fullres`` of the first."""
        return self.variants(plans, SYSTEMS)
