import pytest
import torch
from conftest import topology_of, unet_arguments
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_cardiac.networks import DADU
from nnunet_cardiac.networks.dadu import VARIANTS, DenseBlock
from nnunet_cardiac.training.deep_supervision import BalancedDeepSupervisionLoss
from nnunet_cardiac.training.dice import SigmoidDiceLoss

CASES = [(nn.Conv2d, nn.BatchNorm2d, (32, 48)), (nn.Conv3d, nn.BatchNorm3d, (8, 16, 24))]


def build(conv_op=nn.Conv2d, norm_op=nn.BatchNorm2d, features=(4, 8, 16, 16), **kwargs):
    return DADU(**({"input_channels": 2} | unet_arguments(conv_op, norm_op, features) | kwargs))


def test_a_dense_block_shows_every_convolution_all_that_came_before():
    topology = topology_of(nn.Conv2d, nn.BatchNorm2d, (4, 8), n_conv_per_stage=[2, 3])
    block = DenseBlock(5, 2, topology, stage=1)
    assert [conv.input_channels for conv in block.convs] == [5, 7, 9]
    x = torch.randn(2, 5, 8, 8)
    y = block(x)
    assert y.shape[1] == block.output_channels == 11
    assert torch.equal(y[:, :5], x), "the input is part of the output"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_lacks_what_its_name_says(variant):
    skips = build(variant=variant).decoder.skips
    assert all((skip.attention is None) == (variant == "no_attention") for skip in skips)
    assert all((skip.join is None) == (variant == "no_edges") for skip in skips)


def test_paper_size():
    network = build(features=(32, 64, 128, 256, 512), input_channels=1)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(6.11e6, rel=0.01)


@pytest.mark.parametrize("conv_op, norm_op, size", CASES)
def test_no_map_is_larger_than_those_that_attention_gets(conv_op, norm_op, size):
    """Nothing grows faster than the number of pixels: what autograd keeps is proportional to it."""
    network = build(conv_op, norm_op)

    def largest(size):
        seen = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t.numel()) or t, lambda t: t):
            network(torch.randn(1, 2, *size))
        return max(seen)

    assert largest([2 * s for s in size]) == largest(size) * 2 ** len(size)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="variant must be one of full, no_edges, no_attention; got 'no_decoder'"):
        build(variant="no_decoder")
    with pytest.raises(ValueError, match="features_per_stage"):
        build(features_per_stage=[4, 8])
    with pytest.raises(ValueError, match="36 x 48 does not fit 4 stages: the sides must be multiples of 8 x 8"):
        build()(torch.randn(1, 2, 36, 48))


def test_learned_loss_weights_work_in_distributed_training(tmp_path):
    """They are used behind the network; the wrapper must count their gradients, step after step."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        network = build(deep_supervision=True)
        network.loss_log_variances.requires_grad_(True)
        loss = BalancedDeepSupervisionLoss(SigmoidDiceLoss(True, True), network.loss_log_variances)
        wrapped = DistributedDataParallel(network)
        for _ in range(3):
            loss(wrapped(torch.randn(2, 2, 32, 32)), [torch.randint(0, 4, (2, 1, 32, 32))]).backward()
            assert network.loss_log_variances.grad.abs().min() > 0
    finally:
        torch.distributed.destroy_process_group()
