"""How trainings are run, whatever is trained."""

from dataclasses import dataclass

from nnunet_cardiac.errors import UserError


@dataclass(frozen=True)
class TrainingOptions:
    """
    Args:
        device: "cuda", "cpu" or "mps"
        num_gpus: more than one trains with DDP
        budget: optimiser steps of each fold; None for the recipe's own
        scale_schedule: whether the recipe's schedule shrinks to the budget, or is cut off by it
        initial_lr: learning rate to start from; None for the recipe's own
        seed: of all random numbers; None for the recipe's own. nnU-Net's own trainers are seeded when they start
        compile_on_cpu: compile the networks, which nnU-Net does on a GPU alone
        bfloat16: compute a CPU's steps in bfloat16, as nnU-Net does a GPU's in float16
        inner_validation: where a recipe looks at its validation (for its best epoch, rate or end), that is on a fifth
            of the training patients, which are not trained on, and not on the fold's held-out cases
        snapshots: keep the networks of ``SNAPSHOT_SHARES`` of the training
        npz: save the final validation's probabilities, for ``nnUNetv2_find_best_configuration``

    Raises:
        UserError: options that exclude each other
    """

    device: str = "cuda"
    num_gpus: int = 1
    budget: int | None = None
    scale_schedule: bool = True
    initial_lr: float | None = None
    seed: int | None = None
    compile_on_cpu: bool = False
    bfloat16: bool = False
    inner_validation: bool = False
    snapshots: bool = False
    npz: bool = False

    def __post_init__(self):
        if self.device != "cpu" and self.compile_on_cpu:
            raise UserError(
                "--compile is for -device cpu: on a GPU nnU-Net decides whether to compile, see nnUNet_compile."
            )
        if self.device != "cpu" and self.bfloat16:
            raise UserError("--bfloat16 is for -device cpu: on a GPU nnU-Net computes in float16.")
        if self.num_gpus > 1 and (self.budget or self.initial_lr or self.seed or self.inner_validation):
            raise UserError(
                "--budget, --initial_lr, --seed and --inner_validation work with one GPU: leave them out, or -num_gpus."
            )
