"""Images resized to one size, as a part of the network (DADU's section 5.2, the spatial-attention U-Net's text).

These papers scale every image to 256 x 256 pixels, whatever its field of view. nnU-Net resamples to a common spacing,
and its plans can name no other way. So the plans' patch covers the largest image, and here what is padded around an
image is left out and the rest is resized; the logits come back at the patch's size. nnU-Net pads with 0: where the
margin of an image is exactly 0 itself, it counts as padding. An image that is larger than the patch is resized tile by
tile.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from nnunet_cardiac.networks.heart_crop import OUTSIDE_LOGIT

Box = tuple[slice, ...]
"""Of an image in its sample (C, \\*spatial); the first takes all channels."""


def image_box(sample: torch.Tensor) -> Box:
    """Where the image is in a sample (C, \\*spatial): all that is not 0. All of it where there is nothing else."""
    seen = (sample != 0).any(0).cpu()
    if not seen.any():
        return (slice(None), *(slice(0, n) for n in seen.shape))
    axes = range(seen.ndim)
    along = (seen.amax([a for a in axes if a != axis]).nonzero().flatten().tolist() for axis in axes)
    return (slice(None), *(slice(places[0], places[-1] + 1) for places in along))


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
        """Where the image is in every sample of (B, C, \\*spatial)."""
        whole = (slice(None), *(slice(0, n) for n in x.shape[2:]))
        return [image_box(sample) if self.finds_images else whole for sample in x]

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
        samples = []
        for image, box in zip(logits, boxes, strict=True):
            sides: list[int] = []
            padding: list[int] = []
            for n, full, length, place in zip(logits.shape[2:], self.size, size, box[1:], strict=True):
                share = n / full
                start = min(round(share * place.start), round(share * length) - 1)
                stop = max(round(share * place.stop), start + 1)
                sides.append(stop - start)
                padding = [start, round(share * length) - stop, *padding]  # F.pad wants the last axis first
            resized = _resize(image[None], sides)[0]
            background = functional.pad(resized[:1], padding, value=-OUTSIDE_LOGIT)
            samples.append(torch.cat((background, functional.pad(resized[1:], padding, value=OUTSIDE_LOGIT))))
        return torch.stack(samples)

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
