"""nnU-Net's augmentation of the previous stage's masks, and the crop that is taken from them.

nnU-Net dilates, erodes and removes components of the masks that a cascaded network gets. A network that learns from
them becomes robust; one that is cut out by them loses the heart.
"""

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.nnunet.random_binary_operator import ApplyRandomBinaryOperatorTransform
from batchgeneratorsv2.transforms.nnunet.remove_connected_components import (
    RemoveRandomConnectedComponentFromOneHotEncodingTransform,
)
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

MASK_AUGMENTATION = (ApplyRandomBinaryOperatorTransform, RemoveRandomConnectedComponentFromOneHotEncodingTransform)


class KeepUntouched(BasicTransform):
    """Augments the masks, which are the last channels of the image; their untouched union follows as one channel more.

    Args:
        augmentation: of the masks
        n_masks: channels
    """

    def __init__(self, augmentation: list[BasicTransform], n_masks: int):
        super().__init__()
        self.augmentation, self.n_masks = augmentation, n_masks

    def apply(self, data_dict: dict, **params) -> dict:
        """nnU-Net's dictionary of a sample to the same with another channel in ``image``."""
        untouched = data_dict["image"][-self.n_masks :].amax(0, keepdim=True)
        for transform in self.augmentation:
            data_dict = transform(**data_dict)
        return data_dict | {"image": torch.cat((data_dict["image"], untouched))}


def without_mask_augmentation(transforms: ComposeTransforms) -> ComposeTransforms:
    """nnU-Net's augmentation without that of the masks: for networks that the masks steer and nothing else."""
    return ComposeTransforms([t for t in transforms.transforms if not _augments_masks(t)])


def untouched_foreground_added(transforms: ComposeTransforms, n_masks: int) -> ComposeTransforms:
    """nnU-Net's augmentation with the untouched masks' union behind the augmented masks, as ``foreground`` expects it.

    Args:
        transforms: of a cascaded stage
        n_masks: of the previous stage
    """
    of_masks = [t for t in transforms.transforms if _augments_masks(t)]
    first = transforms.transforms.index(of_masks[0])
    others = [t for t in transforms.transforms if not _augments_masks(t)]
    return ComposeTransforms([*others[:first], KeepUntouched(of_masks, n_masks), *others[first:]])


def _augments_masks(transform: BasicTransform) -> bool:
    return isinstance(getattr(transform, "transform", transform), MASK_AUGMENTATION)  # inside a RandomTransform
