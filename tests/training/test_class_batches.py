"""aistudio/training/class_batches.py: P x K, everybody's turn, resuming, several workers."""

from collections import Counter
from itertools import islice

import pytest

from aistudio.errors import ConfigError
from aistudio.training.class_batches import BatchShape, ClassBatches

LABELS = ["a"] * 20 + ["b"] * 9 + ["c"] * 3 + ["d"] * 1 + ["e"] * 12


def sampler(p=3, k=4, seed=0, **how):
    return ClassBatches(LABELS, BatchShape(p, k, how.pop("per_epoch", None)), seed, **how)


def test_batches_hold_p_classes_of_k():
    for batch in islice(sampler(), 30):
        assert sorted(Counter(LABELS[i] for i in batch).values()) == [4, 4, 4]


def test_classes_and_images_take_turns():
    batches = list(sampler(p=2, k=3, per_epoch=40))
    classes = [tuple(dict.fromkeys(LABELS[i] for i in b)) for b in batches]
    flat = [c for pair in classes for c in pair]
    assert max(Counter(flat).values()) - min(Counter(flat).values()) <= 2
    seen = Counter(i for b in batches for i in b)
    of_a = [seen[i] for i in range(20)]
    assert max(of_a) - min(of_a) <= 1
    for batch in batches:  # an image comes twice in a batch only where its class is smaller than K
        twice = [i for i, n in Counter(batch).items() if n > 1]
        assert all(LABELS[i] == "d" for i in twice)


def test_epochs_differ_and_are_functions_of_the_seed():
    one, same, other = sampler(), sampler(), sampler(seed=1)
    first, second = list(one), list(one)
    assert first != second and len(first) == len(one) == 45 // 12
    assert [list(same), list(same)] == [first, second] and list(other) != first


def test_taken_up_anywhere_it_goes_on_as_if_never_stopped():
    whole = sampler(per_epoch=5)
    expected = [b for _ in range(3) for b in whole]
    for stop in range(14):
        running = sampler(per_epoch=5)
        seen = []
        while len(seen) < stop:
            for batch in running:
                seen.append(batch)
                if len(seen) == stop:
                    break
        fresh = sampler(per_epoch=5)
        fresh.load_state_dict(dict(running.state_dict()))
        rest = []
        while len(seen) + len(rest) < 15:
            rest += list(fresh)
        assert seen + rest == expected, stop


def test_state_of_other_data_or_seed_is_refused():
    state = sampler().state_dict()
    for wrong in ({"seed": 5}, {"num_images": 7}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            sampler().load_state_dict({**state, **wrong})


def test_workers_have_classes_of_their_own_in_every_step():
    both = [list(sampler(p=2, k=2, rank=r, num_workers=2, per_epoch=20)) for r in (0, 1)]
    for one, two in zip(*both, strict=True):
        classes = [{LABELS[i] for i in b} for b in (one, two)]
        assert len(classes[0]) == len(classes[1]) == 2 and not classes[0] & classes[1]
    together = list(sampler(p=4, k=2, per_epoch=20))
    assert [set(a) | set(b) for a, b in zip(*both, strict=True)] == [set(t) for t in together]


@pytest.mark.parametrize("how", [{"p": 1}, {"k": 1}, {"p": 6}, {"p": 3, "num_workers": 2}])
def test_batches_without_a_triplet_are_refused(how):
    with pytest.raises(ConfigError, match="classes"):
        sampler(**how)
