"""Networks of other libraries in nnU-Net's plans: the one adapter."""

import pydoc
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.network import Network, NoDeepSupervision
from nnunet_cardiac.networks.topology import Topology


class ForeignNetwork(Network, ABC):
    """A network that maps images (B, C, \\*spatial) to logits (B, num_classes, \\*spatial), from any library.

    A subclass names the class and says what it is built with; kernels, normalisation and activation of the topology
    are ignored where it does not pass them on. Weights begin as the library makes them. There is no deep supervision:
    ``nnUNetTrainerNoDeepSupervision`` trains it.

    Args:
        input_channels: image channels
        num_classes: maps of the output, background included
        deep_supervision: only False
        patch_size: of a network that ``takes_one_size``, that size
        topology: see ``Topology``

    Raises:
        UserError: the class cannot be imported
        DeepSupervisionError: deep supervision was asked for
    """

    library_class: ClassVar[str]
    """Where it is imported from, and only when it is built."""
    features_per_stage: ClassVar[tuple[int, ...] | None] = None
    """Channels at each resolution, each half the one before, as published; None for what nnU-Net plans."""
    n_conv_per_stage: ClassVar[tuple[int, ...] | None] = None
    """Blocks of each encoder stage, as published; None for what nnU-Net plans."""
    has_fixed_depth: ClassVar[bool] = False
    """Whether its number of resolutions cannot be changed."""
    takes_one_size: ClassVar[bool] = False
    """Whether its weights depend on the size of the input."""
    unused: ClassVar[tuple[str, ...]] = ()
    """What names of weights that no output depends on contain; left to learn, they would stop distributed training."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        patch_size: Sequence[int] | None = None,
        **topology,
    ):
        super().__init__(Topology(**topology))
        name = type(self).__name__
        self.decoder = NoDeepSupervision(
            f"{name} has no deep supervision", "nnUNetTrainerNoDeepSupervision", deep_supervision
        )
        self.fixed_size = None if patch_size is None else list(patch_size)
        library_class: Any = pydoc.locate(self.library_class)
        if library_class is None:
            raise UserError(f"{name} needs {self.library_class}, which is not installed.")
        self.network: torch.nn.Module = library_class(**self.arguments(input_channels, num_classes))
        for name, parameter in self.network.named_parameters():
            if any(part in name for part in self.unused):
                parameter.requires_grad_(False)

    @abstractmethod
    def arguments(self, input_channels: int, num_classes: int) -> dict[str, Any]:
        """What the library's class is built with: ``self.topology`` and ``self.fixed_size`` have the sizes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, \\*spatial) to logits (B, num_classes, \\*spatial)."""
        self.check_input_size(x.shape[2:])
        return self.network(x)

    @staticmethod
    def initialize(module: torch.nn.Module) -> None:
        """Leaves the library's own initialisation, which nnU-Net would replace."""

    @classmethod
    def planned_topology(cls, arguments: dict) -> dict:
        """The network's own sizes in place of what nnU-Net plans.

        Args:
            arguments: of a ``Topology``, as nnU-Net plans them
        """
        if cls.features_per_stage is None:
            return arguments
        n, dim = len(cls.features_per_stage), len(arguments["strides"][0])
        return arguments | {
            "n_stages": n,
            "features_per_stage": list(cls.features_per_stage),
            "kernel_sizes": [[3] * dim] * n,
            "strides": [[1] * dim, *[[2] * dim] * (n - 1)],
            "n_conv_per_stage": list(cls.n_conv_per_stage or [2] * n),
            "n_conv_per_stage_decoder": [2] * (n - 1),
        }
