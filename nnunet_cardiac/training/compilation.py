"""torch.compile on a CPU, where nnU-Net leaves it out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nnunet_cardiac.errors import UserError


@contextmanager
def compiled_on_cpu(trainer) -> Iterator[None]:
    """Has a trainer of nnU-Net's that is not initialised yet compile its network, although it trains on a CPU.

    Every size of an input is compiled for itself: with sizes that it leaves open, inductor fails on some of nnU-Net's
    own networks.

    Raises:
        UserError: the network cannot be compiled; says why
    """
    trainer._do_i_compile = lambda: True
    before = torch._dynamo.config.automatic_dynamic_shapes
    torch._dynamo.config.automatic_dynamic_shapes = False
    try:
        yield
    except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as e:
        reason = " ".join([line.strip() for line in str(e).splitlines() if line.strip()][:2])
        network = type(getattr(trainer.network, "_orig_mod", trainer.network)).__name__
        raise UserError(f"{network} cannot be compiled on this CPU: leave out --compile. PyTorch says: {reason}") from e
    finally:
        torch._dynamo.config.automatic_dynamic_shapes = before
