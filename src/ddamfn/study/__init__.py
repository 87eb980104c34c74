"""The slides' experiments as tables of jobs: each job done once, one report a table. Needs PyTorch."""

from ddamfn.study.ablations import TABLES, ablation
from ddamfn.study.comparison import comparison
from ddamfn.study.crossval import crossval
from ddamfn.study.jobs import Fold, Job, Plan, Row, Study
from ddamfn.study.levers import Given, levers
from ddamfn.study.pictures import Pictures
from ddamfn.study.report import Circumstances, write_report
from ddamfn.study.results import Result
from ddamfn.study.runner import Progress, Standing, Watcher, run_study
from ddamfn.study.seeds import seeds

__all__ = [
    "TABLES", "Circumstances", "Fold", "Given", "Job", "Pictures", "Plan", "Progress", "Result", "Row", "Standing",
    "Study", "Watcher", "ablation", "comparison", "crossval", "levers", "run_study", "seeds", "write_report",
]  # fmt: skip
