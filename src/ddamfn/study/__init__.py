"""The slides' experiments as tables of jobs: each job done once, one report a table. Needs PyTorch."""

from ddamfn.study.jobs import Fold, Job, Plan, Result, Row, Study
from ddamfn.study.pictures import Pictures
from ddamfn.study.report import Circumstances, write_report
from ddamfn.study.runner import Progress, Standing, Watcher, run_study
from ddamfn.study.tables.ablations import TABLES, ablation
from ddamfn.study.tables.comparison import comparison
from ddamfn.study.tables.crossval import crossval
from ddamfn.study.tables.levers import Given, levers
from ddamfn.study.tables.seeds import seeds

__all__ = [
    "TABLES", "Circumstances", "Fold", "Given", "Job", "Pictures", "Plan", "Progress", "Result", "Row", "Standing",
    "Study", "Watcher", "ablation", "comparison", "crossval", "levers", "run_study", "seeds", "write_report",
]  # fmt: skip
