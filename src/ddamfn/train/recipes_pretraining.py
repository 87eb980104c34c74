"""Named runs of pretext tasks: what `ddamfn train` trains a trunk with, for another run's `initial`.

They take pictures as the recipes of FERPlus do, but serve any set. The papers' settings were made for a ResNet-50 and
ImageNet; ours differ: AdamW at the rate of the FERPlus recipes in place of LARS or SGD, and changes to a picture that
leave the face in its place, since one that is cropped to a fifth, as papers on objects do, is no face any more.
"""

from ddamfn.faces import Appearance
from ddamfn.objectives import BarlowObjective, IdentityObjective, Objective, RotationObjective, SimSiamObjective
from ddamfn.train.config import Augment, Data, Model, Optimiser, Phase, Run, Schedule

_VIEWS = Augment(
    flip=0.5, affine=1.0, rotate_deg=15, shift=0.08, scale=(0.8, 1.2), brightness=0.4, gamma=0.4, blur=0.5, noise=0.3,
    erase=0.3, erase_area=(0.02, 0.2),
)  # fmt: skip
_MILD = Augment(flip=0.5, affine=0.8, rotate_deg=8, shift=0.05, scale=(0.9, 1.1), brightness=0.25, gamma=0.3)


def _pretraining(recipe: str, objective: Objective, augment: Augment, *, epochs: int, batch_size: int) -> Run:
    return Run(
        recipe=recipe,
        model=Model(name="ddamfn"),
        data=Data(appearance=Appearance("grey", 48)),
        augment=augment,
        objective=objective,
        optimiser=Optimiser(name="adamw", lr=1e-3, weight_decay=0.05),
        schedule=Schedule(name="cosine", warmup_epochs=5, final=0.01),
        phases=(Phase(epochs=epochs, batch_size=batch_size),),
    )


def pretrain_barlow() -> Run:
    """Pre-training without labels: two views of a face agree, number by number (Barlow Twins).

    Source: Zbontar et al., ICML 2021; lambda 0.005 as there.
    """
    return _pretraining("pretrain_barlow", BarlowObjective(), _VIEWS, epochs=200, batch_size=256)


def pretrain_simsiam() -> Run:
    """Pre-training without labels: one view of a face predicts the other (SimSiam).

    Source: Chen and He, CVPR 2021; widths as there, which advises batches of 256 and no large ones.
    """
    return _pretraining("pretrain_simsiam", SimSiamObjective(), _VIEWS, epochs=200, batch_size=256)


def pretrain_rotation() -> Run:
    """Pre-training without labels: tell by which quarter turns a face was turned.

    Source: Gidaris et al., ICLR 2018. Every picture passes in all four turns, so a batch of 64 is one of 256.
    """
    return _pretraining("pretrain_rotation", RotationObjective(), _MILD, epochs=50, batch_size=64)


def pretrain_identity() -> Run:
    """Pre-training without labels: repeat a public-domain face-recognition network (extra "identity").

    The embeddings are computed once, some 7 faces a second on one core, and kept beside the prepared set.

    Source: our own; see `ddamfn.objectives.identity`.
    """
    return _pretraining("pretrain_identity", IdentityObjective(), _MILD, epochs=100, batch_size=256)
