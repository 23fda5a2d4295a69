"""1x1 convolutions as products: PyTorch's own, to rounding."""

import pytest
import torch
from torch import nn

from nnunet_cardiac.networks.pointwise import pointwise


@pytest.mark.parametrize("conv_op, size", [(nn.Conv2d, (7, 5)), (nn.Conv3d, (3, 5, 4))])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_the_convolution(conv_op, size, groups, bias):
    convolution = conv_op(6, 12, 1, groups=groups, bias=bias)
    product = pointwise(conv_op)(6, 12, 1, groups=groups, bias=bias)
    product.load_state_dict(convolution.state_dict())
    assert isinstance(product, conv_op), "nnU-Net initialises it as a convolution"
    x, g = torch.randn(2, 6, *size, requires_grad=True), torch.randn(2, 12, *size)
    results = []
    for layer in (convolution, product):
        y = layer(x)
        results.append((y, *torch.autograd.grad(y, (x, *layer.parameters()), g)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_factor_for_each_channel():
    layer = pointwise(nn.Conv2d)(6, 4, 1)
    tokens, factors = torch.randn(2, 6, 10), torch.randn(2, 6)
    expected = layer((tokens * factors[..., None]).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(layer.scaled(tokens, factors), expected)
