import pytest
import torch
from conftest import unet_arguments
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_cardiac.networks import DADU
from nnunet_cardiac.networks.dadu import VARIANTS, DenseBlock
from nnunet_cardiac.training.deep_supervision import BalancedDeepSupervisionLoss
from nnunet_cardiac.training.dice import SigmoidDiceLoss

CASES = [(nn.Conv2d, nn.BatchNorm2d, (32, 48)), (nn.Conv3d, nn.BatchNorm3d, (8, 16, 24))]


def build(conv_op=nn.Conv2d, norm_op=nn.BatchNorm2d, features=(4, 8, 16, 16), **kwargs):
    return DADU(**({"input_channels": 2} | unet_arguments(conv_op, norm_op, features) | kwargs))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("conv_op, norm_op, size", CASES)
def test_without_deep_supervision_one_output_at_full_size(conv_op, norm_op, size, variant):
    output = build(conv_op, norm_op, variant=variant)(torch.randn(2, 2, *size))
    assert isinstance(output, torch.Tensor) and output.shape == (2, 4, *size)


@pytest.mark.parametrize("conv_op, norm_op, size", CASES)
def test_deep_supervision_gives_every_decoder_level(conv_op, norm_op, size):
    network = build(conv_op, norm_op, deep_supervision=True)
    outputs = network(torch.randn(2, 2, *size))
    assert [o.shape[2:] for o in outputs] == [torch.Size(s // 2**i for s in size) for i in range(3)]
    network.decoder.deep_supervision = False
    assert network(torch.randn(1, 2, *size)).shape == (1, 4, *size)


def test_a_dense_block_shows_every_convolution_all_that_came_before():
    block = DenseBlock(3, 5, 2, nn.Conv2d, 3, True, nn.BatchNorm2d, {}, None, None, nn.ReLU, {})
    assert [conv.input_channels for conv in block.convs] == [5, 7, 9]
    x = torch.randn(2, 5, 8, 8)
    y = block(x)
    assert y.shape[1] == block.output_channels == 11
    assert torch.equal(y[:, :5], x), "the input is part of the output"


def test_anisotropic_kernels_and_strides():
    network = build(
        nn.Conv3d, nn.BatchNorm3d, kernel_sizes=[[1, 3, 3]] * 2 + [[3, 3, 3]] * 2,
        strides=[[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]],
    )  # fmt: skip
    assert network(torch.randn(1, 2, 4, 32, 32)).shape == (1, 4, 4, 32, 32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_lacks_what_its_name_says(variant):
    skips = build(variant=variant).decoder.skips
    assert all((skip.attention is None) == (variant == "no_attention") for skip in skips)
    assert all((skip.join is None) == (variant == "no_edges") for skip in skips)


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_that_wants_a_gradient_gets_one(deep_supervision, variant):
    network = build(deep_supervision=deep_supervision, variant=variant)
    outputs = network(torch.randn(2, 2, 32, 32))
    sum(o.square().mean() for o in (outputs if deep_supervision else [outputs])).backward()
    assert not [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]


def test_weights_load_with_and_without_deep_supervision():
    trained, network = build(deep_supervision=True), build()
    network.load_state_dict(trained.state_dict())
    trained.load_state_dict(network.state_dict())


def test_paper_size():
    network = build(features=(32, 64, 128, 256, 512), input_channels=1)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(6.20e6, rel=0.01)


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


def test_half_precision_stays_finite():
    network = build(deep_supervision=True)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(100 * torch.randn(2, 2, 32, 32))
    sum(o.float().square().mean() for o in outputs).backward()
    assert all(o.isfinite().all() for o in outputs)
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


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


def test_compiles_once():
    compilations = []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    network = build(deep_supervision=True)
    compiled = torch.compile(network, backend=backend)
    x = torch.randn(2, 2, 32, 32)
    for a, b in zip(compiled(x), network(x), strict=True):
        assert a.shape == b.shape
    first = len(compilations)
    for _ in range(3):
        sum(o.mean() for o in compiled(torch.randn(2, 2, 32, 32))).backward()
    assert 0 < first == len(compilations)
