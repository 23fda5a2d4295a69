"""torch.compile on a CPU, where nnU-Net leaves it out."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch._dynamo

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.training.trainer import bare

_inductor = importlib.import_module("torch._inductor.exc")
FAILURES = (torch._dynamo.exc.TorchDynamoException, *filter(None, [getattr(_inductor, "InductorError", None)]))
"""What PyTorch raises where it cannot compile; ``InductorError`` is not in all of its versions."""


@contextmanager
def compiled_on_cpu(trainer) -> Iterator[None]:
    """Has a trainer of nnU-Net's that is not initialised yet compile its network, although it trains on a CPU.

    Every size of an input is compiled for itself: with sizes that it leaves open, inductor fails on some of nnU-Net's
    own networks.

    Raises:
        UserError: the network cannot be compiled; says why
    """
    trainer._do_i_compile = lambda: True
    try:
        with torch._dynamo.config.patch(automatic_dynamic_shapes=False):
            yield
    except FAILURES as e:
        reason = " ".join([line.strip() for line in str(e).splitlines() if line.strip()][:2])
        network = type(bare(trainer.network)).__name__
        raise UserError(f"{network} cannot be compiled on this CPU: leave out --compile. PyTorch says: {reason}") from e
