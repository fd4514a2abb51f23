"""A loop that is held up is told of, and not too often."""

from services.propagation.executor.loop_lag import LoopLag


def test_a_renderer_that_blocks_the_loop_is_told_of_once_for_a_spell(caplog):
    lag = LoopLag()
    for n in range(20):
        lag.saw(100.0 + n, 2.0)
    lag.saw(200.0, 0.001)
    assert lag.blocked == 20 and lag.worst_s == 2.0
    assert [one.message for one in caplog.records] == ["the event loop was blocked"] * 2
