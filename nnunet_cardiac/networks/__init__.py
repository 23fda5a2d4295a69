"""The architectures, under the names that plans give in ``network_class_name``."""

from nnunet_cardiac.networks.crocnet import CroCNetRefiner
from nnunet_cardiac.networks.e2a_unet import E2AUNet

__all__ = ["CroCNetRefiner", "E2AUNet"]
