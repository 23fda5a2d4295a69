"""Images resized to one size, as a part of the network (DADU's section 5.2, the spatial-attention U-Net's text).

These papers scale every image to 256 x 256 pixels, whatever its field of view. nnU-Net resamples to a common spacing,
and its plans can name no other way. So the plans' patch covers the largest image, and here what is padded around an
image is left out and the rest is resized; the logits come back at the patch's size. Training, validation and every way
to predict resize alike.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from nnunet_cardiac.networks.heart_crop import OUTSIDE_LOGIT

Box = tuple[slice, ...]
"""Of an image in its sample (C, \\*spatial); the first takes all channels."""


class ImageResize(nn.Module):
    """Runs a network on images of one size and brings its logits back.

    Args:
        size: of every image that the network sees, pixels
    """

    def __init__(self, size: Sequence[int]):
        super().__init__()
        self.size = list(size)
        self.finds_images = True
        """Off, every input is an image without padding: for inputs whose values are not known."""

    @torch.compiler.disable
    def boxes(self, x: torch.Tensor) -> list[Box]:
        """Where the image is in every sample of (B, C, \\*spatial): all that is not 0, which nnU-Net pads with."""
        return [self._box((sample != 0).any(0)) for sample in x]

    def _box(self, seen: torch.Tensor) -> Box:
        if not self.finds_images or not seen.any():
            return (slice(None), *(slice(0, n) for n in seen.shape))
        axes = range(seen.ndim)
        along = (seen.amax([a for a in axes if a != axis]).nonzero().flatten() for axis in axes)
        return (slice(None), *(slice(int(places[0]), int(places[-1]) + 1) for places in along))

    @torch.compiler.disable
    def resized(self, x: torch.Tensor, boxes: Sequence[Box]) -> torch.Tensor:
        """The images (B, C, \\*size)."""
        images = [sample[box] for sample, box in zip(x, boxes, strict=True)]
        return torch.cat([_resize(image[None], self.size, antialias=True) for image in images])

    @torch.compiler.disable
    def restored(self, logits: torch.Tensor, boxes: Sequence[Box], size: Sequence[int]) -> torch.Tensor:
        """Logits of the images (B, K, \\*any) as logits of the samples that they are in; around them is background.

        Args:
            logits: at the images' size, or at a lower resolution of deep supervision
            boxes: of the images
            size: of the samples, at full resolution

        Returns:
            (B, K, \\*size), or at the lower resolution
        """
        shares = [n / full for n, full in zip(logits.shape[2:], self.size, strict=True)]
        shape = [round(share * n) for share, n in zip(shares, size, strict=True)]
        whole = logits.new_full((*logits.shape[:2], *shape), OUTSIDE_LOGIT)
        whole[:, 0] = -OUTSIDE_LOGIT
        for i, (image, box) in enumerate(zip(logits, boxes, strict=True)):
            sides = zip(shares, box[1:], strict=True)
            place = (
                slice(None),
                *(slice(round(share * side.start), round(share * side.stop)) for share, side in sides),
            )
            here = whole[i][place]
            here.copy_(_resize(image[None], here.shape[1:])[0])
        return whole

    @torch.compiler.disable(recursive=False)  # the network is compiled; boxes differ in every batch and are not
    def forward(
        self, x: torch.Tensor, network: Callable[[torch.Tensor], torch.Tensor | list[torch.Tensor]]
    ) -> torch.Tensor | list[torch.Tensor]:
        """
        Args:
            x: images with padding around them (B, C, \\*spatial)
            network: maps images of ``size`` to logits, or to a list of them under deep supervision

        Returns:
            logits (B, K, \\*spatial), or a list of them
        """
        boxes, size = self.boxes(x), x.shape[2:]
        outputs = network(self.resized(x, boxes))
        if isinstance(outputs, list):
            return [self.restored(logits, boxes, size) for logits in outputs]
        return self.restored(outputs, boxes, size)


def _resize(x: torch.Tensor, size: Sequence[int], antialias: bool = False) -> torch.Tensor:
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return functional.interpolate(x, list(size), mode=mode, antialias=antialias and x.ndim == 4)
