"""How long methods look, scaled to the time that there is.

A method's settings say how long it looks by one number, `steps` of a training or `tries` of a search; its fitting takes
about as long as that number is large. What a step or a try takes here is known once one of the method has begun.
"""

from dataclasses import dataclass, field

_LEAST = {"steps": 32, "tries": 8}  # with fewer a method is not worth beginning, or does something else


@dataclass
class Pace:
    """seconds: of a step or a try, by method, as far as seen here."""

    seconds: dict[str, float] = field(default_factory=dict)

    def saw(self, method: str, settings: dict, seconds: float) -> None:
        """Fitting with these settings takes so long, or would."""
        if dial := _dial(settings):
            self.seconds[method] = seconds / settings[dial]

    def expects(self, method: str, settings: dict) -> float | None:
        """Seconds that fitting with these settings takes; None if that isn't known."""
        dial = _dial(settings)
        return settings[dial] * self.seconds[method] if dial and method in self.seconds else None

    def within(self, method: str, settings: dict, seconds: float) -> dict:
        """The settings with half, a quarter, ... of the steps or tries, the most that fit into the seconds.

        As they are if that isn't known, or if too few would fit.
        """
        if (whole := self.expects(method, settings)) is None:
            return settings
        dial, halvings = _dial(settings), 0
        while whole / 2**halvings > seconds:
            halvings += 1
            if settings[dial] >> halvings < _LEAST[dial]:
                return settings
        return {**settings, dial: settings[dial] >> halvings}


def covers(one: dict, other: dict) -> bool:
    """Whether the first settings look as long as the others, or longer, for the same."""
    dial = _dial(other)
    return dial is not None and {**one, dial: other[dial]} == other and one.get(dial, 0) >= other[dial]


def _dial(settings: dict) -> str | None:
    return next((dial for dial, least in _LEAST.items() if settings.get(dial, 0) >= least), None)
