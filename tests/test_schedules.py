import pytest
import torch

from nnunet_cardiac.training.schedules import StepLR


@pytest.mark.parametrize("num_epochs", [500, 50])
def test_a_tenth_after_each_share(num_epochs):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], 1e-4)
    schedule = StepLR(optimizer, 1e-4, num_epochs, after=(0.2, 0.4))
    rates = []
    for epoch in range(num_epochs):
        schedule.step(epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    fifth = num_epochs // 5
    assert rates[:fifth] == pytest.approx([1e-4] * fifth)
    assert rates[fifth : 2 * fifth] == pytest.approx([1e-5] * fifth)
    assert rates[2 * fifth :] == pytest.approx([1e-6] * (num_epochs - 2 * fifth))
