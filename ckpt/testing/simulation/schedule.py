"""Who goes on, who dies, who sleeps, and when: one schedule from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import greenlet

from ckpt.testing.simulation.attempt import Attempt
from ckpt.testing.simulation.model import Model, Violation
from ckpt.testing.simulation.world import Crash, DiskPort, ObjectPort, World

_BURSTS = (0, 0, 1, 1, 2, 3, 5, 8, 20, 60)
_MOST_TURNS = 3000
_RATES = (0.0, 0.02, 0.1)


@dataclass(frozen=True, slots=True)
class Settings:
    """``attempts``: at most so many; ``actions``: at most so many each. Tests of single protections narrow these."""

    attempts: int = 5
    actions: int = 10
    rot: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """``violation`` is None if every promise was kept. ``endings``: how each attempt ended."""

    seed: int
    violation: Violation | None
    trace: list[str]
    endings: list[str]


class _Play:
    def __init__(self, seed: int, settings: Settings) -> None:
        self.rng = rng = random.Random(seed)
        self.settings = settings
        disk = rng.random() < 0.5
        self.port_class = DiskPort if disk else ObjectPort
        self.rotten = settings.rot and rng.random() < 0.1
        # A listing is only a hint as long as the floor can be read; where that rots, it has to be true.
        stale_lists = not disk and not self.rotten and rng.random() < 0.5
        self.world = World(rng, rng.choice(_RATES), stale_lists)
        self.model = Model()
        self.attempts: list[Attempt] = []
        self.asleep: set[str] = set()

    def start(self, actions: int) -> Attempt:
        port = self.port_class(self.world, f"attempt-{len(self.attempts) + 1}")
        rng = random.Random(self.rng.getrandbits(64))
        attempt = Attempt(port, self.model, rng, actions, rotten=self.rotten)
        port.greenlet = greenlet.greenlet(attempt.run)
        self.attempts.append(attempt)
        self.world.note(f"{port.name} starts")
        return attempt

    def going(self) -> list[Attempt]:
        return [one for one in self.attempts if not one.ended and not one.port.dead]

    def turn(self, attempt: Attempt, burst: int) -> None:
        attempt.port.patience = burst
        attempt.port.greenlet.switch()

    def kill(self, attempt: Attempt) -> None:
        self.world.note(f"{attempt.port.name} is killed")
        attempt.port.dead = True
        attempt.ended = "killed"
        if attempt.port.greenlet:
            try:
                attempt.port.greenlet.throw(Crash)
            except Crash:
                attempt.ended = "killed"

    def play(self) -> None:
        wanted = self.rng.randint(2, self.settings.attempts)
        for _ in range(_MOST_TURNS):
            going = self.going()
            awake = [one for one in going if one.port.name not in self.asleep]
            if len(self.attempts) < wanted and (not awake or self.rng.random() < 0.08):
                self.start(self.rng.randint(2, self.settings.actions))
                continue
            if not going:
                break
            if not awake:
                self.asleep.clear()
                continue
            self.turn(self.rng.choice(awake), self.rng.choice(_BURSTS))
            self.happens()
        self.calm()

    def happens(self) -> None:
        """Between two turns the world goes on."""
        chance = self.rng.random()
        going = self.going()
        if chance < 0.05 and going:
            self.kill(self.rng.choice(going))
        elif chance < 0.15 and going:
            one = self.rng.choice(going)
            self.world.note(f"{one.port.name} falls asleep")
            self.asleep.add(one.port.name)
        elif chance < 0.18 and self.asleep:
            self.asleep.discard(self.rng.choice(sorted(self.asleep)))
        elif chance < 0.20 and self.port_class is DiskPort:
            self.world.note("the power goes")
            for one in going:
                self.kill(one)
            self.world.lose_power()
        elif chance < 0.22 and self.rotten:
            self.world.flip_a_bit()
        self.world.carry_out_late(0.3)

    def calm(self) -> None:
        """No more faults: sleepers wake up, and a new attempt gets through. Liveness, and the last look at safety."""
        self.world.note("all is calm")
        self.world.fault_rate, self.world.stale_lists = 0.0, False
        self.world.carry_out_late()
        last = self.start(6)
        while going := self.going():
            self.turn(self.rng.choice(going), 20)
        if not self.rotten and last.ended not in ("done", "fenced"):
            raise Violation(f"in a calm phase a new attempt {last.ended}")
        check = self.start(1)
        while not check.ended:
            self.turn(check, 1000)
        if not self.rotten and check.ended != "done":
            raise Violation(f"alone and undisturbed, an attempt {check.ended}")


def run(seed: int, settings: Settings | None = None) -> Outcome:
    """Play the schedule ``seed``."""
    return _finish(seed, _Play(seed, settings or Settings()), _Play.play)


def race(seed: int, contenders: int = 3) -> Outcome:
    """Attempts take over at the same moment: each epoch has one winner, and somebody wins."""
    play = _Play(seed, Settings(rot=False))

    def all_at_once(play: _Play) -> None:
        if play.rng.random() < 0.5:
            earlier = play.start(3)
            while not earlier.ended:
                play.turn(earlier, 1000)
        before = len(play.model.by_epoch)
        for _ in range(contenders):
            play.start(1)
        while going := play.going():
            play.turn(play.rng.choice(going), play.rng.choice((0, 0, 0, 1, 2, 5)))
        if not play.world.fault_rate and len(play.model.by_epoch) == before:
            raise Violation("nobody won")

    return _finish(seed, play, all_at_once)


def _finish(seed: int, play: _Play, way: Callable[[_Play], None]) -> Outcome:
    violation = None
    try:
        way(play)
    except Violation as error:
        violation = error
    finally:
        for one in play.going():
            play.kill(one)
    return Outcome(seed, violation, play.world.trace, [one.ended for one in play.attempts])
