"""Plans for a machine without a GPU."""

from nnunet_cardiac.networks.topology import shrink_topology
from nnunet_cardiac.training.memory import PLANNED_MEMORY

PATCH = 128
BATCH = {2: 8, 3: 2}
"""By the number of dimensions."""
STAGES = 4
DIVIDE_FEATURES = 4
WHOLE_IMAGE = "patch_covers_image"
"""In a configuration whose patch must show the whole heart; nnU-Net passes it over."""


def shrink(plans: dict, patch: int = PATCH) -> dict:
    """``plans`` of any planner, with networks that train in minutes on a CPU.

    A quarter of the width, at most four resolutions, batches of 8 (3D: 2); patches of at most ``patch`` pixels a side
    in the plane, but for stages whose patch must show the whole heart. The same for every planner, so that results can
    still be compared.
    """
    for configuration in plans["configurations"].values():
        configuration.pop(PLANNED_MEMORY, None)
        if "architecture" not in configuration:
            continue
        kwargs = shrink_topology(configuration["architecture"]["arch_kwargs"], STAGES, DIVIDE_FEATURES)
        configuration["architecture"]["arch_kwargs"] = kwargs
        configuration["batch_size"] = BATCH[len(kwargs["strides"][0])]
        if "patch_size" in configuration and not configuration.get(WHOLE_IMAGE):  # else inherited
            *depth, height, width = configuration["patch_size"]
            configuration["patch_size"] = [*depth, min(height, patch), min(width, patch)]
    return plans
