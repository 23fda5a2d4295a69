"""The crop around the heart, as a part of the network (Khan et al., ISBI 2024, section 3.3, "Cropping").

A cascaded network of nnU-Net's gets the image and the previous stage's one-hot foreground. Here the largest connected
foreground component is found, its box grown by a margin, and only a window around it is segmented; the logits come back
at full size. So training, validation and every way to predict crop alike.
"""

from collections.abc import Sequence
from itertools import product

import cc3d
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

OUTSIDE_LOGIT = -10.0
"""Foreground logit outside the window: probability 5e-5, and harmless in nnU-Net's half-precision accumulation."""

Window = tuple[tuple[int, int], ...]
"""(start, size) for each axis, in pixels. The window may reach over the image's border, where zeros are read."""


def heart_box(foreground: np.ndarray) -> list[tuple[int, int]] | None:
    """Box of the largest connected component, by number of pixels; diagonal neighbours are connected.

    Args:
        foreground: bool, 2D or 3D

    Returns:
        (start, stop) for each axis, or None where there is no foreground
    """
    components, n = cc3d.connected_components(foreground, connectivity=8 if foreground.ndim == 2 else 26, return_N=True)
    if n == 0:
        return None
    statistics = cc3d.statistics(components)
    largest = 1 + int(np.argmax(statistics["voxel_counts"][1 : n + 1]))
    return [(int(s.start), int(s.stop)) for s in statistics["bounding_boxes"][largest]]


def foreground(previous: torch.Tensor, n_masks: int) -> torch.Tensor:
    """Where the previous stage saw the heart.

    Args:
        previous: its masks (B, n_masks, \\*spatial); behind them, from trainers that augment them, their union before
        n_masks: channels

    Returns:
        bool (B, \\*spatial): the untouched union, where it is there, or that of the masks
    """
    return ((previous[:, n_masks:] if previous.shape[1] > n_masks else previous) > 0.5).any(1)


class HeartCrop(nn.Module):
    """Runs a network on a window around the heart and puts its logits back into the full image.

    In training the window has one fixed size. In evaluation it grows, in steps of ``divisible_by``, until the heart's
    box and margin are inside. Where there is no foreground the whole image is segmented (but not the zeros that it is
    padded with), tile by tile of the planned size: attention over a much larger map than any in training sees hearts
    everywhere. In training such a sample gets one window at a random place. Pixels outside the window never reach the
    network.

    The public code of the paper zeroes what lies beyond box and margin; here the window shows the image, as it is,
    around every heart that is smaller than it (the paper says nothing of batching).

    Args:
        network: maps (B, C, \\*window) to (B, K, \\*window), for any window divisible by ``divisible_by``
        crop_size: the window in training, pixels
        margin: pixels on each side of the heart's box (paper: 15)
        divisible_by: what window sizes must be divisible by
        outside: logit of each of the K maps outside the window; None for ``OUTSIDE_LOGIT`` in all (no background map)

    Raises:
        ValueError: ``crop_size`` is not divisible
    """

    def __init__(
        self,
        network: nn.Module,
        crop_size: Sequence[int],
        margin: Sequence[int],
        divisible_by: Sequence[int],
        outside: Sequence[float] | None = None,
    ):
        super().__init__()
        if any(c % d for c, d in zip(crop_size, divisible_by, strict=True)):
            raise ValueError(f"crop_size {tuple(crop_size)} must be divisible by {tuple(divisible_by)}.")
        self.network = network
        self.crop_size = tuple(crop_size)
        self.margin = tuple(margin)
        self.divisible_by = tuple(divisible_by)
        self.outside = outside
        self.finds_hearts = True
        """Off, the window lies in the corner of every image: for inputs whose values are not known."""

    def window(self, foreground: np.ndarray) -> Window | None:
        """The window around one sample's heart (foreground: bool, \\*spatial), None where there is no foreground."""
        box = heart_box(foreground)
        if box is None:
            return None
        window = []
        for (start, stop), length, size, margin, divisor in zip(
            box, foreground.shape, self.crop_size, self.margin, self.divisible_by, strict=True
        ):
            start, stop = max(start - margin, 0), min(stop + margin, length)
            if not self.training:
                size = max(size, -(-(stop - start) // divisor) * divisor)
            first = (start + stop - size) // 2
            # inside the image where it is large enough, centred on it where it is not
            first = min(max(first, 0), length - size) if length >= size else (length - size) // 2
            window.append((first, size))
        return tuple(window)

    def random_window(self, spatial: Sequence[int]) -> Window:
        """A window of the planned size at a random place of the image."""
        return tuple(
            (int(torch.randint(length - size + 1, ())) if length >= size else (length - size) // 2, size)
            for length, size in zip(spatial, self.crop_size, strict=True)
        )

    @torch.compiler.disable
    def tiles(self, seen: np.ndarray) -> tuple[Window, ...]:
        """As few windows of the planned size as cover all that is ``seen`` (bool, \\*spatial), evenly spread."""
        axes = []
        for axis, size in enumerate(self.crop_size):
            along = seen.any(tuple(a for a in range(seen.ndim) if a != axis)).nonzero()[0]
            start, stop = (along[0], along[-1] + 1) if along.size else (0, seen.shape[axis])
            n = -(-(stop - start) // size)
            last = stop - start - size
            axes.append([(int(start + (round(i * last / (n - 1)) if n > 1 else last // 2)), size) for i in range(n)])
        return tuple(product(*axes))

    @torch.compiler.disable
    def windows(self, foreground: torch.Tensor) -> list[Window | None]:
        """A window for each sample of ``foreground`` (bool, (B, \\*spatial)); None, in evaluation, for all of it."""
        if not self.finds_hearts:
            return [tuple((0, size) for size in self.crop_size)] * len(foreground)
        windows: list[Window | None] = [self.window(sample) for sample in foreground.cpu().numpy()]
        if self.training:
            windows = [self.random_window(foreground.shape[1:]) if w is None else w for w in windows]
        return windows

    @torch.compiler.disable
    def cut(self, x: torch.Tensor, windows: Sequence[Window]) -> torch.Tensor:
        """The windows of ``x`` (B, C, \\*spatial), all of one size, as (B, C, \\*window)."""
        return torch.stack([F.pad(sample, self._padding(w, x, -1)) for sample, w in zip(x, windows, strict=True)])

    @torch.compiler.disable
    def paste(self, logits: torch.Tensor, windows: Sequence[Window], x: torch.Tensor) -> torch.Tensor:
        """Inverse of ``cut``: ``logits`` (B, K, \\*window) in an image as large as ``x``, ``outside`` around them."""
        return torch.stack([self._surround(y, self._padding(w, x, 1)) for y, w in zip(logits, windows, strict=True)])

    @torch.compiler.disable
    def covered(self, windows: Sequence[Window], x: torch.Tensor) -> torch.Tensor:
        """Where the windows lie in images as large as ``x``: bool (B, 1, \\*spatial)."""
        ones = torch.ones((1, *(size for _, size in windows[0])), dtype=torch.bool, device=x.device)
        return torch.stack([F.pad(ones, self._padding(window, x, 1)) for window in windows])

    def _surround(self, logits: torch.Tensor, padding: list[int]) -> torch.Tensor:
        if self.outside is None:
            return F.pad(logits, padding, value=OUTSIDE_LOGIT)
        maps = zip(logits.split(1), self.outside, strict=True)
        return torch.cat([F.pad(one, padding, value=value) for one, value in maps])

    @staticmethod
    def _padding(window: Window, x: torch.Tensor, sign: int) -> list[int]:
        """Arguments of ``F.pad``, last axis first: sign 1 pads a window to the image, -1 the image to the window."""
        pairs = [
            (sign * first, sign * (length - first - size))
            for (first, size), length in zip(window, x.shape[2:], strict=True)
        ]
        return [amount for pair in reversed(pairs) for amount in pair]

    @torch.compiler.disable(recursive=False)  # the network is compiled; windows differ in every batch and are not
    def forward(self, x: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: input (B, C, \\*spatial)
            foreground: where the heart was seen, bool (B, \\*spatial)

        Returns:
            logits (B, K, \\*spatial)
        """
        tiles: list[tuple[Window, ...]] = []
        for sample, window in zip(x, self.windows(foreground), strict=True):
            tiles.append(self.tiles((sample != 0).any(0).cpu().numpy()) if window is None else (window,))
        groups: dict[tuple, list[int]] = {}
        for i, windows in enumerate(tiles):
            groups.setdefault(tuple(size for window in windows for _, size in window), []).append(i)
        if len(groups) == 1:
            return self._tile_by_tile(x, tiles)
        # evaluation: windows of several sizes, each size on its own
        outputs = [self._tile_by_tile(x[members], [tiles[i] for i in members]) for members in groups.values()]
        return torch.cat(outputs)[np.argsort(np.concatenate(list(groups.values())))]

    @torch.compiler.disable(recursive=False)
    def _tile_by_tile(self, x: torch.Tensor, tiles: Sequence[tuple[Window, ...]]) -> torch.Tensor:
        """The first tile of all samples, then the second and so on; where they overlap, the last counts."""
        network = self.network if self.training else self._uncompiled
        first, *others = zip(*tiles, strict=True)
        whole = self.paste(network(self.cut(x, first)), first, x)
        for windows in others:
            logits = self.paste(network(self.cut(x, windows)), windows, x)
            whole = torch.where(self.covered(windows, x), logits, whole)
        return whole

    @torch.compiler.disable
    def _uncompiled(self, x: torch.Tensor) -> torch.Tensor:
        """In evaluation windows grow with the heart, and every new size would be compiled."""
        return self.network(x)
