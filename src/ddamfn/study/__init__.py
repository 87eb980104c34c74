"""The slides' experiments as tables of jobs: each job done once, one report a table. Needs PyTorch."""

from ddamfn.study.ablations import TABLES, ablation
from ddamfn.study.comparison import comparison
from ddamfn.study.crossval import crossval
from ddamfn.study.jobs import Fold, Job, Row, Study
from ddamfn.study.pictures import Pictures
from ddamfn.study.report import Circumstances, write_report
from ddamfn.study.results import Result
from ddamfn.study.runner import Progress, Standing, Watcher, run_study

__all__ = [
    "TABLES", "Circumstances", "Fold", "Job", "Pictures", "Progress", "Result", "Row", "Standing", "Study", "Watcher",
    "ablation", "comparison", "crossval", "run_study", "write_report",
]  # fmt: skip
