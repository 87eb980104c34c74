"""The slides' experiments as tables of jobs: each job done once, one report a table. Needs PyTorch."""

from ddamfn.study.images import StudyImages
from ddamfn.study.jobs import Fold, Job, Plan, Result, Row, Study
from ddamfn.study.report import ReportMetadata, write_report
from ddamfn.study.runner import Progress, StudyCallback, StudyProgress, run_study
from ddamfn.study.tables.ablations import TABLES, ablation
from ddamfn.study.tables.comparison import comparison
from ddamfn.study.tables.crossval import crossval
from ddamfn.study.tables.factors import AblationOptions, factors
from ddamfn.study.tables.seeds import seeds

__all__ = [
    "TABLES",
    "AblationOptions",
    "Fold",
    "Job",
    "Plan",
    "Progress",
    "ReportMetadata",
    "Result",
    "Row",
    "Study",
    "StudyCallback",
    "StudyImages",
    "StudyProgress",
    "ablation",
    "comparison",
    "crossval",
    "factors",
    "run_study",
    "seeds",
    "write_report",
]  # fmt: skip
