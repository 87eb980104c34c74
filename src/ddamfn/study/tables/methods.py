"""The methods of the comparison, each with its paper's recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ddamfn.errors import UsageError
from ddamfn.faces import Alignment
from ddamfn.objectives import (
    CrossEntropyObjective,
    DACLObjective,
    DANObjective,
    DDAMFNObjective,
    MViTObjective,
    Objective,
    PSRObjective,
    RANObjective,
    SCNObjective,
)
from ddamfn.study.catalog import NETWORKS, Published
from ddamfn.train import Augment, Model, Optimizer, Phase, Run, Schedule
from ddamfn.train.recipes import ddamfn_rafdb


@dataclass(frozen=True, kw_only=True)
class Method:
    """A compared network with its paper's recipe."""

    network: str  # name in `ddamfn.models`; also the method's name
    objective: Objective
    phase: Phase  # epochs, side and batch size
    optimizer: Optimizer
    schedule: Schedule
    augment: Augment
    differs: str  # from the paper's recipe
    mean: tuple[float, float, float] | None = None  # of the input; None takes the base's
    std: tuple[float, float, float] | None = None  # of the input; None takes the base's
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))  # of the network
    needs_px: int = 32  # smallest side that the network takes
    multiple_px: int = 1  # of which the sides must be multiples

    @property
    def source(self) -> Published:
        """The method's title, paper and figures."""
        return NETWORKS[self.network]

    def equal(self, base: Run) -> Run:
        """Return the base run with this method's network and objective, under the same conditions as all others.

        A base with the method's own objective keeps its settings. A phase whose side does not fit takes the
        nearest smaller one, or the smallest.
        """
        if self.needs_px > base.data.alignment.side_px:
            raise UsageError(
                f"{self.network} needs images of at least {self.needs_px} px, and the crops have "
                f"{base.data.alignment.side_px}; prepare larger ones, or leave the method out with --methods"
            )
        phases = tuple(replace(phase, side_px=self._side(phase.side_px)) for phase in base.phases)
        model = Model(name=self.network, options=self.options)
        objective = base.objective if type(base.objective) is type(self.objective) else self.objective
        return replace(base, model=model, objective=objective, phases=phases)

    def _side(self, side_px: int) -> int:
        return max(self.needs_px, side_px // self.multiple_px * self.multiple_px)

    def as_published(self, base: Run) -> Run:
        """The run with the paper's own recipe, on the base's images and classes."""
        data = base.data
        alignment = Alignment(data.alignment.template, data.alignment.margin, self.phase.side_px)
        return replace(
            base,
            recipe=f"{self.network}_as_published",
            model=Model(name=self.network, options=self.options),
            objective=self.objective,
            data=replace(
                data,
                alignment=alignment,
                preprocessing=replace(data.preprocessing, stretch=None),  # ours, and no paper's
                mean=self.mean or data.mean,
                std=self.std or data.std,
            ),
            augment=self.augment,
            optimizer=self.optimizer,
            schedule=self.schedule,
            phases=(self.phase,),
            ema=None,
        )


_ERASE = (0.02, 0.25)
_OWN = ddamfn_rafdb()


def _phase(side_px: int, epochs: int, batch_size: int) -> Phase:
    return Phase(side_px=side_px, epochs=epochs, batch_size=batch_size)


_METHODS = (
    Method(
        network="ran",
        objective=RANObjective(),
        phase=_phase(224, 60, 128),
        optimizer=Optimizer(lr=0.1),
        schedule=Schedule(step_epochs=20),
        augment=Augment(flip=0.5),
        differs="no MS-Celeb-1M weights; the rate falls after 1/3 and 2/3 of the epochs, there at 30, 50, 80 %",
    ),
    Method(
        network="scn",
        objective=SCNObjective(rank_margin=0.07),
        phase=_phase(224, 70, 64),
        optimizer=Optimizer(name="adam", lr=1e-3),
        schedule=Schedule(name="exponential", gamma=0.9),
        augment=Augment(flip=0.5, noise=0.25, erase=0.5, erase_area=_ERASE),
        differs="no MS-Celeb-1M weights; flip and noise are drawn apart, there one or the other",
    ),
    Method(
        network="dacl",
        objective=DACLObjective(),
        phase=_phase(224, 60, 64),
        optimizer=Optimizer(lr=0.01, weight_decay=5e-4),
        schedule=Schedule(step_epochs=20),
        augment=Augment(flip=0.5, affine=1.0, shift=16 / 224),
        differs="no MS-Celeb-1M weights; shifts anywhere, there to one of five crops",
        mean=(0.5752, 0.4495, 0.4012),
        std=(0.2086, 0.1911, 0.1827),
    ),
    Method(
        network="mvit",
        objective=MViTObjective(),
        phase=_phase(224, 40, 64),
        optimizer=Optimizer(name="adamw", lr=1e-4, weight_decay=0.05),
        schedule=Schedule(name="cosine", warmup_epochs=3),
        augment=Augment(flip=0.5, erase=0.5, erase_area=_ERASE),
        differs="no ImageNet weights; optimizer, schedule and augmentation are unpublished, these are ours",
        multiple_px=16,
    ),
    Method(
        network="psr",
        objective=PSRObjective(),
        phase=_phase(100, 50, 32),
        optimizer=Optimizer(name="adam", lr=1e-3, weight_decay=0.0),
        schedule=Schedule(name="cosine", warmup_epochs=5),
        augment=Augment(flip=0.5, affine=1.0, rotate_deg=15, scale=(1.0, 1.1)),
        differs="no FERPlus weights; one rate for all layers and Adam throughout, there the last 20 epochs SGD",
        needs_px=64,
    ),
    Method(
        network="dan",
        objective=DANObjective(),
        phase=_phase(224, 40, 256),
        optimizer=Optimizer(lr=0.1),
        schedule=Schedule(step_epochs=10),
        augment=Augment(flip=0.5, affine=0.2, rotate_deg=20, shift=32 / 224, erase=0.5, erase_area=_ERASE),
        differs="no MS-Celeb-1M weights",
    ),
    Method(
        network="transfer",
        objective=CrossEntropyObjective(),
        phase=_phase(112, 40, 64),
        optimizer=Optimizer(lr=1e-4),
        schedule=Schedule(step_epochs=15),
        augment=Augment(flip=0.5, affine=0.5, rotate_deg=15, shift=0.1, erase=0.5, erase_area=(0.02, 0.4)),
        differs="no weights of face recognition or ImageNet; rotation and shift in place of RandAugment",
    ),
    Method(
        network="poster",
        objective=CrossEntropyObjective(label_smoothing=0.4 / 3),
        phase=_phase(112, 300, 200),
        optimizer=Optimizer(name="adam", lr=4e-5, weight_decay=0.0, sam_rho=0.05),
        schedule=Schedule(name="exponential", gamma=0.98),
        augment=Augment(flip=0.5, erase=0.5, erase_area=(0.02, 0.1)),
        differs="no weights of face recognition, in the landmark branch neither",
    ),
    Method(
        network="ddamfn",
        objective=DDAMFNObjective(),
        phase=_OWN.phases[0],
        optimizer=_OWN.optimizer,
        schedule=_OWN.schedule,
        augment=_OWN.augment,
        differs="no MS-Celeb-1M weights",
        options=MappingProxyType({"num_heads": 2}),
    ),
)
METHODS: Mapping[str, Method] = MappingProxyType({method.network: method for method in _METHODS})
"""Name -> method, in the order of `NETWORKS`."""
