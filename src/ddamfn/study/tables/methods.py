"""The methods of the comparison, each with its paper's recipe."""

from collections.abc import Callable, Mapping
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
from ddamfn.train import Augment, Model, Optimizer, Phase, Run, Schedule
from ddamfn.train.recipes import ddamfn_rafdb


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the comparison.

    Attributes:
        network: its name in `ddamfn.models`, which is the method's name too.
        title: for readers.
        objective: what it is trained for.
        published: accuracy on RAF-DB in the method's paper, in per cent.
        slides: accuracy on RAF-DB on the slides; None for POSTER, which the slides explain and do not compare.
        paper: citation.
        own: from the equal run to the paper's own recipe.
        differs: what of the paper's recipe is not so here.
        options: switches of the network.
        needs_px: smallest side that the network can take.
        multiple_px: what its images' sides must be multiples of.
    """

    network: str
    title: str
    objective: Objective
    published: float
    slides: float | None
    paper: str
    own: Callable[[Run], Run]
    differs: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    needs_px: int = 32
    multiple_px: int = 1

    def equal(self, base: Run) -> Run:
        """The run under the same conditions as all others: only network and objective are the method's.

        Where the base has the method's own objective, its settings are the base's, so that they can be changed. A
        phase whose side the network cannot take has the nearest one below that it can, or its smallest.

        Raises:
            UsageError: if the crops are too small for the network.
        """
        if self.needs_px > base.data.alignment.side_px:
            raise UsageError(
                f"{self.network} needs images of at least {self.needs_px} px, and the crops have "
                f"{base.data.alignment.side_px}; prepare larger ones, or leave the method out with --methods"
            )
        phases = tuple(replace(phase, side_px=self.side(phase.side_px)) for phase in base.phases)
        model = Model(name=self.network, options=self.options)
        objective = base.objective if type(base.objective) is type(self.objective) else self.objective
        return replace(base, model=model, objective=objective, phases=phases)

    def side(self, side_px: int) -> int:
        """Side that the network takes in place of another."""
        return max(self.needs_px, side_px // self.multiple_px * self.multiple_px)

    def as_published(self, base: Run) -> Run:
        """The run with the paper's own recipe, on the base's images and classes."""
        model = Model(name=self.network, options=self.options)
        return self.own(replace(base, model=model, objective=self.objective, recipe=f"{self.network}_as_published"))


def _recipe(
    side_px: int,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer,
    schedule: Schedule,
    augment: Augment,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> Callable[[Run], Run]:
    def change(run: Run) -> Run:
        alignment = Alignment(run.data.alignment.template, run.data.alignment.margin, side_px)
        return replace(
            run,
            data=replace(run.data, alignment=alignment, mean=mean or run.data.mean, std=std or run.data.std),
            augment=augment,
            optimizer=optimizer,
            schedule=schedule,
            phases=(Phase(epochs=epochs, side_px=side_px, batch_size=batch_size),),
            ema=None,
        )

    return change


def _ddamfn(run: Run) -> Run:
    own = ddamfn_rafdb()
    phase = own.phases[0]
    return _recipe(phase.side_px, phase.epochs, phase.batch_size, own.optimizer, own.schedule, own.augment)(run)


_ERASE = (0.02, 0.25)

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.network: method
        for method in (
            Method(
                network="ran",
                title="RAN",
                objective=RANObjective(),
                published=86.90,
                slides=86.90,
                paper="Wang et al., IEEE Transactions on Image Processing 2020",
                own=_recipe(
                    224, 60, 128, Optimizer(lr=0.1), Schedule(step_epochs=20), Augment(flip=0.5)
                ),
                differs="no MS-Celeb-1M weights; the rate falls after 1/3 and 2/3 of the epochs, there at 30, 50, 80 %",
            ),
            Method(
                network="scn",
                title="SCN",
                objective=SCNObjective(rank_margin=0.07),
                published=87.03,
                slides=87.03,
                paper="Wang et al., CVPR 2020",
                own=_recipe(
                    224, 70, 64, Optimizer(name="adam", lr=1e-3), Schedule(name="exponential", gamma=0.9),
                    Augment(flip=0.5, noise=0.25, erase=0.5, erase_area=_ERASE),
                ),
                differs="no MS-Celeb-1M weights; flip and noise are drawn apart, there one or the other",
            ),
            Method(
                network="dacl",
                title="DACL",
                objective=DACLObjective(),
                published=87.78,
                slides=87.78,
                paper="Farzaneh and Qi, WACV 2021",
                own=_recipe(
                    224, 60, 64, Optimizer(lr=0.01, weight_decay=5e-4), Schedule(step_epochs=20),
                    Augment(flip=0.5, affine=1.0, shift=16 / 224),
                    mean=(0.5752, 0.4495, 0.4012), std=(0.2086, 0.1911, 0.1827),
                ),
                differs="no MS-Celeb-1M weights; shifts anywhere, there to one of five crops",
            ),
            Method(
                network="mvit",
                title="MViT",
                objective=MViTObjective(),
                published=88.62,
                slides=88.62,
                paper="Li et al., arXiv 2106.04520",
                own=_recipe(
                    224, 40, 64, Optimizer(name="adamw", lr=1e-4, weight_decay=0.05),
                    Schedule(name="cosine", warmup_epochs=3), Augment(flip=0.5, erase=0.5, erase_area=_ERASE),
                ),
                differs="no ImageNet weights; optimizer, schedule and augmentation are unpublished, these are ours",
                multiple_px=16,
            ),
            Method(
                network="psr",
                title="PSR",
                objective=PSRObjective(),
                published=88.98,
                slides=88.98,
                paper="Vo et al., IEEE Access 2020",
                own=_recipe(
                    100, 50, 32, Optimizer(name="adam", lr=1e-3, weight_decay=0.0),
                    Schedule(name="cosine", warmup_epochs=5),
                    Augment(flip=0.5, affine=1.0, rotate_deg=15, scale=(1.0, 1.1)),
                ),
                differs="no FERPlus weights; one rate for all layers and Adam throughout, there the last 20 epochs SGD",
                needs_px=64,
            ),
            Method(
                network="dan",
                title="DAN",
                objective=DANObjective(),
                published=89.70,
                slides=89.70,
                paper="Wen et al., Biomimetics 2023",
                own=_recipe(
                    224, 40, 256, Optimizer(lr=0.1), Schedule(step_epochs=10),
                    Augment(flip=0.5, affine=0.2, rotate_deg=20, shift=32 / 224, erase=0.5, erase_area=_ERASE),
                ),
                differs="no MS-Celeb-1M weights",
            ),
            Method(
                network="transfer",
                title="TransFER",
                objective=CrossEntropyObjective(),
                published=90.91,
                slides=90.91,
                paper="Xue et al., ICCV 2021",
                own=_recipe(
                    112, 40, 64, Optimizer(lr=1e-4), Schedule(step_epochs=15),
                    Augment(flip=0.5, affine=0.5, rotate_deg=15, shift=0.1, erase=0.5, erase_area=(0.02, 0.4)),
                ),
                differs="no weights of face recognition or ImageNet; rotation and shift in place of RandAugment",
            ),
            Method(
                network="poster",
                title="POSTER",
                objective=CrossEntropyObjective(label_smoothing=0.4 / 3),
                published=92.05,
                slides=None,
                paper="Zheng et al., ICCV Workshops 2023",
                own=_recipe(
                    112, 300, 200, Optimizer(name="adam", lr=4e-5, weight_decay=0.0, sam_rho=0.05),
                    Schedule(name="exponential", gamma=0.98), Augment(flip=0.5, erase=0.5, erase_area=(0.02, 0.1)),
                ),
                differs="no weights of face recognition, in the landmark branch neither",
            ),
            Method(
                network="ddamfn",
                title="DDAMFN",
                objective=DDAMFNObjective(),
                published=91.35,
                slides=90.635,
                paper="Zhang et al., Electronics 2023, 12(17), 3595",
                own=_ddamfn,
                differs="no MS-Celeb-1M weights",
                options=MappingProxyType({"num_heads": 2}),
            ),
        )
    }
)  # fmt: skip
"""Name -> method, as the slides order them; POSTER and DDAMFN are last."""
