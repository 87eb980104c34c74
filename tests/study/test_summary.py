"""What a table says of its jobs, on made-up predictions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddamfn.study.jobs import Ledger, Plan, Result, Study, claim
from ddamfn.study.report import percents, write_report
from ddamfn.study.runner import PREDICTIONS, StudyOutcome
from ddamfn.study.significance import Interval, mcnemar
from ddamfn.study.summary import fold_interval, summarize, verdict
from ddamfn.study.tables.ablations import ablation
from ddamfn.study.tables.comparison import comparison
from ddamfn.study.tables.crossval import crossval
from ddamfn.study.tables.factors import AblationOptions, factors
from ddamfn.train import recipe

N = 2000


def result(job: str, row: str, right: np.ndarray, *, seed: int = 0, fold: int | None = None) -> Result:
    correct = int(right.sum())
    return Result(
        job=job, row=row, seed=seed, fold=fold, n_train=9 * len(right), n_valid=100, n=len(right), correct=correct,
        accuracy=correct / len(right), ci95=(0.0, 1.0), mean_class_accuracy=0.5, macro_f1=0.5, valid_accuracy=0.5,
        epoch=1, epochs=2, parameters=1_000, seconds=10.0, images_per_second=100.0, test="faces", rule="majority",
        device="cpu", commit="abc", finished="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def fill(study: Study, folder: Path, accuracies: dict[str, float], *, shuffled: bool = False) -> list[Result]:
    """Give every job predictions that are correct with some probability, mostly on the same images for all rows."""
    hard = np.random.default_rng(0).random(N)
    results = []
    for number, job in enumerate(study.jobs):
        noise = np.random.default_rng(number + 1).normal(0, 0.01, N)
        right = hard + noise < accuracies[job.row]
        order = np.random.default_rng(number).permutation(N) if shuffled else np.arange(N)
        logits = np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]]).astype(np.float32)
        (folder / job.id).mkdir(parents=True)
        keys = np.array([f"test/{i}.png" for i in range(N)])
        np.savez(folder / job.id / PREDICTIONS, keys=keys[order], labels=np.zeros(N, np.int64), logits=logits[order])
        results.append(result(job.id, job.row, right, seed=job.seed))
    return results


@pytest.fixture
def study() -> Study:
    return ablation("backbones", recipe("ddamfn_rafdb"), Plan(data="faces", dataset="faces", seeds=3))


ACCURACIES = {"mobilefacenet": 0.80, "iresnet18": 0.897, "iresnet50": 0.90, "mfn": 0.86, "ddamfn": 0.90}


def test_differences_are_paired_by_image_and_judged_against_noise(study: Study, tmp_path: Path) -> None:
    results = fill(study, tmp_path, ACCURACIES, shuffled=True)
    summaries = {summary.row.name: summary for summary in summarize(study, results, tmp_path)}
    assert summaries["ddamfn"].difference is None
    lost = summaries["mfn"].difference
    assert lost is not None
    assert lost.interval.mean == pytest.approx(summaries["mfn"].mean - summaries["ddamfn"].mean)
    assert lost.interval.low == pytest.approx(-0.04, abs=0.015)
    assert lost.exceeds_noise
    assert all(p < 1e-6 for p in lost.p_values)
    assert len(lost.p_values) == 3
    same = summaries["iresnet50"].difference
    assert same is not None
    assert not same.exceeds_noise
    assert min(same.p_values) > 0.01
    assert summaries["mfn"].seeds_interval is not None
    text = verdict(study, list(summaries.values()))
    assert text.startswith("Against DDAMFN, 2 heads, larger than noise: MobileFaceNet (-")
    assert "MFN (-" in text
    assert "not larger than noise: " in text
    assert "ResNet-50" in text.partition("not larger than noise: ")[2]
    assert text.endswith("(noise is the choice of test images and of 3 seeds; intervals widened for 4 comparisons).")
    assert text.count(".") - text.count("0.") >= 1


def test_one_seed_is_said_to_be_one(tmp_path: Path) -> None:
    study = ablation("ddan", recipe("ddamfn_rafdb"), Plan(data="faces", dataset="faces"))
    results = fill(study, tmp_path, {"mfn": 0.8, "ddamfn": 0.9})
    summaries = summarize(study, results, tmp_path)
    assert summaries[0].seeds_interval is None
    assert "with one seed, noise is the choice of test images alone" in verdict(study, summaries)
    found = summaries[0].difference
    assert found is not None
    hard = np.random.default_rng(0).random(N)
    right = [hard + np.random.default_rng(k).normal(0, 0.01, N) < share for k, share in ((1, 0.8), (2, 0.9))]
    assert found.p_values == (mcnemar(*right),)


def test_an_interval_of_few_seeds_is_cut_to_what_an_accuracy_can_be() -> None:
    assert percents(Interval(0.42, 0.06, -0.11, 0.95)) == "0.00 % to 95.00 %"
    assert percents(Interval(0.9, 0.06, 0.4, 1.4)) == "40.00 % to 100.00 %"


def test_a_table_for_choosing_speaks_of_validation_images(tmp_path: Path) -> None:
    given = AblationOptions(only=("attention-none", "optimization-ema"))
    study = factors(recipe("ddamfn_rafdb"), Plan(data="faces", dataset="faces"), given)
    results = fill(study, tmp_path, {"base": 0.9, "attention-none": 0.8, "optimization-ema": 0.9})
    text = verdict(study, summarize(study, results, tmp_path))
    assert "noise is the choice of validation images alone" in text
    # A title with a comma is one member of the list.
    assert '"optimization: moving average, 0.999"' in text
    assert "larger than noise: attention: attention loss off (-" in text


def test_a_study_without_results_says_so(study: Study, tmp_path: Path) -> None:
    outcome = StudyOutcome((), {"job-1": "loss is not finite"}, study.jobs)
    text, _ = write_report(study, outcome, tmp_path, tmp_path / "report", command="ddamfn study", data="faces")
    assert "0 of 15 jobs done" in text
    assert "Failed: `job-1`: loss is not finite" in text
    assert "No difference can be judged yet" in text


def report(study: Study, results: list[Result], folder: Path) -> str:
    outcome = StudyOutcome(tuple(results), {}, ())
    return write_report(study, outcome, folder, folder / "report", command="ddamfn study", data="faces")[0]


@pytest.mark.parametrize("folds", [10, 3])
def test_the_reported_folds_stand_beside_ten_folds_alone(folds: int, tmp_path: Path) -> None:
    study = crossval(recipe("ddamfn_rafdb"), Plan(data="faces", dataset="faces"), folds=folds, grouped=False)
    results = [result(job.id, job.row, np.arange(100) < 90, fold=k) for k, job in enumerate(study.jobs)]
    text = report(study, results, tmp_path)
    assert ("| reported on RAF-DB |" in text) is (folds == 10)
    assert ("| 91.82 |" in text) is (folds == 10)
    assert "| 0 | 3 | 90 of 100 | 90.00 % |" in text


def test_rows_with_recipes_of_their_own_are_named_with_them(tmp_path: Path) -> None:
    base, plan = recipe("ddamfn_rafdb"), Plan(data="faces", dataset="faces")
    text = report(comparison(base, plan, methods=["scn"], as_published=True), [], tmp_path)
    assert "Each row's own recipe: SCN, 70 epochs at 224 px; DDAMFN, 40 epochs at 112 px" in text
    assert "Recipe `ddamfn_rafdb`, 40 epochs at 112 px" in report(comparison(base, plan, methods=["scn"]), [], tmp_path)


def test_folds_get_the_corrected_interval() -> None:
    rights = [np.arange(1000) < correct for correct in (906, 902, 898, 908)]
    interval, share = fold_interval([result(f"job{k}", "ddamfn", right, fold=k) for k, right in enumerate(rights)])
    assert share == pytest.approx(1 / 9)
    assert interval is not None
    assert interval.mean == pytest.approx(0.9035)
    # 3.182 is the 97.5 % quantile of t with 3 degrees of freedom.
    half = 3.1824 * np.sqrt(1 / 4 + 1 / 9) * np.std([0.906, 0.902, 0.898, 0.908], ddof=1)
    assert interval.high - interval.mean == pytest.approx(half, rel=1e-4)


def test_the_ledger_gives_back_what_it_got_and_leaves_out_a_torn_line(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "study")
    assert ledger.results == {}
    one, other = (result(name, "mfn", np.ones(5, bool)) for name in ("one", "other"))
    ledger.append(one)
    with ledger.path.open("a") as file:
        file.write('{"job": "torn", "row')
    assert list(Ledger(tmp_path / "study").results) == ["one"]
    ledger.append(other)
    assert ledger.results == Ledger(tmp_path / "study").results == {"one": one, "other": other}


def test_a_job_can_be_claimed_once_at_a_time(tmp_path: Path) -> None:
    with claim(tmp_path / "job") as first:
        with claim(tmp_path / "job") as second:
            assert (first, second) == (True, False)
        with claim(tmp_path / "another") as other:
            assert other
    with claim(tmp_path / "job") as again:
        assert again


def test_a_job_s_name_holds_all_that_decides_its_result_and_nothing_else(study: Study) -> None:
    job = study.jobs[0]
    assert job.id.startswith("mobilefacenet-seed0-")
    assert replace(job, after=("another",)).id == job.id
    assert replace(job, data="another/place").id == job.id
    assert replace(job, dataset="other faces").id != job.id
    slower = replace(job.run, optimizer=replace(job.run.optimizer, lr=0.001))
    assert replace(job, run=slower).id != job.id
