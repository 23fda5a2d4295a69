import pytest
import torch
from conftest import unet_arguments
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_cardiac.networks import CroCNetRefiner
from nnunet_cardiac.networks.crocnet import VARIANTS
from nnunet_cardiac.networks.heart_crop import OUTSIDE_LOGIT

CASES = [(nn.Conv2d, nn.BatchNorm2d, (64, 56), (32, 32)), (nn.Conv3d, nn.BatchNorm3d, (12, 32, 32), (8, 24, 24))]


def build(conv_op=nn.Conv2d, norm_op=nn.BatchNorm2d, features=(4, 8, 16), crop_size=(32, 32), **kwargs):
    crop = {"input_channels": 4, "crop_size": list(crop_size), "crop_margin": [3] * len(crop_size)}
    return CroCNetRefiner(**(unet_arguments(conv_op, norm_op, features) | crop | kwargs))


def heart(*size, batch=2):
    """An image, and three anatomies side by side in its middle."""
    x = torch.zeros(batch, 4, *size)
    x[:, 0] = torch.randn(batch, *size)
    middle = tuple(slice(s // 2 - 3, s // 2 + 3) for s in size[:-1])
    for anatomy in range(3):
        first = size[-1] // 2 - 6 + 4 * anatomy
        x[(slice(None), 1 + anatomy, *middle, slice(first, first + 4))] = 1
    return x


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("conv_op, norm_op, size, crop_size", CASES)
def test_full_size_logits(conv_op, norm_op, size, crop_size, variant):
    network = build(conv_op, norm_op, crop_size=crop_size, variant=variant).eval()
    logits = network(heart(*size))
    assert logits.shape == (2, 4, *size)
    assert (logits[:, 0] == 0).all()
    outside = logits[:, 1] == OUTSIDE_LOGIT
    assert outside.any() and (logits[:, 1:].movedim(1, -1)[outside] == OUTSIDE_LOGIT).all()


def test_argmax_is_the_threshold_at_one_half():
    logits = build().eval()(heart(64, 56))
    probabilities = torch.sigmoid(logits[:, 1:].double())
    best, anatomy = probabilities.max(1)
    assert torch.equal(logits.argmax(1), torch.where(best > 0.5, anatomy + 1, 0))


def test_pixels_outside_the_crop_do_not_matter():
    for training in (True, False):
        network, x = build().train(training), heart(64, 56)
        logits = network(x)
        changed = x.clone()
        changed[:, 0][logits[:, 1] == OUTSIDE_LOGIT] = 1e3
        assert torch.equal(network(changed), logits)


@pytest.mark.parametrize(
    "variant, sees_other_masks", [("specialists", True), ("self_coupled", False), ("uncoupled", False)]
)
def test_specialists_meet_in_cross_attention_alone(variant, sees_other_masks):
    network, x = build(variant=variant).eval(), heart(64, 56)
    with torch.no_grad():
        for block in network.crop.network.encoder.cross_e2a_blocks:
            block.g1.fill_(1.0)
    changed = x.clone()
    changed[:, 2] *= 0.6  # still foreground to the crop, another input to the second specialist
    difference = (network(changed) - network(x)).abs().amax((0, 2, 3))
    assert difference[2] > 0
    assert (difference[1] > 0) == (difference[3] > 0) == sees_other_masks


def test_single_network_sees_all_masks():
    network, x = build(variant="single").eval(), heart(64, 56)
    changed = x.clone()
    changed[:, 2] *= 0.6
    assert ((network(changed) - network(x)).abs().amax((0, 2, 3))[1:] > 0).all()


def test_paper_size():
    network = build(features=(16, 32, 64, 128, 256), crop_size=(128, 128))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(5.25e6, rel=0.01)


def test_anatomies_share_all_but_cross_attention():
    def shapes(n_anatomies):
        network = build(num_classes=n_anatomies + 1, input_channels=n_anatomies + 1)
        return {name: p.shape for name, p in network.named_parameters() if "cross_e2a" not in name}

    assert shapes(3) == shapes(2)


def test_coupling_adds_the_projections_of_other_sources_alone():
    coupled, uncoupled = (sum(p.numel() for p in build(variant=v).parameters()) for v in ("specialists", "uncoupled"))
    assert coupled - uncoupled == 6 * sum(f**2 for f in (4, 8, 16))  # W_p[t, s] with s other than t


def test_cost_is_that_of_the_crop():
    network = build().eval()

    def flops(*size):
        with FlopCounterMode(display=False) as counter:
            network(heart(*size, batch=1))
        return counter.get_total_flops()

    assert flops(64, 56) == flops(128, 120)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="no deep supervision: train it with nnUNetTrainerCroCNet"):
        build(deep_supervision=True)
    with pytest.raises(ValueError, match="specialists, self_coupled, uncoupled, single; got 'twins'"):
        build(variant="twins")
    with pytest.raises(ValueError, match="previous_stage"):
        build(input_channels=3)
    with pytest.raises(ValueError, match="divisible"):
        build(crop_size=(30, 32))
