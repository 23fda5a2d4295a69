"""What every network owes, for every configuration of every architecture, in 2D and in 3D.

The networks are those of the session's tiny plans. What an equation of a paper means is tested where its network is.
"""

import dataclasses

import numpy as np
import pytest
import torch
import torch._dynamo
from conftest import CLASSES, NetworkCase
from torch import nn
from torch._dynamo.utils import counters
from torch.utils._pytree import tree_leaves

from nnunet_cardiac import networks
from nnunet_cardiac.architectures import ARCHITECTURES
from nnunet_cardiac.inference.predictor import BatchedPredictor
from nnunet_cardiac.networks.network import Network, NoDeepSupervision
from nnunet_cardiac.networks.topology import Topology, shrink_topology

OURS = [architecture for architecture in ARCHITECTURES.values() if architecture.networks]
PLANNED = [(architecture.plans, name) for architecture in OURS for name in architecture.configurations]
IN_2D = [(plans, name) for plans, name in PLANNED if name.startswith("2d")]
FOREIGN = "nnUNetMonaiPlans"
"""Of networks of another library. They are slow in 3D, where each is tested once, as a variant of its 2D network."""
CONFIGURATIONS = [(plans, name) for plans, name in PLANNED if plans != FOREIGN or (plans, name) in IN_2D]
TOPOLOGY = {field.name for field in dataclasses.fields(Topology)}


@pytest.fixture
def case(network_case, request) -> NetworkCase:
    return network_case(*request.param)


@pytest.fixture
def in_3d(network_case):
    """The 3D network of the same kind as a 2D configuration's, with all that makes that a variant."""

    def in_3d(plans: str, name: str) -> NetworkCase:
        flat = network_case(plans, name)
        solid = [network_case(p, c) for p, c in PLANNED if p == plans and c.startswith("3d")]
        (same,) = (
            s for s in solid if (s.planned.class_name, s.sees_masks) == (flat.planned.class_name, flat.sees_masks)
        )
        if plans == FOREIGN:
            *sides, last = np.prod(same.arguments["strides"], axis=0).tolist()
            patch = [*sides, 2 * last]
            return same.changed({k: patch if k == "patch_size" else v for k, v in same.arguments.items()}, patch)
        own = {k: v for k, v in flat.arguments.items() if k not in TOPOLOGY | {"crop_size", "crop_margin"}}
        return same.changed(same.arguments | own)

    return in_3d


every_configuration = pytest.mark.parametrize("case", CONFIGURATIONS, ids="-".join, indirect=True)


def total(outputs) -> torch.Tensor:
    return sum(output.float().square().mean() for output in tree_leaves(outputs))


def assert_every_parameter_learns(network: nn.Module) -> None:
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert parameters and not [name for name, p in parameters.items() if p.grad is None or not p.grad.isfinite().all()]


def test_the_records_name_the_networks_that_their_plans_build(network_case):
    for architecture in OURS:
        built = {network_case(architecture.plans, name).planned.class_name for name in architecture.configurations}
        assert built == {f"nnunet_cardiac.networks.{name}" for name in architecture.networks}
    assert {name for architecture in OURS for name in architecture.networks} >= set(networks.__all__)


@every_configuration
def test_logits_at_full_size_and_gradients(case):
    network = case.build()
    assert isinstance(network, Network) and network.topology.n_stages == case.arguments["n_stages"]
    logits = network(case.images())
    assert isinstance(logits, torch.Tensor) and logits.shape == (2, CLASSES, *case.patch_size)
    total(logits).backward()
    if network.loss_outputs is None:
        assert_every_parameter_learns(network)
    else:
        network.gives_loss_outputs = True
        outputs = network(case.images())
        assert isinstance(outputs, network.loss_outputs) and outputs[0].shape == logits.shape
        total(outputs).backward()
        assert_every_parameter_learns(network)


@every_configuration
def test_deep_supervision_or_a_refusal(case):
    network, x = case.build(), case.images()
    if isinstance(network.decoder, NoDeepSupervision):
        with pytest.raises(ValueError, match="no deep supervision.*: train it with nnUNetTrainer"):
            case.build(deep_supervision=True)
        network.decoder.deep_supervision = True  # as nnU-Net does after every validation
        assert network(x).shape == (2, CLASSES, *case.patch_size)
        return
    supervised = case.build(deep_supervision=True)
    outputs = supervised(x)
    sizes = network.topology.map_sizes(case.patch_size)[: network.topology.n_stages - 1]
    assert [output.shape for output in outputs] == [(2, CLASSES, *size) for size in sizes]
    total(outputs).backward()
    assert_every_parameter_learns(supervised)
    network.load_state_dict(supervised.state_dict())  # weights load either way
    case.build(deep_supervision=True).load_state_dict(network.state_dict())
    supervised.decoder.deep_supervision = False
    torch.testing.assert_close(supervised.eval()(x), network.eval()(x))


@every_configuration
def test_sizes_that_fit_work_and_others_are_refused(case):
    network = case.build().eval()
    with torch.no_grad():
        twice = [2 * side for side in case.patch_size]
        if network.fixed_size is not None:
            with pytest.raises(ValueError, match=f"An input of {' x '.join(map(str, twice))} does not fit .* are for"):
                network(case.images(1, twice))
            return
        assert network(case.images(1, twice)).shape == (1, CLASSES, *twice)
        for axis, divisor in enumerate(network.divisible_by):
            size = [side + (a == axis) for a, side in enumerate(case.patch_size)]
            if divisor == 1:
                assert network(case.images(1, size)).shape == (1, CLASSES, *size)
                continue
            with pytest.raises(ValueError, match=f"An input of {' x '.join(map(str, size))} does not fit .* multiples"):
                network(case.images(1, size))
            with pytest.raises(ValueError, match="multiples"):
                network.check_input_size(size)


@every_configuration
def test_a_sample_does_not_depend_on_its_batch_nor_on_how_its_weights_came(case, tmp_path):
    network, x = case.build().eval(), case.images(3)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    loaded = case.build().eval()
    loaded.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    with torch.no_grad():
        together = network(x)
        for i in range(3):
            torch.testing.assert_close(loaded(x[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-4)


@every_configuration
def test_half_precision_stays_finite(case):
    network = case.build()
    network.gives_loss_outputs = network.loss_outputs is not None
    x = case.images()
    x[:, 0] *= 100
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(x)
    assert all(output.isfinite().all() for output in tree_leaves(outputs))
    total(outputs).backward()
    assert_every_parameter_learns(network)


@every_configuration
def test_half_precision_works_in_prediction_too(case):
    """As nnU-Net predicts on a GPU: inference mode and autocast. The first copy's memory is counted."""
    predictor = BatchedPredictor(device=torch.device("cpu"), perform_everything_on_device=False, bfloat16=True)
    predictor.network = case.build().eval()
    x = case.images()
    with torch.inference_mode():
        counted, not_counted = predictor._forward(x), predictor._forward(x)
    assert counted.dtype == torch.float32
    torch.testing.assert_close(counted, not_counted)


@every_configuration
def test_convolutions_start_as_nnunets(case):
    """He initialisation, from every part of the network: PyTorch's own leaves no bias at 0. Another library's network
    starts as it makes it."""
    if case.planned.class_name.startswith("nnunet_cardiac.networks.monai"):
        torch.manual_seed(0)
        network = case.planned.build(case.input_channels, CLASSES)
        torch.manual_seed(0)
        torch.testing.assert_close(case.build().state_dict(), network.state_dict())
        return
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    convolutions = [module for module in case.build().modules() if isinstance(module, kinds)]
    assert convolutions and not any(conv.bias.any() for conv in convolutions if conv.bias is not None)
    weights = [(conv.weight * (conv.weight[0].numel() / 2) ** 0.5).flatten() for conv in convolutions]
    assert torch.cat([w for w in weights if w.any()]).std().item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("plans, name", IN_2D)
def test_every_variant_works_in_3d(in_3d, plans, name):
    case = in_3d(plans, name)
    network = case.build()
    network.gives_loss_outputs = network.loss_outputs is not None
    outputs = network(case.images())
    assert tree_leaves(outputs)[0].shape == (2, CLASSES, *case.patch_size) and len(case.patch_size) == 3
    total(outputs).backward()
    assert_every_parameter_learns(network)


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in IN_2D if c[0] != FOREIGN], ids="-".join, indirect=True)
def test_compiled_without_breaks_but_at_the_crop_and_never_again(case):
    """torch.compile, which nnU-Net trains with on a GPU: what the first epoch compiles serves all others."""
    arguments = shrink_topology(case.arguments, 2, 1)
    if "crop_size" in arguments:
        arguments |= {"crop_size": [16, 16], "crop_margin": [2, 2]}
    case = case.changed(arguments, [64, 48])
    network = case.build()
    if isinstance(network.decoder, NoDeepSupervision):
        network.gives_loss_outputs = network.loss_outputs is not None
    else:
        network = case.build(deep_supervision=True)
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(network, backend="eager")

    def images(i: int) -> torch.Tensor:
        x = case.images()
        x[:, 1:] = 0
        x[:, 1:2, 5 + i : 9 + 4 * i, 6 : 8 + 5 * i] = 1  # hearts that move and grow
        return torch.cat((x, x[:1])) if i % 2 else x  # batches of a pass have two sizes

    def epoch(first: int) -> None:
        network.train()
        for i in range(first, first + 3):
            total(compiled(images(i))).backward()
        network.eval()
        with torch.no_grad():
            for i in range(first, first + 3):
                compiled(images(i))

    with torch._dynamo.config.patch(automatic_dynamic_shapes=False):  # as our trainers have it
        epoch(0)
        graphs = counters["stats"]["unique_graphs"]
        assert len(set(counters["graph_break"])) <= (network.crop is not None)
        epoch(3)  # the first hearts that are larger than the planned crop
    assert counters["stats"]["unique_graphs"] == graphs > 0
