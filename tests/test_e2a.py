import pytest
import torch
from torch import nn

from nnunet_cardiac.networks.e2a import E2A, CrossE2A, E2ABlock, global_query, l2_normalise, scaled_residual

CASES = [(nn.Conv2d, (6, 5)), (nn.Conv3d, (4, 3, 5))]


def test_global_query_is_equation_1():
    q, w_a = torch.randn(2, 7, 11), torch.randn(7)
    expected = torch.zeros(2, 7)
    for b in range(2):
        a = torch.tensor([(q[b, :, n] @ w_a) / 7**0.5 for n in range(11)])
        a = a / a.norm()
        expected[b] = sum(a[n] * q[b, :, n] for n in range(11))
    torch.testing.assert_close(global_query(q, w_a), expected)


@pytest.mark.parametrize("conv_op, size", CASES)
def test_e2a_is_equation_2(conv_op, size):
    layer, x = E2A(8, conv_op), torch.randn(2, 8, *size)

    def linear(conv, tokens):
        return tokens @ conv.weight.flatten(1).T + conv.bias

    f = x.flatten(2).transpose(1, 2)  # (B, N, D)
    q = nn.functional.normalize(linear(layer.w_q, f), dim=2)
    k = nn.functional.normalize(linear(layer.w_k, f), dim=2)
    a = nn.functional.normalize(q @ layer.w_a / 8**0.5, dim=1)
    q_star = (a[..., None] * q).sum(1, keepdim=True)
    expected = linear(layer.w_o, linear(layer.w_p, q_star * k) + q)
    torch.testing.assert_close(layer(x), expected.transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize("conv_op, size", CASES)
def test_cross_e2a_sums_over_sources(conv_op, size):
    layer, x = CrossE2A(3, 4, conv_op), torch.randn(2, 12, *size)
    q = l2_normalise(layer.w_q(x).reshape(2, 3, 4, -1), 2)
    k = l2_normalise(layer.w_k(x).reshape(2, 3, 4, -1), 2)
    sums = torch.zeros_like(q)
    for t in range(3):
        q_star = global_query(q[:, t], layer.w_a[t])
        for s in range(3):
            sums[:, t] += torch.einsum("od,bdn->bon", layer.w_p[t, s], q_star[..., None] * k[:, s])
    torch.testing.assert_close(layer(x), layer.w_o((sums + layer.b_p + q).reshape(x.shape)))


@pytest.mark.parametrize("coupling", ["cross", "self", "none"])
def test_cross_e2a_of_one_anatomy_is_e2a(coupling):
    one, cross = E2A(8, nn.Conv2d), CrossE2A(1, 8, nn.Conv2d, coupling)
    for name in ("w_q", "w_k", "w_o"):
        getattr(cross, name).load_state_dict(getattr(one, name).state_dict())
    with torch.no_grad():
        cross.w_a.copy_(one.w_a)
        cross.w_p[0, 0] = one.w_p.weight.flatten(1)
        cross.b_p[0, :, 0] = one.w_p.bias
    x = torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(cross(x), one(x))


def test_coupled_anatomies_see_each_other_and_others_do_not():
    x = torch.randn(1, 12, 5, 5)
    other_rv = x.clone()
    other_rv[:, 4:8] = torch.randn(1, 4, 5, 5)
    for coupling in ("cross", "self", "none"):
        layer = CrossE2A(3, 4, nn.Conv2d, coupling)
        lv_changes = not torch.allclose(layer(x)[:, :4], layer(other_rv)[:, :4])
        assert lv_changes == (coupling == "cross")


def test_an_anatomy_coupled_to_itself_has_as_many_terms_and_weights_and_uses_all_of_them():
    features = 32
    cross, itself = (CrossE2A(3, features, nn.Conv2d, coupling) for coupling in ("cross", "self"))
    weights, all_weights = (sum(p.numel() for p in layer.parameters()) for layer in (cross, itself))
    assert all_weights - weights == 2 * 3 * features  # two more global queries for each of three anatomies
    x = torch.randn(2, 3 * features, 5, 6)
    q, k = (l2_normalise(w(x).reshape(2, 3, features, -1), 2) for w in (itself.w_q, itself.w_k))
    sums = torch.zeros_like(q)
    for t in range(3):
        for s in range(3):
            q_star = global_query(q[:, t], itself.w_a[t, s])
            sums[:, t] += torch.einsum("od,bdn->bon", itself.w_p[t, s], q_star[..., None] * k[:, t])
    torch.testing.assert_close(itself(x), itself.w_o((sums + itself.b_p + q).reshape(x.shape)))
    itself(x).square().sum().backward()
    assert itself.w_p.grad.abs().amax((2, 3)).min() > 0 and itself.w_a.grad.abs().amax(2).min() > 0


def test_attention_reaches_every_pixel():
    layer, x = E2A(4, nn.Conv2d), torch.randn(1, 4, 9, 9, requires_grad=True)
    layer(x)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()


def test_layer_scale_starts_near_identity():
    block = E2ABlock(E2A(4, nn.Conv2d), 4, nn.Conv2d, nn.BatchNorm2d)
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(x), x, atol=1e-3, rtol=0)
    assert torch.all(block.g1 == 1e-5) and torch.all(block.g2 == 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_normalisation_survives_half_precision(dtype):
    x = torch.full((1, 8, 16), 1e-4, dtype=dtype)  # squares are below float16's smallest number
    torch.testing.assert_close(l2_normalise(x, 1).float().square().sum(1), torch.ones(1, 16), atol=1e-2, rtol=0)
    assert torch.isfinite(l2_normalise(torch.zeros(1, 8, 16, dtype=dtype), 1)).all()


def test_no_matrix_of_tokens_by_tokens():
    layer, x = CrossE2A(3, 4, nn.Conv2d), torch.randn(1, 12, 32, 32)
    largest = 0

    def pack(tensor):
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    assert largest <= x.numel()


def test_gradients_that_are_written_out_are_those_of_autograd():
    x, y = (torch.randn(2, 3, 4, 5, dtype=torch.double, requires_grad=True) for _ in "xy")
    g = torch.randn(3, 1, 1, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: l2_normalise(x, 1), x)
    assert torch.autograd.gradcheck(scaled_residual, (x, g, y))
    torch.testing.assert_close(scaled_residual(x, g, y), x + g * y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_residual_in_mixed_precision(dtype):
    x, g, y = torch.randn(2, 3, 4, 5), torch.randn(3, 1, 1), torch.randn(2, 3, 4, 5, dtype=dtype)
    for tensor in (x, g, y):
        tensor.requires_grad_()
    z = scaled_residual(x, g, y)
    assert z.dtype is torch.float32, "small steps are not rounded away"
    found = torch.autograd.grad(z, (x, g, y), torch.ones_like(z))
    assert [gradient.dtype for gradient in found] == [torch.float32, torch.float32, dtype]
