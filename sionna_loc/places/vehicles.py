"""Vehicles on a rectangular grid of streets: where they go, and how fast.

A vehicle starts somewhere on a lane at the speed of crossings and drives on the right:
it accelerates to the limit of the street, brakes before each crossing, passes it at a
constant speed, and goes on straight, to the left or to the right, each with the same
probability. Where a street leaves the map, it turns around.

Points are complex numbers here, x + iy [m]: with a heading `h`, left is `1j * h`.

References: Klus et al., "Deep Hypernetwork-based Robust Localization in
Millimeter-Wave Networks", Sec. IV-A. Curves are ours: lines and circular arcs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sionna_loc.checks import check, check_positive, check_positive_int

KMH = 1 / 3.6  # [m/s]
_TURNS = {"left": 1j, "right": -1j, "straight": 1}


@dataclass(frozen=True)
class Street:
    """A straight street from edge to edge of the map.

    Args:
        is_vertical: whether it runs along y.
        axis: x, or y, of its middle [m].
        speed_limit: float > 0 [m/s].
        num_lanes: int > 0. In each direction.
    """

    is_vertical: bool
    axis: float
    speed_limit: float
    num_lanes: int = 1

    @property
    def along(self) -> complex:
        """Unit vector of the direction in which the street runs."""
        return 1j if self.is_vertical else 1


@dataclass(frozen=True)
class Driving:
    """How vehicles move.

    Args:
        acceleration: float > 0 [m/s^2]. After a crossing.
        braking: float > 0 [m/s^2]. Before a crossing.
        crossing_speed: float > 0 [m/s]. On crossings and when turning around.
        lane_width: float > 0 [m].
        turn_radius: float > 0 [m]. Of the quarter circles.
    """

    acceleration: float = 2.0
    braking: float = 3.0
    crossing_speed: float = 20 * KMH
    lane_width: float = 3.0
    turn_radius: float = 8.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, value in vars(self).items():
            check_positive(name, value)

    def phases(self, length: float, limit: float) -> np.ndarray:
        """Return how a line between two crossings is driven.

        The vehicle accelerates as far as the limit, or the brakes, allow.

        Returns: [3, 3]: of accelerating, driving evenly and braking the duration [s],
            the speed at the beginning [m/s] and the acceleration [m/s^2].
        """
        slow, up, down = self.crossing_speed, self.acceleration, self.braking
        reachable = math.sqrt(slow**2 + 2 * length * up * down / (up + down))
        peak = max(slow, min(limit, reachable))
        speeding = (peak**2 - slow**2) / (2 * up) + (peak**2 - slow**2) / (2 * down)
        even = max(0.0, length - speeding) / peak
        return np.array(
            [
                ((peak - slow) / up, slow, up),
                (even, peak, 0.0),
                ((peak - slow) / down, peak, -down),
            ]
        )


@dataclass(frozen=True)
class Track:
    """The drive of one vehicle, sampled at even times.

    Args:
        position: [num_samples, 2], float [m].
        velocity: [num_samples, 2], float [m/s].
        street: [num_samples], int. Index of the street; on a crossing that of the
            street from which the vehicle comes.
        lane: [num_samples], int. 0 next to the middle of the street.
        on_crossing: [num_samples], bool. Whether it passes a crossing or turns around.
        turns: `"left"`, `"right"`, `"straight"` or `"around"`, of each crossing or edge
            that it comes to, in order.
    """

    position: np.ndarray
    velocity: np.ndarray
    street: np.ndarray
    lane: np.ndarray
    on_crossing: np.ndarray
    turns: tuple[str, ...]

    @property
    def speed(self) -> np.ndarray:
        """[num_samples] [m/s]."""
        return np.linalg.norm(self.velocity, axis=-1)


@dataclass(frozen=True)
class _OnLane:
    """A vehicle on the lane of a street, at a point, with a heading."""

    street: int
    lane: int
    heading: complex
    point: complex


@dataclass(frozen=True)
class _Phase:
    """A part of a drive with one acceleration, on a line or on an arc."""

    vehicle: _OnLane  # at its beginning
    duration: float
    speed: float
    acceleration: float
    curvature: float  # [1/m], positive to the left
    on_crossing: bool
    turn: str | None = None  # that begins with it


class StreetGrid:
    """Streets along x and along y, and the vehicles on them.

    Args:
        streets: each crosses all of the other direction.
        lower: (x, y) [m] of the map's south-western corner.
        upper: (x, y) [m] of its north-eastern corner.
        driving: how vehicles move.

    Raises: UserError if crossings are too close to each other, or to the edge of the
        map, for vehicles to turn.
    """

    def __init__(
        self,
        streets: Sequence[Street],
        lower: Sequence[float],
        upper: Sequence[float],
        driving: Driving | None = None,
    ) -> None:
        self.streets = tuple(streets)
        self.driving = driving or Driving()
        self._edges = tuple(zip(lower, upper, strict=True))
        for street in self.streets:
            zones = [z for s in self._crossing(street) for z in self._zone(s)]
            low, high = self._edges[street.is_vertical]
            fits = bool((np.diff([low, *zones, high]) > 0).all())
            check(fits, "A street's crossings leave no room to turn.", street=street)

    def drive(
        self, num_samples: int, generator: np.random.Generator, interval: float = 0.1
    ) -> Track:
        """Return the track of a vehicle that starts at a random place on a lane.

        Args:
            num_samples: int > 0.
            generator: of all random choices.
            interval: float > 0 [s]. Time between samples.
        """
        check_positive_int("num_samples", num_samples)
        check_positive("interval", interval)
        time = np.arange(num_samples) * interval
        phases, end = [], 0.0
        for phase in self._phases(generator):
            phases.append(phase)
            end += phase.duration
            if end > time[-1]:
                return _sample(phases, time)
        raise AssertionError("A drive has no end.")

    def lane_offset(self, lane: int) -> float:
        """Return the distance of the middle of a lane from the street's [m]."""
        return (lane + 0.5) * self.driving.lane_width

    def _crossing(self, street: Street) -> list[Street]:
        """Return the streets that cross a street, in the order of their axes."""
        others = [s for s in self.streets if s.is_vertical != street.is_vertical]
        return sorted(others, key=lambda other: other.axis)

    def _zone(self, crossed: Street) -> tuple[float, float]:
        """Return where the crossing with a street begins and ends [m]."""
        reach = self.lane_offset(crossed.num_lanes - 1) + self.driving.turn_radius
        return crossed.axis - reach, crossed.axis + reach

    def _place(self, street: int, lane: int, heading: complex, along: float) -> _OnLane:
        """Return a vehicle on the right of a street's middle, `along` it [m]."""
        it = self.streets[street]
        middle = it.axis * (1 if it.is_vertical else 1j) + along * it.along
        return _OnLane(
            street, lane, heading, middle - 1j * heading * self.lane_offset(lane)
        )

    def _random_start(self, generator: np.random.Generator) -> _OnLane:
        """Return a vehicle anywhere on any lane, but not on a crossing."""
        lanes = [
            (street, lane, sign)
            for street, it in enumerate(self.streets)
            for lane in range(it.num_lanes)
            for sign in (-1, 1)
        ]
        lengths = [np.ptp(self._edges[self.streets[s].is_vertical]) for s, *_ in lanes]
        while True:
            chosen = generator.choice(len(lanes), p=np.divide(lengths, sum(lengths)))
            street, lane, sign = lanes[chosen]
            it = self.streets[street]
            along = generator.uniform(*self._edges[it.is_vertical])
            zones = map(self._zone, self._crossing(it))
            if not any(begin <= along <= end for begin, end in zones):
                return self._place(street, lane, sign * it.along, along)

    def _phases(self, generator: np.random.Generator) -> Iterator[_Phase]:
        """Drive without end."""
        vehicle = self._random_start(generator)
        while True:
            crossed, stop = self._ahead(vehicle)
            limit = self.streets[vehicle.street].speed_limit
            length = _distance(vehicle, stop)
            for duration, speed, acceleration in self.driving.phases(length, limit):
                yield _Phase(vehicle, duration, speed, acceleration, 0.0, False)
                covered = speed * duration + acceleration * duration**2 / 2
                vehicle = _advance(vehicle, covered)
            vehicle = _advance(vehicle, _distance(vehicle, stop))  # without rounding
            *crossing, vehicle = self._cross(vehicle, crossed, generator)
            yield from crossing

    def _ahead(self, vehicle: _OnLane) -> tuple[Street | None, float]:
        """Return the street that is crossed next and where its crossing begins [m].

        The street is `None` if it is the edge of the map that comes next.
        """
        street = self.streets[vehicle.street]
        sign = _sign(vehicle.heading)
        here = _along(vehicle)
        begins = {
            sign * self._zone(other)[0 if sign > 0 else 1]: other
            for other in self._crossing(street)
        }
        ahead = [begin for begin in begins if begin >= sign * here]
        if not ahead:
            return None, self._edges[street.is_vertical][sign > 0]
        return begins[min(ahead)], sign * min(ahead)

    def _cross(
        self,
        vehicle: _OnLane,
        crossed: Street | None,
        generator: np.random.Generator,
    ) -> tuple[_Phase | _OnLane, ...]:
        """Choose a way; return the phases of taking it, and the vehicle behind it."""
        if crossed is None:
            offset = self.lane_offset(vehicle.lane)
            turned = self._place(
                vehicle.street, vehicle.lane, -vehicle.heading, _along(vehicle)
            )
            return self._slow(vehicle, math.pi * offset, 1 / offset, "around"), turned
        turn = tuple(_TURNS)[generator.integers(len(_TURNS))]
        heading = vehicle.heading * _TURNS[turn]
        if turn == "straight":
            begin, end = self._zone(crossed)
            phase = self._slow(vehicle, end - begin, 0.0, turn)
            return phase, _advance(vehicle, end - begin)
        lane = int(generator.integers(crossed.num_lanes))
        target = self._place(self.streets.index(crossed), lane, heading, 0.0)
        # The corner where both lanes meet is cut by a quarter circle.
        radius = self.driving.turn_radius
        to_corner = ((target.point - vehicle.point) / vehicle.heading).real
        line = self._slow(vehicle, to_corner - radius, 0.0, turn)
        onto = _advance(vehicle, to_corner - radius)
        side = _TURNS[turn].imag
        arc = self._slow(onto, radius * math.pi / 2, side / radius, None)
        corner = vehicle.point + to_corner * vehicle.heading
        behind = _OnLane(target.street, lane, heading, corner + radius * heading)
        return line, arc, behind

    def _slow(
        self, vehicle: _OnLane, length: float, curvature: float, turn: str | None
    ) -> _Phase:
        """Return a phase of `length` m at the speed of crossings."""
        speed = self.driving.crossing_speed
        return _Phase(vehicle, length / speed, speed, 0.0, curvature, True, turn)


def _sample(phases: Sequence[_Phase], time: np.ndarray) -> Track:
    """Return the track that phases make, at the times [num_samples] [s]."""
    begin = np.cumsum([0.0, *(phase.duration for phase in phases[:-1])])
    index = np.searchsorted(begin, time, side="right") - 1

    def column(values: Iterator) -> np.ndarray:
        return np.array(list(values))[index]

    elapsed = time - begin[index]
    acceleration = column(phase.acceleration for phase in phases)
    speed = column(phase.speed for phase in phases) + acceleration * elapsed
    length = (speed - acceleration * elapsed / 2) * elapsed
    heading = column(phase.vehicle.heading for phase in phases)
    angle = column(phase.curvature for phase in phases) * length
    # The chord of an arc: its length times sinc(angle / 2), halfway turned.
    chord = length * np.sinc(angle / 2 / np.pi) * np.exp(0.5j * angle)
    point = column(phase.vehicle.point for phase in phases) + heading * chord
    velocity = speed * heading * np.exp(1j * angle)
    return Track(
        position=np.stack([point.real, point.imag], axis=-1),
        velocity=np.stack([velocity.real, velocity.imag], axis=-1),
        street=column(phase.vehicle.street for phase in phases),
        lane=column(phase.vehicle.lane for phase in phases),
        on_crossing=column(phase.on_crossing for phase in phases),
        turns=tuple(phase.turn for phase in phases[: index[-1] + 1] if phase.turn),
    )


def _along(vehicle: _OnLane) -> float:
    """Return the coordinate of a vehicle along its street [m]."""
    is_vertical = vehicle.heading.real == 0
    return vehicle.point.imag if is_vertical else vehicle.point.real


def _sign(heading: complex) -> int:
    """Return 1 for a heading towards greater coordinates, else -1."""
    return 1 if heading.real + heading.imag > 0 else -1


def _distance(vehicle: _OnLane, stop: float) -> float:
    """Return how far a vehicle is from a coordinate of its street ahead [m]."""
    return _sign(vehicle.heading) * (stop - _along(vehicle))


def _advance(vehicle: _OnLane, length: float) -> _OnLane:
    """Return the vehicle `length` m ahead."""
    point = vehicle.point + length * vehicle.heading
    return _OnLane(vehicle.street, vehicle.lane, vehicle.heading, point)
