"""Optimizers and schedules against numbers worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ddamfn.train import Optimizer, Phase, Run, Schedule
from ddamfn.train.optim import build_optimizer, learning_rate, load_optimizer_state, optimizer_state, set_learning_rate

LR = 0.5


def run(schedule: Schedule, *phases: Phase) -> Run:
    return Run(
        recipe="x", optimizer=Optimizer(lr=LR), schedule=schedule, phases=phases or (Phase(epochs=40, side_px=112),)
    )


def test_constant() -> None:
    assert [learning_rate(run(Schedule(name="constant")), epoch, 0.5) for epoch in (0, 39)] == [LR, LR]


def test_step_falls_between_epochs() -> None:
    asked = run(Schedule(name="step", step_epochs=10, gamma=0.1))
    for epoch in range(40):
        for part in (0.0, 0.99):
            assert learning_rate(asked, epoch, part) == pytest.approx(LR * 0.1 ** (epoch // 10))


def test_exponential_falls_every_epoch() -> None:
    asked = run(Schedule(name="exponential", gamma=0.9))
    for epoch in range(40):
        for part in (0.0, 0.99):
            assert learning_rate(asked, epoch, part) == pytest.approx(LR * 0.9**epoch)


@pytest.mark.parametrize("final", [0.0, 0.2])
def test_cosine_falls_at_every_step_to_its_end(final: float) -> None:
    asked = run(Schedule(name="cosine", final=final))
    for time in (0.0, 0.5, 10.0, 20.0, 39.75):
        expected = LR * (final + (1 - final) * (1 + math.cos(math.pi * time / 40)) / 2)
        assert learning_rate(asked, int(time), time % 1) == pytest.approx(expected)
    assert learning_rate(asked, 39, 1.0) == pytest.approx(LR * final)


@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_warm_up_is_a_straight_rise_and_joins_the_schedule(name: str) -> None:
    asked = run(Schedule(name=name, warmup_epochs=2.5))  # type: ignore[arg-type]
    assert learning_rate(asked, 0, 0.0) == 0
    for time in (0.5, 1.0, 2.0):
        assert learning_rate(asked, int(time), time % 1) == pytest.approx(LR * time / 2.5)
    assert learning_rate(asked, 2, 0.5) == pytest.approx(LR)
    # The cosine's half wave begins where the warm-up ends.
    if name == "cosine":
        half = 2.5 + (40 - 2.5) / 2
        assert learning_rate(asked, int(half), half % 1) == pytest.approx(LR / 2)


def test_a_phase_has_a_factor_of_its_own() -> None:
    asked = run(Schedule(name="constant"), Phase(epochs=2), Phase(epochs=1, lr_factor=3.0))
    assert [learning_rate(asked, epoch, 0.0) for epoch in range(3)] == pytest.approx([LR, LR, 3 * LR])


@pytest.mark.parametrize("name", ["constant", "step", "exponential", "cosine"])
def test_with_restarts_each_phase_has_the_course_of_a_run_of_its_own(name: str) -> None:
    schedule = Schedule(name=name, warmup_epochs=0.5, step_epochs=2, final=0.1)  # type: ignore[arg-type]
    first, second = Phase(epochs=5), Phase(epochs=3, lr_factor=0.5)
    both = run(replace(schedule, restarts=True), first, second)
    alone = [run(schedule, first), run(schedule, second)]
    for part in (0.0, 0.25, 0.75):
        courses = [[learning_rate(one, epoch, part) for epoch in range(one.epochs)] for one in alone]
        assert [learning_rate(both, epoch, part) for epoch in range(8)] == [*courses[0], *courses[1]]


class Quadratic(nn.Module):
    """L(w) = 1/2 w^T diag(a) w, whose gradient a * w is known."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
        self.a = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64)

    def forward(self) -> torch.Tensor:
        return 0.5 * (self.a * self.w.square()).sum()


def step(module: Quadratic, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    module().backward()
    if hasattr(optimizer, "first_step"):
        optimizer.first_step(zero_grad=True)
        module().backward()
        optimizer.second_step(zero_grad=True)
    else:
        optimizer.step()


def test_sgd_has_momentum_and_decay() -> None:
    module = Quadratic()
    optimizer = build_optimizer(Optimizer(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.01), module.parameters())
    w, velocity = module.w.detach().clone(), torch.zeros(3, dtype=torch.float64)
    for _ in range(3):
        step(module, optimizer)
        velocity = 0.9 * velocity + module.a * w + 0.01 * w
        w = w - 0.1 * velocity
    assert torch.allclose(module.w.detach(), w, atol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_decays_by_the_gradient_and_adamw_beside_it(name: str) -> None:
    module = Quadratic()
    optimizer = build_optimizer(Optimizer(name=name, lr=0.1, weight_decay=0.5), module.parameters())  # type: ignore[arg-type]
    w = module.w.detach().clone()
    step(module, optimizer)
    # The first step of Adam has the length lr in every direction.
    gradient = module.a * w + (0.5 * w if name == "adam" else 0)
    expected = w - 0.1 * gradient.sign() - (0.1 * 0.5 * w if name == "adamw" else 0)
    assert torch.allclose(module.w.detach(), expected, atol=1e-7)


def test_sam_descends_by_the_gradient_of_its_neighborhood() -> None:
    # Foret et al., Eq. 2 and 3: e = rho g / |g|, w <- w - lr * gradient at w + e.
    module = Quadratic()
    config = Optimizer(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.0, sam_rho=0.05)
    optimizer = build_optimizer(config, module.parameters())
    w, velocity = module.w.detach().clone(), torch.zeros(3, dtype=torch.float64)
    for _ in range(3):
        step(module, optimizer)
        gradient = module.a * w
        ascended = w + 0.05 * gradient / gradient.norm()
        velocity = 0.9 * velocity + module.a * ascended
        w = w - 0.1 * velocity
    assert torch.allclose(module.w.detach(), w, atol=1e-10)


@pytest.mark.parametrize("rho", [None, 0.05])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_state_goes_through_a_checkpoint(name: str, rho: float | None) -> None:
    config = Optimizer(name=name, lr=0.1, weight_decay=0.01, sam_rho=rho)  # type: ignore[arg-type]
    whole, parted = Quadratic(), Quadratic()
    optimizer = build_optimizer(config, whole.parameters())
    for lr in (0.1, 0.1, 0.05, 0.05):
        set_learning_rate(optimizer, lr)
        step(whole, optimizer)

    before = build_optimizer(config, parted.parameters())
    step(parted, before)
    step(parted, before)
    weights, state = parted.state_dict(), optimizer_state(before)
    resumed = Quadratic()
    resumed.load_state_dict(weights)
    after = build_optimizer(replace(config, lr=9.0), resumed.parameters())
    load_optimizer_state(after, state)
    for _ in range(2):
        set_learning_rate(after, 0.05)
        step(resumed, after)
    assert torch.equal(whole.w, resumed.w)
