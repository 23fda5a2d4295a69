"""The networks, under the names that plans give in ``network_class_name``."""

from nnunet_cardiac.networks.crocnet import CroCNetRefiner
from nnunet_cardiac.networks.dadu import DADU
from nnunet_cardiac.networks.e2a_unet import E2AUNet
from nnunet_cardiac.networks.halsr_net import HALSRNet
from nnunet_cardiac.networks.lv_box import LVBoxRegressor
from nnunet_cardiac.networks.spatial_attention_unet import SpatialAttentionUNet

__all__ = ["DADU", "CroCNetRefiner", "E2AUNet", "HALSRNet", "LVBoxRegressor", "SpatialAttentionUNet"]
