"""Plans for a machine without a GPU."""

PATCH = 128
BATCH = {2: 8, 3: 2}
"""By the number of dimensions."""
STAGES = 4
WHOLE_IMAGE = "patch_covers_image"
"""In a configuration whose patch must show the whole heart; nnU-Net passes it over."""
PLANNED_MEMORY = "planned_memory_GB"
"""In a configuration: what a training step of its patch and batch takes. nnU-Net passes it over."""


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
        kwargs = configuration["architecture"]["arch_kwargs"]
        n_stages = min(kwargs["n_stages"], STAGES)
        for key, value in kwargs.items():
            if isinstance(value, list | tuple) and len(value) in (kwargs["n_stages"], kwargs["n_stages"] - 1):
                if key not in ("crop_size", "crop_margin", "box_labels"):
                    kwargs[key] = list(value)[: n_stages - (kwargs["n_stages"] - len(value))]
        kwargs["features_per_stage"] = [f // 4 for f in kwargs["features_per_stage"]]
        kwargs["n_stages"] = n_stages
        configuration["batch_size"] = BATCH[len(kwargs["strides"][0])]
        if "patch_size" in configuration and not configuration.get(WHOLE_IMAGE):  # else inherited
            *depth, height, width = configuration["patch_size"]
            configuration["patch_size"] = [*depth, min(height, patch), min(width, patch)]
    return plans
