"""torch.compile, which nnU-Net trains with on a GPU: whole graphs, and none compiled again after the first epoch."""

import pytest
import torch
import torch._dynamo
from conftest import unet_arguments
from torch import nn
from torch._dynamo.utils import counters

from nnunet_cardiac import networks

CROP = {"crop_size": (16, 16), "crop_margin": (2, 2)}
NETWORKS = {
    "E2AUNet": ("E2AUNet", {"deep_supervision": True}, 0),
    "CroCNetRefiner": ("CroCNetRefiner", CROP, 1),
    "DADU": ("DADU", {"deep_supervision": True}, 0),
    "LVBoxRegressor": ("LVBoxRegressor", {"box_label": 1, "box_labels": [1, 2]}, 0),
    "HALSRNet": ("HALSRNet", {"dropout_per_stage": [0.25, 0.5], "deep_supervision": True}, 0),
    "HALSRNet in the box": ("HALSRNet", {"dropout_per_stage": [0.25, 0.5]} | CROP, 1),
    "SpatialAttentionUNet": ("SpatialAttentionUNet", {"deep_supervision": True}, 0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_break_but_at_the_crop_and_nothing_compiled_again(name):
    class_name, more, n_breaks = NETWORKS[name]
    arguments = unet_arguments(nn.Conv2d, nn.BatchNorm2d, (4, 8)) | more
    if class_name == "LVBoxRegressor":
        del arguments["n_conv_per_stage_decoder"]
    cropped = "crop_size" in arguments
    network = getattr(networks, class_name)(4 if cropped else 1, **arguments)
    network.decoder.deep_supervision = not cropped
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(network, backend="eager")

    def batch(i: int) -> torch.Tensor:
        x = torch.randn(2, 4 if cropped else 1, 64, 48)
        x[:, 1:] = 0
        x[:, 1:2, 5 + i : 9 + 4 * i, 6 : 8 + 5 * i] = 1  # hearts that move and grow
        return x

    def epoch(first: int) -> None:
        network.train()
        for i in range(first, first + 3):
            outputs = compiled(batch(i))
            sum(o.square().mean() for o in (outputs if isinstance(outputs, list) else [outputs])).backward()
        network.eval()
        with torch.no_grad():
            for i in range(first, first + 3):
                compiled(batch(i))

    epoch(0)
    graphs = counters["stats"]["unique_graphs"]
    assert len(set(counters["graph_break"])) <= n_breaks
    epoch(3)  # the first hearts that are larger than the planned crop
    assert counters["stats"]["unique_graphs"] == graphs > 0
