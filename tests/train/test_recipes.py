"""The published recipes against the table of the authors' settings, number by number."""

from dataclasses import asdict

import pytest

from ddamfn.errors import UsageError
from ddamfn.train import RECIPES, Phase, Run, recipe

SEVEN = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")

# batch, epochs, optimizer, lr, decay, SAM's rho, schedule, factor, every so many epochs, balanced
PUBLISHED = {
    "ddamfn_rafdb": (256, 40, "sgd", 0.01, 1e-4, None, "step", 0.1, 10, False),
    "ddamfn_pp_rafdb": (128, 60, "adam", 5e-4, 0.0, 0.05, "exponential", 0.9, None, False),
    "ddamfn_affectnet": (256, 40, "adam", 1e-4, 0.0, None, "exponential", 0.6, None, True),
    "ddamfn_pp_affectnet": (256, 200, "adam", 1e-5, 0.0, 0.05, "exponential", 0.98, None, True),
    "ddamfn_ferplus": (256, 80, "sgd", 0.01, 1e-4, None, "step", 0.1, 10, False),
}

# probability of the geometric change, degrees, shift, scale, probability of erasing, its area
PUBLISHED_AUGMENTATION = {
    "ddamfn_rafdb": (0.2, 5.0, 8 / 112, (1.0, 1.0), 0.5, (0.02, 0.25)),
    "ddamfn_pp_rafdb": (0.5, 5.0, 8 / 112, (1.0, 1.0), 0.5, (0.02, 0.25)),
    "ddamfn_affectnet": (0.7, 20.0, 0.2, (0.8, 1.0), 0.5, (0.02, 0.33)),
    "ddamfn_pp_affectnet": (0.7, 20.0, 0.2, (0.8, 1.0), 1.0, (0.05, 0.05)),
    "ddamfn_ferplus": (0.2, 10.0, 16 / 112, (1.0, 1.0), 0.5, (0.02, 0.25)),
}


@pytest.mark.parametrize(("name", "row"), PUBLISHED.items())
def test_optimization_is_as_published(name: str, row: tuple[object, ...]) -> None:
    run = recipe(name)
    optimizer, schedule = run.optimizer, run.schedule
    assert run.phases == (Phase(epochs=run.epochs, side_px=112, batch_size=run.phases[0].batch_size),)
    assert row == (
        run.phases[0].batch_size,
        run.epochs,
        optimizer.name,
        optimizer.lr,
        optimizer.weight_decay,
        optimizer.sam_rho,
        schedule.name,
        schedule.gamma,
        schedule.step_epochs if schedule.name == "step" else None,
        run.data.balanced,
    )
    assert optimizer.name != "sgd" or optimizer.momentum == 0.9
    # No warm-up, no clipping, no average, no smoothing.
    assert (schedule.warmup_epochs, optimizer.clip_norm, run.ema) == (0.0, None, None)
    loss = {"attention_weight": 0.1, "attention_form": "mean_pair", "label_smoothing": 0.0, "prior_smoothing": 0.0}
    assert asdict(run.objective) == {**loss, "logit_adjustment": 0.0, "flip_consistency": 0.0}
    assert (run.model.name, dict(run.model.options)) == ("ddamfn", {"num_heads": 2})


@pytest.mark.parametrize(("name", "row"), PUBLISHED_AUGMENTATION.items())
def test_augmentation_is_as_published(name: str, row: tuple[object, ...]) -> None:
    augment = recipe(name).augment
    assert row == (
        augment.affine,
        augment.rotate_deg,
        augment.shift,
        augment.scale,
        augment.erase,
        augment.erase_area,
    )
    assert augment.flip == 0.5
    assert (augment.brightness, augment.gamma, augment.blur, augment.noise) == ((1, 1), 0, 0, 0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_images_are_normalized_as_published(name: str) -> None:
    data = recipe(name).data
    assert data.mean == (0.485, 0.456, 0.406)
    assert data.std == (0.229, 0.224, 0.225)
    assert data.alignment.template == ("ddamfn_five_pose" if "_pp_" in name else "ddamfn_frontal")
    assert data.classes == {"rafdb": SEVEN, "affectnet": (*SEVEN, "contempt"), "ferplus": None}[name.split("_")[-1]]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_itself_and_its_source(name: str) -> None:
    run = recipe(name)
    assert isinstance(run, Run)
    assert run.recipe == name
    summary, _, details = (RECIPES[name].__doc__ or "").partition("\n")
    assert summary.endswith(".")
    assert "Source: " in details


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_ends_at_the_size_of_its_crops(name: str) -> None:
    # The exported network is used at the crops' size: it must have been trained there.
    run = recipe(name)
    assert run.phases[-1].side_px == run.data.alignment.side_px


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no recipe named 'x'; there are: ddamfn_rafdb, "):
        recipe("x")
