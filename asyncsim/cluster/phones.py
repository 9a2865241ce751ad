"""Phones: machines whose power, and speed, depend on the application that their user has in the foreground.

The table is that of C. Wang, H. Wu et al., ICDCS 2022 (federated asynchronous learning by application co-running): power and
duration of one training task (LeNet-5 on CIFAR-10) on four devices, measured alone and beside each of eight applications. The
paper gives no idle power of the Hikey 970.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from asyncsim.cluster.prices import Instance, instances
from asyncsim.registry import Spec
from asyncsim.units import PositiveSeconds, Watts


class App(Spec):
    """An application on one kind of phone: watts while it is in the foreground ``alone`` and while the phone is ``training`` too,
    and the ``seconds`` that the training task takes then from start to end."""

    name: str = Field(min_length=1)
    alone: Watts
    training: Watts
    seconds: PositiveSeconds


@instances.register("phone")
class Phone(Instance):
    """A phone that you describe yourself. ``busy`` are the watts of training alone, which takes ``seconds`` for the task, and
    ``idle`` those of doing neither.

    While an app is in the foreground training takes ``app.seconds / seconds`` times as long, whatever ``cluster.compute`` is.
    """

    seconds: PositiveSeconds
    apps: tuple[App, ...] = Field(min_length=1)

    @field_validator("apps")
    @classmethod
    def _names_differ(cls, apps: tuple[App, ...]) -> tuple[App, ...]:
        names = [app.name for app in apps]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} stands there twice; allowed is each name once")
        return apps

    def factor(self, app: App) -> float:
        """The number by which training takes longer while ``app`` is in the foreground; below 1 it is faster."""
        return app.seconds / self.seconds


NAMES = ("Map", "News", "Etrade", "Youtube", "Tiktok", "Zoom", "Candy Crush", "Angry Birds")


def _apps(*rows: tuple[float, float, float]) -> tuple[App, ...]:
    """The eight applications of the paper's table: watts alone, watts with training, seconds of the training task."""
    return tuple(
        App(name=name, alone=alone, training=training, seconds=seconds)
        for name, (alone, training, seconds) in zip(NAMES, rows, strict=True)
    )


@instances.register("nexus_6")
class Nexus6(Phone):
    """Nexus 6: 1.8 W and 204 s for a training task alone, 0.238 W idle. Candy Crush makes training take 997 s."""

    idle: Watts = 0.238
    busy: Watts = 1.8
    seconds: PositiveSeconds = 204.0
    apps: tuple[App, ...] = _apps(
        (3.4, 3.5, 274), (1.7, 2.2, 239), (1.4, 2.4, 236), (0.5, 1.9, 284), (1.6, 2.3, 296), (1.2, 2.1, 370), (1.3, 2.3, 997),
        (2.5, 2.8, 400),
    )  # fmt: skip


@instances.register("nexus_6p")
class Nexus6P(Phone):
    """Nexus 6P: 0.9 W and 211 s for a training task alone, 0.486 W idle."""

    idle: Watts = 0.486
    busy: Watts = 0.9
    seconds: PositiveSeconds = 211.0
    apps: tuple[App, ...] = _apps(
        (0.5, 1.3, 225), (0.44, 1.2, 362), (0.48, 0.96, 228), (0.53, 1.2, 220), (1.0, 1.1, 675), (1.4, 1.6, 340), (0.7, 1.3, 280),
        (1.1, 1.2, 620),
    )  # fmt: skip


@instances.register("hikey_970")
class Hikey970(Phone):
    """Hikey 970, a board: 7.87 W and 213 s for a training task alone. The paper has no idle power: ``idle`` is yours to give."""

    idle: Watts
    busy: Watts = 7.87
    seconds: PositiveSeconds = 213.0
    apps: tuple[App, ...] = _apps(
        (8.82, 9.42, 186), (9.17, 9.76, 210), (8.5, 9.15, 195), (9.15, 11.45, 210), (11.0, 11.2, 271), (7.89, 8.53, 209),
        (11.1, 11.26, 233), (10.1, 10.7, 200),
    )  # fmt: skip


@instances.register("pixel_2")
class Pixel2(Phone):
    """Pixel 2: 1.35 W and 223 s for a training task alone, 0.689 W idle."""

    idle: Watts = 0.689
    busy: Watts = 1.35
    seconds: PositiveSeconds = 223.0
    apps: tuple[App, ...] = _apps(
        (1.6, 2.2, 196), (1.82, 2.4, 197), (1.72, 2.23, 206), (2.04, 2.21, 226), (2.37, 2.52, 212), (2.57, 3.11, 206),
        (2.89, 2.92, 199), (2.86, 2.88, 285),
    )  # fmt: skip
