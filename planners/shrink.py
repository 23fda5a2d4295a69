"""Plans for a machine without a GPU."""

from nnunet_cardiac.networks.topology import shrink_topology
from nnunet_cardiac.planners.sizes import Size
from nnunet_cardiac.training.memory import PLANNED_MEMORY

WHOLE_IMAGE = "patch_covers_image"
"""In a configuration whose patch must show the whole heart; nnU-Net passes it over."""


def shrink(plans: dict, size: Size) -> dict:
    """``plans`` of any planner, made as small as ``size`` says, in place."""
    for configuration in plans["configurations"].values():
        configuration.pop(PLANNED_MEMORY, None)
        if "architecture" not in configuration:
            continue
        kwargs = shrink_topology(configuration["architecture"]["arch_kwargs"], size.stages, size.divide_features)
        configuration["architecture"]["arch_kwargs"] = kwargs
        configuration["batch_size"] = {2: size.batch_2d, 3: size.batch_3d}[len(kwargs["strides"][0])]
        if "patch_size" in configuration and not configuration.get(WHOLE_IMAGE):  # else inherited
            *depth, height, width = configuration["patch_size"]
            configuration["patch_size"] = [*depth, min(height, size.patch), min(width, size.patch)]
    return plans
