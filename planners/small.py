"""Plans for a machine without a GPU."""

PATCH = 128
BATCH = 8
STAGES = 4


def shrink(plans: dict, patch: int = PATCH) -> dict:
    """``plans`` of any planner, with networks that train in minutes on a CPU.

    A quarter of the width, at most four resolutions, batches of 8; patches of at most ``patch`` pixels a side, but for
    cascaded stages, whose patch must show the whole heart. The same for every planner, so that results can still be
    compared; 3D configurations are dropped.
    """
    configurations = {name: c for name, c in plans["configurations"].items() if not name.startswith("3d")}
    for configuration in configurations.values():
        if "architecture" not in configuration:
            continue
        kwargs = configuration["architecture"]["arch_kwargs"]
        n_stages = min(kwargs["n_stages"], STAGES)
        for key, value in kwargs.items():
            if isinstance(value, list | tuple) and len(value) in (kwargs["n_stages"], kwargs["n_stages"] - 1):
                if key not in ("crop_size", "crop_margin"):
                    kwargs[key] = list(value)[: n_stages - (kwargs["n_stages"] - len(value))]
        kwargs["features_per_stage"] = [f // 4 for f in kwargs["features_per_stage"]]
        kwargs["n_stages"] = n_stages
        configuration["batch_size"] = BATCH
        if "previous_stage" not in configuration:
            configuration["patch_size"] = [min(p, patch) for p in configuration["patch_size"]]
    return plans | {"configurations": configurations}
