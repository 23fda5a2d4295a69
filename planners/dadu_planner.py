"""DADU's plans: ``2d``, its two ablations, and ``3d_fullres``."""

from nnunet_cardiac.networks import DADU
from nnunet_cardiac.networks.dadu import VARIANTS
from nnunet_cardiac.planners.network_planner import NetworkPlanner


class DADUPlanner(NetworkPlanner):
    """Plans DADU: ``2d``, ``3d_fullres``, ``2d_no_edges`` and ``2d_no_attention`` (of the skips).

    ``paper`` resizes every image to 256 x 256 pixels, in batches of 10; five resolutions of 32 to 512 features are the
    project's choice where the paper gives none.
    """

    network = DADU
    default_plans_name = "nnUNetDADUPlans"
    paper_batch_size = 10
    paper_image_size = (256, 256)

    def configurations(self, plans: dict) -> dict[str, dict]:
        """``2d``, its ablations, and ``3d_fullres``."""
        names = {variant: "2d" if variant == "full" else f"2d_{variant}" for variant in VARIANTS}
        return self.variants(plans, {name: {"variant": variant} for variant, name in names.items()})
