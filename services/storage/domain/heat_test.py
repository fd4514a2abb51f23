"""The sketch of hot records: finds what has its share, forgets what is over, and stays small."""

import random

from services.storage.domain.heat import Heat, Sketch

SEED = random.SystemRandom().randrange(1 << 30)


class Clock:
    """Seconds."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_records_with_their_share_are_found_among_very_many() -> None:
    print("seed", SEED)
    chance = random.Random(SEED)
    clock = Clock()
    heat = Heat(clock, chance.randrange)
    for _ in range(400_000):
        clock.now_s += 0.001
        some = chance.random()
        record = b"hot" if some < 0.2 else b"warm" if some < 0.3 else b"%d" % chance.randrange(100_000)
        if heat.pick(1) >= 0:
            heat.add(7, record)
    (first, rate), (second, other), *rest = heat.hottest(7)
    assert (first, second) == (b"hot", b"warm") and len(rest) == 62
    assert 100 < rate < 320 and 40 < other < 180, (rate, other)  # 200 and 100 a second
    assert all(per_s < 30 for _, per_s in rest)
    clock.now_s += 600
    assert all(per_s < 0.001 for _, per_s in heat.hottest(7))


def test_operations_of_batches_are_counted_by_what_was_passed() -> None:
    print("seed", SEED)
    chance = random.Random(SEED)
    heat = Heat(Clock(), chance.randrange)
    passed = 0
    for _ in range(5000):
        count = chance.choice([1, 3, 20, 100])
        index = heat.pick(count)
        passed += count
        assert -1 <= index < count
        if index >= 0:
            heat.add(1, b"one")
    ((record, per_s),) = heat.hottest(1)
    assert record == b"one" and 0.98 < per_s / (passed * 0.6931 / 10) < 1.01


def test_the_memory_is_bounded() -> None:
    clock = Clock()
    heat = Heat(clock, lambda most: 0)
    for number in range(1000):
        for record in range(3):
            assert heat.pick(1) == 0
            heat.add(number, b"%d" % record)
    assert heat.hottest(0) == [] and len(heat.hottest(999)) == 3
    sketch = Sketch()
    for record in range(10_000):
        sketch.add(b"%d" % record, 1.0, 0.0)
    assert len(sketch.hottest(0.0)) == 64


def test_a_clock_that_goes_back_breaks_nothing() -> None:
    sketch = Sketch()
    sketch.add(b"a", 1.0, 100.0)
    sketch.add(b"a", 1.0, 50.0)
    ((_, per_s),) = sketch.hottest(10.0)
    assert 0 < per_s < 1


def test_counts_fade_by_half_in_ten_seconds_however_often_and_late_they_are_looked_at() -> None:
    sketch = Sketch()
    sketch.add(b"a", 64.0, 7.0)
    sketch.add(b"b", 1.0, 57.0)
    now_s = 57.0
    (_, a), (_, b) = sketch.hottest(now_s)
    assert abs(a / b - 2) < 1e-9
    for _ in range(40):
        now_s += 997.0
        sketch.add(b"c", 1.0, now_s)
        (first, per_s), *rest = sketch.hottest(now_s)
        assert first == b"c" and abs(per_s - 0.0693147) < 1e-6
        assert all(0 <= other < 1e-12 for _, other in rest)
