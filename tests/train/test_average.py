"""The moving average against its rule, step by step."""

import torch
from torch import nn

from ddamfn.train.average import MovingAverage


def moving_network() -> nn.Sequential:
    """A weight and a batch normalization, whose numbers a test sets."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def stir(network: nn.Module, step: int) -> None:
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(value + step if value.is_floating_point() else torch.tensor(step))


def test_the_decay_rises_to_its_limit() -> None:
    network = moving_network()
    average = MovingAverage(network, 0.5)
    expected = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    decays = []
    for step in range(12):
        stir(network, step)
        average.update_parameters(network)
        decay = 0.0 if step == 0 else min(0.5, (1 + step) / (10 + step))
        decays.append(decay)
        for name, value in network.state_dict().items():
            whole = not value.is_floating_point()
            expected[name] = value.clone() if whole else decay * expected[name] + (1 - decay) * value
    assert decays[1] < decays[5] < decays[8] == decays[11] == 0.5
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)
    assert int(average.module[1].num_batches_tracked) == 11


def test_it_answers_early_what_the_network_answers() -> None:
    """After twenty steps of a network that has arrived, nothing of its beginning is left, however slow the average."""
    network = moving_network()
    average = MovingAverage(network, 0.9999)
    for step in range(30):
        if step < 3:
            stir(network, 100)
        average.update_parameters(network)
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-4, atol=1e-3, msg=name)


def test_the_number_of_steps_is_in_the_state() -> None:
    whole, network = MovingAverage(moving_network(), 0.9), moving_network()
    for step in range(4):
        stir(network, step)
        whole.update_parameters(network)
    resumed = MovingAverage(moving_network(), 0.9)
    resumed.load_state_dict(whole.state_dict())
    stir(network, 5)
    for average in (whole, resumed):
        average.update_parameters(network)
    assert int(resumed.n_averaged) == 5
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_state_is_what_torch_s_own_average_has() -> None:
    """Checkpoints from before there was a rising decay still load."""
    old = torch.optim.swa_utils.AveragedModel(moving_network(), use_buffers=True)
    average = MovingAverage(moving_network(), 0.9)
    assert average.state_dict().keys() == old.state_dict().keys()
    average.load_state_dict(old.state_dict())
