"""The first stage of HALSR-Net: regression of the left ventricle's box, in the shape of a segmentation network.

The public code's text says no more than that a regression model predicts the box. Decided here: a small convolutional
encoder on the image at half its resolution; HALSR-Net's own HAPM on its last map, because a left ventricle is told by
what surrounds it; that map and the finer ones are added up at an eighth of the image's resolution. There every cell
says how likely it is to lie in the left ventricle, and how far it is to the four (3D: six) sides of the box. The box is
the mean over the cells, weighted by the likelihood. It is drawn as logits, so that to nnU-Net it is the foreground, and
its cascade carries it to the next stage.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nnunet_cardiac.networks.halsr_net import HAPM, resize
from nnunet_cardiac.networks.heart_crop import OUTSIDE_LOGIT
from nnunet_cardiac.networks.network import Encoder, Network, NoDeepSupervision
from nnunet_cardiac.networks.topology import Topology

CELL = 8
"""Pixels of the image along a side of what is one pixel of the map that the box is read from."""
START = 2.0
"""Cells from the middle to each side of the box, before anything is learned."""


def draw_box(box: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Signed distance of every pixel's centre to the box's border, in pixels along the nearest axis, positive inside.

    Args:
        box: centre and size on each axis, relative to the image (B, 2 * dim)
        size: of the image, pixels

    Returns:
        (B, \\*size)
    """
    dim = len(size)
    distance = torch.full((1,), torch.inf, device=box.device, dtype=box.dtype)
    for axis, length in enumerate(size):
        view = [-1 if a == axis else 1 for a in range(dim)]
        pixels = (torch.arange(length, device=box.device, dtype=box.dtype) + 0.5).view(1, *view)
        centre, extent = (box[:, i].view(-1, *[1] * dim) * length for i in (axis, dim + axis))
        distance = torch.minimum(distance, extent / 2 - (pixels - centre).abs())
    return distance


def box_of(foreground: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The box of every sample's foreground, as ``LVBoxRegressor`` gives it.

    Args:
        foreground: bool (B, \\*spatial)

    Returns:
        centre and size, relative to the image (B, 2 * dim), and whether there is any foreground (B,)
    """
    dim = foreground.ndim - 1
    centres, sizes = [], []
    for axis in range(dim):
        others = [a + 1 for a in range(dim) if a != axis]
        length = foreground.shape[axis + 1]
        hit = foreground.any(others[0]) if len(others) == 1 else foreground.amax(others)
        pixels = torch.arange(length, device=foreground.device)
        start = torch.where(hit, pixels, length).amin(1)
        stop = torch.where(hit, pixels + 1, 0).amax(1)
        centres.append((start + stop) / 2 / length)
        sizes.append((stop - start) / length)
    return torch.stack(centres + sizes, 1), foreground.flatten(1).any(1)


class BoxEncoder(Encoder):
    """Halves the image; convolutions, the first of a stage strided; HAPM at the bottom; up again to ``CELL`` pixels.

    Its map has twice the first stage's channels.

    Args:
        input_channels: of the image
        topology: of the encoder, at half the image's resolution
    """

    def __init__(self, input_channels: int, topology: Topology):
        super().__init__(topology)
        self.halve = [2 if any(s[axis] > 1 for s in self.strides) else 1 for axis in range(topology.dim)]
        features = self.output_channels
        channels = [input_channels, *features]
        self.stages = nn.ModuleList(
            topology.convs(n_convs, channels[s], stage=s, stride=self.strides[s])
            for s, n_convs in enumerate(topology.n_conv_per_stage)
        )
        pixels = [max(self.halve) * max(np.prod(self.strides[: s + 1], axis=0)) for s in range(len(features))]
        self.finest = next((s for s, p in enumerate(pixels) if p >= CELL), len(features) - 1)
        self.map_channels = 2 * features[0]
        self.hapm = HAPM(
            features[-1], features[0], self.map_channels, self.conv_op, self.kernel_sizes[-1], self.norm_op,
            self.norm_op_kwargs,
        )  # fmt: skip
        self.laterals = nn.ModuleList(self.conv_op(f, self.map_channels, 1) for f in features[self.finest : -1])
        self.smooth = topology.conv(self.map_channels, self.map_channels, self.kernel_sizes[self.finest])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (functional.avg_pool2d if x.ndim == 4 else functional.avg_pool3d)(x, self.halve)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        x = self.hapm(x)
        for lateral, finer in zip(reversed(self.laterals), maps[-2 : -2 - len(self.laterals) : -1], strict=True):
            x = lateral(finer) + resize(x, finer.shape[2:])
        return self.smooth(x)


class BoxOutputs(NamedTuple):
    """What the loss of a regressed box needs."""

    logits: torch.Tensor
    """(B, num_classes, \\*spatial)"""
    box: torch.Tensor
    """Centre and size on each axis, relative to the image (B, 2 * dim)."""
    presence: torch.Tensor
    """Logit of there being a left ventricle (B,)."""
    places: torch.Tensor
    """Logits of where it is, at an eighth of the image's resolution (B, 1, \\*small)."""


class LVBoxRegressor(Network):
    """Regresses the box of the left ventricle and returns it as logits: positive inside, negative outside.

    The logit of the box's label is a pixel's distance to the border, at most the logit of there being a left ventricle:
    a slice that has none has no positive pixel. The background's is 0, that of other labels ``OUTSIDE_LOGIT``.

    Args:
        input_channels: image channels
        num_classes: maps of the output, background included
        box_label: label that the filled box is given
        box_labels: labels that the box encloses (left ventricle: cavity and myocardium)
        deep_supervision: must be off
        topology: of the encoder, which works at half the image's resolution; there is no decoder

    Raises:
        ValueError: deep supervision, labels that are not among ``num_classes``, or an invalid topology
    """

    loss_outputs = BoxOutputs

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        box_label: int,
        box_labels: Sequence[int],
        deep_supervision: bool = False,
        **topology,
    ):
        super().__init__(Topology(**topology))
        self.decoder = NoDeepSupervision(
            "LVBoxRegressor has no deep supervision",
            "nnUNetTrainerHALSRNet, or with nnUNetTrainerCrop for nnU-Net's own recipe",
            deep_supervision,
        )
        if not {box_label, *box_labels} <= set(range(1, num_classes)):
            raise ValueError(f"box_label {box_label} and box_labels {box_labels} must be from 1 to {num_classes - 1}.")
        self.num_classes, self.box_label, self.boxed_labels = num_classes, box_label, tuple(box_labels)
        self.encoder = BoxEncoder(input_channels, self.topology)
        self.divisible_by = [
            h * divisor for h, divisor in zip(self.encoder.halve, self.topology.divisible_by, strict=True)
        ]
        self.place: nn.Module = self.topology.conv_op(self.encoder.map_channels, 1, 1)
        self.sides = self.topology.conv_op(self.encoder.map_channels, 2 * self.topology.dim, 1)

    def regress(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where the left ventricle is.

        Args:
            x: image (B, C, \\*spatial)

        Returns:
            centre and size, relative to the image (B, 2 * dim); logit of presence, that of the likeliest place (B,);
            logits of the places (B, 1, \\*small)
        """
        features = self.encoder(x)
        places = self.place(features).float()
        weights = places.flatten(1).softmax(1).view_as(places)[:, 0]
        to_start, to_stop = (START * self.sides(features).float().clamp(-4, 4).exp()).chunk(2, 1)
        starts, stops = [], []
        for axis, length in enumerate(weights.shape[1:]):
            view = [-1 if a == axis else 1 for a in range(weights.ndim - 1)]
            cells = (torch.arange(length, device=x.device, dtype=torch.float32) + 0.5).view(view)
            starts.append((weights * (cells - to_start[:, axis])).flatten(1).sum(1) / length)
            stops.append((weights * (cells + to_stop[:, axis])).flatten(1).sum(1) / length)
        start, stop = torch.stack(starts, 1), torch.stack(stops, 1)
        return torch.cat(((start + stop) / 2, stop - start), 1), places.flatten(1).amax(1), places

    def forward(self, x: torch.Tensor) -> torch.Tensor | BoxOutputs:
        """(B, C, \\*spatial) to logits (B, num_classes, \\*spatial); while its loss asks for them, to ``BoxOutputs``.

        Raises:
            ValueError: a side of the input that does not fit
        """
        self.check_input_size(x.shape[2:])
        box, presence, places = self.regress(x)
        logits = self.logits(box, presence, x.shape[2:])
        return BoxOutputs(logits, box, presence, places) if self.gives_loss_outputs else logits

    def logits(self, box: torch.Tensor, presence: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """The box as a segmentation network's output (B, num_classes, \\*size)."""
        inside = torch.minimum(draw_box(box, size), presence.view(-1, *[1] * len(size)))
        inside = inside.clamp(OUTSIDE_LOGIT, -OUTSIDE_LOGIT)
        background, other = torch.zeros_like(inside), torch.full_like(inside, OUTSIDE_LOGIT)
        maps = [background, *[other] * (self.num_classes - 1)]
        maps[self.box_label] = inside
        return torch.stack(maps, 1)

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """As of every network; all boxes start with the same size."""
        Network.initialize(module)
        if isinstance(module, LVBoxRegressor):  # comes after its parts
            for parameter in module.sides.parameters():
                nn.init.zeros_(parameter)
