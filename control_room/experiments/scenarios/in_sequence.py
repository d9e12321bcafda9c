"""Order per key: a queue in partitions, whose active consumer is killed again and again.

No service of the demonstration needs a sequence, so the queues and the processes that consume them are the scenario's
own; what they consume with is the services'.
"""

from collections.abc import Callable

from control_room.experiments.scenarios.scenario import Outcome, Playing, Scenario, Setting
from control_room.experiments.sequence import KEYS, Trial, out_of_sequence, rate, trial
from control_room.operations.addresses import SystemAddresses

PARTITIONS, CONCURRENCY = 4, 100
WORK_SECONDS = 0.01
EVENTS_OF_A_KEY = 50
"""Between two kills."""
ONE_AFTER_THE_OTHER = 100
AT_LEAST_TIMES = 3


async def play(playing: Playing) -> Outcome:
    """First one queue that keeps the sequence of everything, then partitions, and a kill in each round of events."""
    settings, say, kills = playing.target.addresses, playing.say, playing.chosen["kills"]
    say("one queue, one event after the other")
    one = await _one_queue(settings)
    async with trial(settings, PARTITIONS) as partitions:
        undisturbed = await _with_kills(partitions, kills, say)
        handled = partitions.handled()
        broken = out_of_sequence(partitions.published, handled)
    events = sum(map(len, partitions.published.values()))
    repeated = len(handled) - len({each.event for each in handled})
    return Outcome(
        expected=f"Each of {KEYS} keys is handled in sequence, whichever process is killed, and at least "
        f"{AT_LEAST_TIMES} times as many events a second as by one queue that keeps everything in sequence.",
        seen=f"{len(broken)} of {KEYS} keys out of sequence after {kills} kills: {events:,} events, {repeated:,} of "
        f"them handled again; {undisturbed:,.0f} a second, one queue {one:,.0f}",
        held=not broken and undisturbed >= AT_LEAST_TIMES * one,
    )


async def _one_queue(settings: SystemAddresses) -> float:
    """Events a second: a single active consumer, which takes one at a time."""
    async with trial(settings, 1) as one:
        await one.start_consumer(WORK_SECONDS, concurrency=1)
        await one.publish(ONE_AFTER_THE_OTHER // KEYS)
        await one.until_handled(ONE_AFTER_THE_OTHER)
        return rate(one.handled())


async def _with_kills(partitions: Trial, kills: int, say: Callable[[str], None]) -> float:
    """A round of events without a kill, whose rate is returned; then one for each kill of the active process."""
    round_events = KEYS * EVENTS_OF_A_KEY
    await partitions.start_consumer(WORK_SECONDS, CONCURRENCY)
    await partitions.publish(EVENTS_OF_A_KEY)
    await partitions.until_handled(round_events)
    undisturbed = rate(partitions.handled())
    for kill in range(1, kills + 1):
        say(f"{PARTITIONS} partitions: the active process is killed, {kill} of {kills}")
        await partitions.start_consumer(WORK_SECONDS, CONCURRENCY)
        await partitions.publish(EVENTS_OF_A_KEY)
        await partitions.until_handled(kill * round_events + KEYS)  # it is at work
        await partitions.kill_active()
        await partitions.until_handled((kill + 1) * round_events)
    return undisturbed


SCENARIO = Scenario(
    name="in-sequence",
    title="Order per key",
    look_for=f"Events of {KEYS} keys, in {PARTITIONS} partitions of a queue of its own. Those of one key are handled "
    "one after the other and those of different keys at the same time, also while the process that handles them is "
    "killed again and again.",
    play=play,
    settings=(Setting("kills", "kills", 3, 1, 20),),
)
