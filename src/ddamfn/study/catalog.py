"""Catalog of tables, methods and reported figures; without PyTorch, so that `--help` can list it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

GAIN_NOTE = "The slides give DDAN's gain as +1.06 points; their own figures, 91.35 and 90.32, differ by 1.03."
_UNITS_NOTE = (
    "The slides print DDAMFN's parameters in 10^6 and the other four in 2^20; `ddamfn study complexity` shows both."
)


class Table(NamedTuple):
    """A published ablation table; the function of that name in `study.tables.ablations` builds its rows."""

    title: str
    reference: str  # name of the row that the others are compared with
    notes: tuple[str, ...] = ()  # sentences below the table


class Published(NamedTuple):
    """A compared method's citation and its accuracies on RAF-DB in percent."""

    title: str
    paper: str
    published: float | None = None  # in the method's own paper
    reported: float | None = None  # in the DDAMFN authors' table; None where it is absent


TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "backbones": Table("Backbones", "ddamfn", (_UNITS_NOTE, GAIN_NOTE)),
        "ddan": Table("The dual-direction attention network", "ddamfn", (GAIN_NOTE,)),
        "heads": Table("Number of attention heads", "heads2"),
        "attention-loss": Table("The attention loss", "mean-pair"),
        "mixed-kernels": Table("Mixed kernels", "ddamfn"),
        "coordinate-attention": Table("Coordinate attention", "ddamfn"),
    }
)
"""Tables of `ddamfn study ablation`, beside `factors`."""

NETWORKS: Mapping[str, Published] = MappingProxyType(
    {
        "ran": Published("RAN", "Wang et al., IEEE Transactions on Image Processing 2020", 86.90, 86.90),
        "scn": Published("SCN", "Wang et al., CVPR 2020", 87.03, 87.03),
        "dacl": Published("DACL", "Farzaneh and Qi, WACV 2021", 87.78, 87.78),
        "mvit": Published("MViT", "Li et al., arXiv 2106.04520", 88.62, 88.62),
        "psr": Published("PSR", "Vo et al., IEEE Access 2020", 88.98, 88.98),
        "dan": Published("DAN", "Wen et al., Biomimetics 2023", 89.70, 89.70),
        "transfer": Published("TransFER", "Xue et al., ICCV 2021", 90.91, 90.91),
        "poster": Published("POSTER", "Zheng et al., ICCV Workshops 2023", 92.05),
        "ddamfn": Published("DDAMFN", "Zhang et al., Electronics 2023, 12(17), 3595", 91.35, 90.635),
    }
)
"""Compared networks in the published order; POSTER and DDAMFN are last."""

ESTIMATORS: Mapping[str, Published] = MappingProxyType(
    {
        "lbp": Published("LBP + SVM", "Shan et al., Image and Vision Computing 2009"),
        "nmf": Published("NMF + SVM", "Lee and Seung, Nature 1999; Zhi et al., IEEE SMC-B 2011"),
        "sparse": Published("Sparse representation", "Wright et al., PAMI 2009; Yang et al., ICIP 2010"),
    }
)
"""Compared classic methods, fitted by `study.classic`."""

QUEUE = ("heads", "backbones", "factors", "comparison", "crossval", "best")
"""Studies of `ddamfn study queue`, by priority."""
