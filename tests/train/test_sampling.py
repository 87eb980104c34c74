import torch

from ddamfn.train.tensorset import TensorSplit, epoch_batches, hold_out


def split(counts: list[int], soft: bool = False) -> TensorSplit:
    """So many images of each class, each of one gray level that is its number."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    targets = torch.eye(len(counts))[labels]
    if soft:
        targets = 0.8 * targets + 0.2 / len(counts)
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()
    keys = tuple(str(i) for i in range(len(labels)))
    return TensorSplit(images, targets, keys, tuple("abcdefgh"[: len(counts)]), "numbers")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_epoch_sees_every_image_once_in_a_drawn_order() -> None:
    batches = epoch_batches(split([6, 4]), 4, balanced=False, generator=seeded())
    assert [len(batch) for batch in batches] == [4, 4, 2]
    order = torch.cat(batches)
    assert sorted(order.tolist()) == list(range(10))
    assert order.tolist() != list(range(10))
    again = torch.cat(epoch_batches(split([6, 4]), 4, balanced=False, generator=seeded()))
    other = torch.cat(epoch_batches(split([6, 4]), 4, balanced=False, generator=seeded(1)))
    assert torch.equal(order, again)
    assert not torch.equal(order, other)


def test_a_last_batch_of_one_is_dropped() -> None:
    # Batch normalization has no variance of one image.
    assert [len(b) for b in epoch_batches(split([5, 4]), 4, balanced=False, generator=seeded())] == [4, 4]
    assert [len(b) for b in epoch_batches(split([1, 1]), 256, balanced=False, generator=seeded())] == [2]


def test_balanced_draws_every_class_equally_often() -> None:
    counts = [900, 90, 10]
    for soft in (False, True):
        data = split(counts, soft)
        rows = torch.cat(epoch_batches(data, 100, balanced=True, generator=seeded()))
        assert len(rows) == 1000
        drawn = torch.bincount(data.targets[rows].argmax(dim=1), minlength=3)
        # 1000 draws of probability 1/3: four standard deviations are 60.
        assert ((drawn - 1000 / 3).abs() < 60).all()
    # Ten images drawn some 333 times can only be drawn again and again.
    assert len(set(rows[rows >= 990].tolist())) == 10


def test_balanced_does_not_trip_over_an_empty_class() -> None:
    data = split([4, 0, 4])
    rows = torch.cat(epoch_batches(data, 4, balanced=True, generator=seeded()))
    assert len(rows) == 8


def test_hold_out_takes_its_share_of_every_class() -> None:
    data = split([100, 20, 2, 1])
    train, valid = hold_out(data, 0.1, seeded())
    assert set(train.keys) | set(valid.keys) == set(data.keys)
    assert not set(train.keys) & set(valid.keys)
    assert torch.bincount(valid.targets.argmax(dim=1), minlength=4).tolist() == [10, 2, 1, 0]
    assert torch.bincount(train.targets.argmax(dim=1), minlength=4).tolist() == [90, 18, 1, 1]
    # Keys, images and targets still belong together.
    for part in (train, valid):
        assert part.images[:, 0, 0, 0].tolist() == [int(key) for key in part.keys]
        assert torch.equal(part.targets, data.targets[torch.tensor([int(key) for key in part.keys])])
    assert hold_out(data, 0.1, seeded())[1].keys == valid.keys
    assert hold_out(data, 0.1, seeded(1))[1].keys != valid.keys


def test_hold_out_keeps_a_subject_on_one_side() -> None:
    data = split([30, 30])
    subjects = [f"person {i % 10}" for i in range(60)]
    train, valid = hold_out(data, 0.2, seeded(), subjects)
    sides = [{subjects[int(key)] for key in part.keys} for part in (train, valid)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 2
    assert len(train) + len(valid) == 60


def test_hold_out_ignores_subjects_that_are_not_all_known() -> None:
    data = split([10, 10])
    for subjects in ([None] * 20, ["a"] * 19 + [None], ["one"] * 20):
        train, valid = hold_out(data, 0.2, seeded(), subjects)
        assert (len(train), len(valid)) == (16, 4)
