"""Trainings on a CPU with torch.compile and in bfloat16, which nnU-Net has on a GPU alone."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch._dynamo

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.network import bare

_inductor = importlib.import_module("torch._inductor.exc")
FAILURES = (torch._dynamo.exc.TorchDynamoException, *filter(None, [getattr(_inductor, "InductorError", None)]))
"""What PyTorch raises where it cannot compile; ``InductorError`` is not in all of its versions."""


@contextmanager
def faster_on_cpu(trainer, compile_network: bool, bfloat16: bool) -> Iterator[None]:
    """Gives a trainer of nnU-Net's that is not initialised yet, and trains on a CPU, what it would have on a GPU.

    Args:
        trainer: its steps of training and of online validation change; whole images are validated in float32, as they
            are predicted
        compile_network: every size of an input is compiled for itself: with sizes that it leaves open, inductor fails
            on some of nnU-Net's own networks
        bfloat16: as nnU-Net's float16 on a GPU, by autocast, but without a scale for the gradients, which bfloat16's
            range does not need

    Raises:
        UserError: the network cannot be compiled; says why
    """
    if bfloat16:
        half = torch.autocast("cpu", torch.bfloat16)
        trainer.train_step, trainer.validation_step = half(trainer.train_step), half(trainer.validation_step)
    if not compile_network:
        yield
        return
    trainer._do_i_compile = lambda: True
    try:
        with torch._dynamo.config.patch(automatic_dynamic_shapes=False):
            yield
    except FAILURES as e:
        reason = " ".join([line.strip() for line in str(e).splitlines() if line.strip()][:2])
        network = type(bare(trainer.network)).__name__
        raise UserError(f"{network} cannot be compiled on this CPU: leave out --compile. PyTorch says: {reason}") from e
