"""HALSR-Net's learning rate and its end, from lists of validation losses."""

import pytest
import torch

from nnunet_cardiac.training.plateau import PlateauLR, should_stop

LOSSES = [0.9, 0.8, 0.7] + [0.75] * 20
"""The best is epoch 2."""


def rates(losses, epochs):
    """The rate of each of ``epochs``, in which ``losses`` are all that is known of the epochs before."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], 1e-3)
    schedule = PlateauLR(optimizer, 1e-3, lambda: losses)
    found = []
    for epoch in epochs:
        schedule.step(epoch)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(
    "losses, expected",
    [
        (LOSSES, [1e-3] * 8 + [1e-4] * 5 + [1e-5] * 5 + [1e-6] * 3),
        ([1.0 - epoch / 100 for epoch in range(21)], [1e-3] * 21),
        ([0.5] * 21, [1e-3] * 6 + [1e-4] * 5 + [1e-5] * 5 + [1e-6] * 5),
        ([0.5] * 5 + [0.4] + [0.5] * 15, [1e-3] * 11 + [1e-4] * 5 + [1e-5] * 5),
        ([0.5 - epoch * 4e-6 for epoch in range(21)], [1e-3] * 6 + [1e-4] * 5 + [1e-5] * 5 + [1e-6] * 5),
    ],
    ids=["a best epoch", "always better", "always the same", "better just in time", "better by next to nothing"],
)
def test_a_tenth_after_five_epochs_without_improvement_as_in_keras(losses, expected):
    assert rates(losses, range(21)) == pytest.approx(expected)


@pytest.mark.parametrize("killed_behind", range(21))
def test_a_new_schedule_goes_on_at_any_epoch_as_the_old_one_would(killed_behind):
    """Its state is the losses alone, whenever it is made anew; those of later epochs do not count."""
    whole = rates(LOSSES, range(21))
    assert (
        rates(LOSSES[:killed_behind], range(killed_behind, killed_behind + 1))
        == whole[killed_behind : killed_behind + 1]
    )
    assert rates(LOSSES, range(killed_behind, 21)) == whole[killed_behind:]


@pytest.mark.parametrize(
    "losses, patience, n_epochs",
    [
        (LOSSES, 10, 13),
        (LOSSES, 3, 6),
        ([0.5] * 20, 10, 11),
        ([0.5 - epoch * 1e-6 for epoch in range(20)], 10, None),
        ([0.9] * 10 + [0.8] + [0.9] * 20, 10, 21),
        ([], 10, None),
    ],
)
def test_stops_after_as_many_epochs_without_improvement(losses, patience, n_epochs):
    stops = [n for n in range(len(losses) + 1) if should_stop(losses[:n], patience)]
    assert stops[:1] == ([] if n_epochs is None else [n_epochs])
    assert stops == ([] if n_epochs is None else list(range(n_epochs, len(losses) + 1)))
