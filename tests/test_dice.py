import pytest
import torch

from nnunet_cardiac.training.dice import SigmoidDiceLoss


def test_formula():
    """CroCNet's; the public code squares the denominator's terms."""
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 1, 4, 4))
    p = torch.sigmoid(logits)
    g = torch.stack([(labels[:, 0] == c).float() for c in range(3)], 1)
    for batch_dice, axes in ((True, (0, 2, 3)), (False, (2, 3))):
        dice = (2 * (p * g).sum(axes) + 1e-5) / ((p**2).sum(axes) + (g**2).sum(axes) + 1e-5)
        torch.testing.assert_close(SigmoidDiceLoss(True, batch_dice)(logits, labels), 1 - dice.mean())
        without_background = dice[1:] if batch_dice else dice[:, 1:]
        torch.testing.assert_close(SigmoidDiceLoss(False, batch_dice)(logits, labels), 1 - without_background.mean())


def test_equation_12_of_dadu_has_no_squares():
    logits, labels = torch.randn(2, 2, 4, 4), torch.randint(0, 2, (2, 1, 4, 4))
    p = torch.sigmoid(logits)
    g = torch.cat((labels == 0, labels == 1), 1).float()
    dice = (2 * (p * g).sum((0, 2, 3)) + 1e-5) / (p.sum((0, 2, 3)) + g.sum((0, 2, 3)) + 1e-5)
    torch.testing.assert_close(SigmoidDiceLoss(True, True, squared=False)(logits, labels), 1 - dice.mean())


@pytest.mark.parametrize("squared", [True, False])
def test_perfect_and_worst(squared):
    labels = torch.randint(0, 3, (2, 1, 8, 8))
    onehot = torch.cat([labels == c for c in range(3)], 1).float()
    loss = SigmoidDiceLoss(True, True, squared)
    assert loss(40 * onehot - 20, labels) < 1e-6
    assert loss(20 - 40 * onehot, labels) > 0.99


def test_regions_are_targets_as_they_are():
    logits, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 1, 4, 4))
    onehot = torch.cat([labels == c for c in range(3)], 1)
    loss = SigmoidDiceLoss(True, True)
    torch.testing.assert_close(loss(logits, onehot), loss(logits, labels))


def test_ignored_pixels_count_nowhere():
    loss = SigmoidDiceLoss(True, True, ignore_label=3)
    logits, labels = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 1, 6, 6))
    labels[:, :, :3] = 3
    changed = logits.clone()
    changed[:, :, :3] = torch.randn(2, 3, 3, 6)
    assert loss(changed, labels) == loss(logits, labels)
    torch.testing.assert_close(loss(logits, labels), SigmoidDiceLoss(True, True)(logits[:, :, 3:], labels[:, :, 3:]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_images_do_not_overflow_half_precision(dtype):
    logits = torch.zeros(8, 2, 256, 256, dtype=dtype, requires_grad=True)
    loss = SigmoidDiceLoss(True, True)(logits, torch.ones(8, 1, 256, 256))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
