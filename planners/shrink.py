"""Plans for a machine without a GPU."""

import math

import numpy as np

from nnunet_cardiac.networks.topology import shrink_topology
from nnunet_cardiac.planners.sizes import Size
from nnunet_cardiac.training.memory import PLANNED_MEMORY

WHOLE_IMAGE = "patch_covers_image"
"""In a configuration whose patch must show the whole heart; nnU-Net passes it over."""
KEEPS_RESOLUTIONS = "keeps_resolutions"
"""In a configuration whose network has a fixed number of them; nnU-Net passes it over."""


def shrink(plans: dict, size: Size) -> dict:
    """``plans`` of any planner, made as small as ``size`` says, in place."""
    for configuration in plans["configurations"].values():
        configuration.pop(PLANNED_MEMORY, None)
        if "architecture" not in configuration:
            continue
        kwargs = configuration["architecture"]["arch_kwargs"]
        stages = kwargs["n_stages"] if configuration.get(KEEPS_RESOLUTIONS) else size.stages
        kwargs = shrink_topology(kwargs, stages, size.divide_features)
        configuration["architecture"]["arch_kwargs"] = kwargs
        configuration["batch_size"] = {2: size.batch_2d, 3: size.batch_3d}[len(kwargs["strides"][0])]
        if "patch_size" in configuration and not configuration.get(WHOLE_IMAGE):  # else inherited
            *depth, height, width = configuration["patch_size"]
            patch = [*depth, min(height, size.patch), min(width, size.patch)]
            divisors = np.prod(kwargs["strides"], axis=0).tolist()
            patch = [math.ceil(side / divisor) * divisor for side, divisor in zip(patch, divisors, strict=True)]
            configuration["patch_size"] = patch
            if "patch_size" in kwargs:
                kwargs["patch_size"] = patch
    return plans
