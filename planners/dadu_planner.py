"""DADU's plans: ``2d``, its two ablations, and ``3d_fullres``."""

from copy import deepcopy

from nnunet_cardiac.networks import DADU
from nnunet_cardiac.networks.dadu import VARIANTS
from nnunet_cardiac.planners.architecture import ArchitecturePlanner


class DADUPlanner(ArchitecturePlanner):
    """Plans DADU: ``2d``, ``3d_fullres``, ``2d_no_edges`` and ``2d_no_attention`` (of the skips).

    Patch and batch of the ablations are those of ``2d``, so that they differ in nothing else. The paper's sizes are 256
    x 256 pixels, batch 10; five resolutions of 32 to 512 features are the project's choice where the paper gives none.
    """

    network = DADU
    default_plans_name = "nnUNetDADUPlans"
    paper_batch_size = 10

    def configurations(self, plans: dict) -> dict[str, dict]:
        """``2d``, a copy of its architecture for each variant, and ``3d_fullres``."""
        full, configurations = plans["configurations"].pop("2d"), {}
        for variant in VARIANTS:
            architecture = deepcopy(full["architecture"])
            architecture["arch_kwargs"]["variant"] = variant
            if variant == "full":
                configurations["2d"] = full | {"architecture": architecture}
            else:
                configurations[f"2d_{variant}"] = {"inherits_from": "2d", "architecture": architecture}
        return configurations | plans["configurations"]
