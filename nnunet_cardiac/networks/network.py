"""What the rest of the project may ask of a network: the one contract of planners, trainers, prediction and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.topology import Topology

if TYPE_CHECKING:
    from nnunet_cardiac.networks.heart_crop import HeartCrop
    from nnunet_cardiac.networks.image_resize import ImageResize


class Network(nn.Module):
    """A segmentation network for nnU-Net's plans.

    Subclasses take ``input_channels``, ``num_classes``, their own few arguments, ``deep_supervision`` and
    ``**topology`` (see ``Topology``), all as keywords. ``forward`` maps images (B, input_channels, \\*spatial) to
    logits (B, num_classes, \\*spatial); under deep supervision to a list of them, highest resolution first.

    Args:
        topology: that plans describe; of a network that crops, that of the network on the crop
    """

    loss_outputs: ClassVar[type[tuple] | None] = None
    """What the network's own loss needs besides the logits: a named tuple with the logits first, which ``forward``
    returns while ``gives_loss_outputs`` is on. None where the logits are enough."""

    gives_loss_outputs: bool = False
    """Switched on by the trainer whose loss takes ``loss_outputs``; off in prediction."""

    loss_log_variances: nn.Parameter | None
    """Learned weights of its auxiliary losses, see ``BalancedDeepSupervisionLoss``, of a network that carries them."""

    crop: HeartCrop | None
    """The crop, of a network that has one."""

    resize: ImageResize | None
    """What brings images to one size, in a network that does."""

    boxed_labels: tuple[int, ...] = ()
    """Labels that its output is a box around; none for an output that is a segmentation."""

    decoder: nn.Module | NoDeepSupervision
    """Whatever carries ``deep_supervision``, the switch that nnU-Net's trainers set. Set by every subclass."""

    divisible_by: list[int]
    """What the sides of an input must be multiples of: what the topology asks for, unless a subclass says otherwise."""

    fixed_size: list[int] | None
    """The only size of input that it takes, of a network whose weights depend on it."""

    def __init__(self, topology: Topology):
        super().__init__()
        self.topology = topology
        self.crop = self.resize = self.loss_log_variances = None
        self.divisible_by = topology.divisible_by
        self.fixed_size = None

    def check_input_size(self, size: Sequence[int]) -> None:
        """
        Args:
            size: of the image, without batch and channels

        Raises:
            ValueError: a side that the strides do not divide, so that decoder and skips would not fit; any other size
                than the ``fixed_size``
        """
        if self.fixed_size is not None and list(size) != self.fixed_size:
            raise ValueError(
                f"An input of {' x '.join(map(str, size))} does not fit {type(self).__name__}, whose weights are for "
                f"{' x '.join(map(str, self.fixed_size))}."
            )
        if any(side % divisor for side, divisor in zip(size, self.divisible_by, strict=True)):
            raise ValueError(
                f"An input of {' x '.join(map(str, size))} does not fit {self.topology.n_stages} stages: the sides "
                f"must be multiples of {' x '.join(map(str, self.divisible_by))}."
            )

    def look_nowhere(self) -> None:
        """For counting what it takes, where no values tell where the heart is: it crops in the middle, or not."""
        if self.crop is not None:
            self.crop.finds_hearts = False
        if self.resize is not None:
            self.resize.finds_images = False

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation of convolutions, as nnU-Net's U-Nets; nnU-Net applies it to every submodule."""
        InitWeights_He(1e-2)(module)


class DeepSupervisionError(UserError, ValueError):
    """Deep supervision is asked of a network that has none."""


class NoDeepSupervision:
    """In place of a decoder with deep supervision: whether it was asked for is checked once, when the network is built.

    After a validation nnU-Net switches deep supervision on whether the trainer wants it or not; here, nothing happens.

    Args:
        network: its name and, where only a part of it is meant, which
        trainer: those that work, for the message
        asked_for: ``deep_supervision`` of the network's arguments

    Raises:
        DeepSupervisionError: it was asked for
    """

    def __init__(self, network: str, trainer: str, asked_for: bool):
        if asked_for:
            raise DeepSupervisionError(f"{network}: train it with {trainer}.")

    @property
    def deep_supervision(self) -> bool:
        """False."""
        return False

    @deep_supervision.setter
    def deep_supervision(self, enabled: bool) -> None:
        """Changes nothing."""


class Encoder(nn.Module):
    """An encoder for dynamic_network_architectures' ``UNetDecoder``, which reads the topology from these attributes.

    Subclasses build the layers. ``forward`` maps (B, C, \\*spatial) to a map for each stage, highest resolution first.
    """

    def __init__(self, topology: Topology):
        super().__init__()
        self.topology = topology
        self.output_channels = list(topology.features_per_stage)
        self.strides, self.kernel_sizes = topology.strides, topology.kernel_sizes
        self.conv_op, self.conv_bias = topology.conv_op, topology.conv_bias
        self.norm_op, self.norm_op_kwargs = topology.norm_op, topology.norm_op_kwargs
        self.dropout_op, self.dropout_op_kwargs = topology.dropout_op, topology.dropout_op_kwargs
        self.nonlin, self.nonlin_kwargs = topology.nonlin, topology.nonlin_kwargs


def freeze_auxiliary_outputs(seg_layers: nn.ModuleList) -> None:
    """For decoders without deep supervision: their auxiliary outputs exist, so that weights load either way, but a
    parameter that wants a gradient and gets none would stop distributed training."""
    seg_layers[:-1].requires_grad_(False)


def bare(network: nn.Module) -> nn.Module:
    """A network without what DDP and torch.compile wrap around it."""
    network = network.module if isinstance(network, DistributedDataParallel) else network
    return network._orig_mod if isinstance(network, OptimizedModule) else network
