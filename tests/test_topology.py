"""The sizes of a network, and how they shrink."""

import pytest
from conftest import unet_arguments
from torch import nn

from nnunet_cardiac.networks.topology import Topology, shrink_topology


def topology(**changes) -> Topology:
    arguments = unet_arguments(nn.Conv2d, nn.BatchNorm2d, (4, 8, 16))
    del arguments["num_classes"]
    return Topology(**(arguments | changes))


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"features_per_stage": [4, 8]}, "features_per_stage needs one entry for each of n_stages = 3"),
        ({"kernel_sizes": [3]}, "kernel_sizes needs one entry"),
        ({"strides": [1, 2]}, "strides needs one entry"),
        ({"n_conv_per_stage": [2] * 4}, "n_conv_per_stage needs one entry"),
        ({"n_conv_per_stage_decoder": [2]}, "n_conv_per_stage_decoder needs 2 entries"),
        ({"strides": [2, 2, 2]}, "first stride must be 1"),
    ],
)
def test_lists_that_do_not_fit_are_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        topology(**changes)


def test_numbers_stand_for_every_axis():
    assert topology(kernel_sizes=[3, 3, 3], strides=[1, 2, 2]) == topology()
    flat = topology(conv_op=nn.Conv3d, kernel_sizes=[[1, 3, 3], 3, 3], strides=[1, [1, 2, 2], 2])
    assert flat.dim == 3 and flat.kernel_sizes == [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
    assert flat.divisible_by == [2, 4, 4]


def test_sizes_of_the_maps():
    assert topology().map_sizes((32, 48)) == [[32, 48], [16, 24], [8, 12]]
    with pytest.raises(ValueError, match="without batch and channels"):
        topology().map_sizes((1, 1, 32, 48))


def test_convolutions_are_built_of_its_operations():
    plain = topology(conv_bias=False, norm_op=nn.InstanceNorm2d, nonlin=nn.LeakyReLU)
    stack = plain.convs(2, 5, stage=1, stride=2)
    assert [m.in_channels for m in stack.modules() if isinstance(m, nn.Conv2d)] == [5, 8]
    assert [m.stride for m in stack.modules() if isinstance(m, nn.Conv2d)] == [(2, 2), (1, 1)]
    kinds = [type(m) for m in plain.conv(5, 7, 1).all_modules]
    assert kinds == [nn.Conv2d, nn.InstanceNorm2d, nn.LeakyReLU]
    changed = plain.conv(5, 7, 1, norm_op=None, nonlin=None)
    assert [type(m) for m in changed.all_modules] == [nn.Conv2d] and changed.conv.bias is None


def test_shrinking_keeps_the_first_stages_and_divides_the_widths():
    arguments = {
        "n_stages": 5, "features_per_stage": [32, 64, 128, 256, 512], "kernel_sizes": [[3, 3]] * 5,
        "strides": [[1, 1]] + [[2, 2]] * 4, "n_conv_per_stage": [2] * 5, "n_conv_per_stage_decoder": [2] * 4,
        "dropout_per_stage": [0.1, 0.2, 0.3, 0.4, 0.5], "n_blocks_per_stage": [1, 3, 4, 6, 6],
        "crop_size": [96, 96], "box_labels": [1, 2, 3, 4, 5], "norm_op_kwargs": {},
    }  # fmt: skip
    before = {name: value for name, value in arguments.items()}
    assert shrink_topology(arguments, 4, 4) == {
        "n_stages": 4, "features_per_stage": [8, 16, 32, 64], "kernel_sizes": [[3, 3]] * 4,
        "strides": [[1, 1]] + [[2, 2]] * 3, "n_conv_per_stage": [2] * 4, "n_conv_per_stage_decoder": [2] * 3,
        "dropout_per_stage": [0.1, 0.2, 0.3, 0.5], "n_blocks_per_stage": [1, 3, 4, 6],
        "crop_size": [96, 96], "box_labels": [1, 2, 3, 4, 5], "norm_op_kwargs": {},
    }  # fmt: skip
    assert arguments == before
    assert shrink_topology(arguments, 9, 2)["features_per_stage"] == [16, 32, 64, 128, 256]
