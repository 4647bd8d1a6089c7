"""Pictures of the states and of the rings, drawn from what the code and its tests say."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import permutations
from math import cos, pi, radians, sin

FONT = 14
LINE = 20

BOX_WIDTH = 190
BOX_HEIGHT = 56
BOX_GAP = 18
ARROW_WIDTH = 190

RING_WIDTH = 72


def state_machine(entries: Mapping[str, Collection[str]], final: Collection[str], first: str) -> str:
    """Return the picture of states as SVG: those that any other may follow at the left, and the `final` at the right.

    `entries` has the states, and what asks for each of them.
    """
    moving = [state for state in entries if state not in final]
    ends = [state for state in entries if state in final]
    height = max(len(moving), len(ends)) * (BOX_HEIGHT + BOX_GAP) + BOX_GAP + LINE
    right = BOX_WIDTH + 2 * BOX_GAP + ARROW_WIDTH
    drawn = [_rectangle(1, LINE, BOX_WIDTH + 2 * BOX_GAP, height - LINE - 1, dashed=True)]
    drawn.append(_text(BOX_WIDTH / 2 + BOX_GAP, FONT, "each may follow each", small=True))
    for place, state in enumerate(moving):
        note = "where it begins" if state == first else _calls(entries[state])
        drawn += _box(BOX_GAP, _top(place), state, note)
    for place, state in enumerate(ends):
        middle = _top(place) + BOX_HEIGHT / 2
        drawn.append(_arrow(BOX_WIDTH + 2 * BOX_GAP + 1, middle, right - 2, middle))
        drawn.append(_text((BOX_WIDTH + 2 * BOX_GAP + right) / 2, middle - 8, _calls(entries[state]), small=True))
        drawn += _box(right, _top(place), state, "final")
    return _svg(right + BOX_WIDTH + 2, height, f"{_listed(moving)} lead to {_listed(ends)}", drawn)


@dataclass(frozen=True)
class Sector:
    """A part of a picture of rings: from the inner to the outer circle, between two angles in degrees."""

    name: str
    inner: int
    outer: int
    begin: float
    end: float


def sectors(imports: Mapping[str, Collection[str]]) -> list[Sector]:
    """Place rings around each other, so that each touches those that it imports.

    Raises `ValueError` if there is no way to do so.
    """
    paths = _side_by_side([path for ring in imports if _depth(ring, imports) == 0 for path in _paths(ring, imports)])
    placed = []
    for ring in imports:
        importers = _importers(ring, imports)
        inner = _depth(ring, imports)
        outer = min((_depth(importer, imports) for importer in importers), default=inner + 1)
        begin, end = _span(ring, paths) if importers else (0, len(paths))
        placed.append(Sector(ring, inner, outer, 360 * begin / len(paths), 360 * end / len(paths)))
    return placed


def rings(imports: Mapping[str, Collection[str]], modules: Mapping[str, Collection[str]]) -> str:
    """Return the picture of rings as SVG, each with the number of its modules."""
    placed = sectors(imports)
    center = max(sector.outer for sector in placed) * RING_WIDTH + 2
    drawn = []
    for sector in placed:
        count = len(modules[sector.name])
        drawn.append(_sector_path(sector, center))
        x, y = _label_place(sector, center)
        drawn.append(_text(x, y, sector.name))
        drawn.append(_text(x, y + LINE - 3, f"{count} module{'s' * (count != 1)}", small=True))
    others = {ring: sorted(set(inner) - {ring}) for ring, inner in imports.items()}
    told = (f"{ring} imports {_listed(inner)}" for ring, inner in others.items() if inner)
    return _svg(2 * center, 2 * center, "; ".join(told), drawn)


def _importers(ring: str, imports: Mapping[str, Collection[str]]) -> set[str]:
    return {other for other, inner in imports.items() if ring in inner and other != ring}


def _paths(ring: str, imports: Mapping[str, Collection[str]]) -> list[tuple[str, ...]]:
    """Return the ways outward from a ring, without the outermost ring, which lies around all."""
    importers = {other for other in _importers(ring, imports) if _importers(other, imports)}
    next_ones = sorted(other for other in importers if not (importers - {other}) & set(imports[other]))
    return [(ring, *path) for other in next_ones for path in _paths(other, imports)] or [(ring,)]


def _side_by_side(paths: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Put the ways through the same ring side by side, whichever ring that is."""
    names = {ring for path in paths for ring in path}
    for order in permutations(paths):
        spans = {ring: _span(ring, order) for ring in names}
        if all(end - begin == sum(ring in path for path in paths) for ring, (begin, end) in spans.items()):
            return list(order)
    raise ValueError(f"These cannot be drawn as rings without crossing each other: {sorted(names)}.")


def _span(ring: str, paths: Sequence[tuple[str, ...]]) -> tuple[int, int]:
    places = [place for place, path in enumerate(paths) if ring in path]
    return places[0], places[-1] + 1


def _depth(ring: str, imports: Mapping[str, Collection[str]]) -> int:
    return max((_depth(inner, imports) + 1 for inner in imports[ring] if inner != ring), default=0)


def _sector_path(sector: Sector, center: float) -> str:
    inner, outer = sector.inner * RING_WIDTH, sector.outer * RING_WIDTH
    if sector.end - sector.begin >= 360:
        return f'<circle cx="{center}" cy="{center}" r="{outer}" fill="none" stroke="currentColor"/>'
    wide = int(sector.end - sector.begin > 180)
    (x1, y1), (x2, y2) = _at(sector.begin, inner, center), _at(sector.begin, outer, center)
    (x3, y3), (x4, y4) = _at(sector.end, outer, center), _at(sector.end, inner, center)
    path = f"M{x1} {y1}L{x2} {y2}A{outer} {outer} 0 {wide} 1 {x3} {y3}L{x4} {y4}A{inner} {inner} 0 {wide} 0 {x1} {y1}Z"
    return f'<path d="{path}" fill="none" stroke="currentColor"/>'


def _label_place(sector: Sector, center: float) -> tuple[float, float]:
    full = sector.end - sector.begin >= 360
    if full and not sector.inner:
        return center, center
    return _at(0 if full else (sector.begin + sector.end) / 2, (sector.inner + sector.outer) / 2 * RING_WIDTH, center)


def _at(angle: float, radius: float, center: float) -> tuple[float, float]:
    """Return the point at an angle that counts clockwise from the top."""
    turned = radians(angle) - pi / 2
    return round(center + radius * cos(turned), 1), round(center + radius * sin(turned), 1)


def _top(place: int) -> float:
    return LINE + BOX_GAP + place * (BOX_HEIGHT + BOX_GAP)


def _box(x: float, y: float, title: str, note: str) -> list[str]:
    middle = x + BOX_WIDTH / 2
    return [
        _rectangle(x, y, BOX_WIDTH, BOX_HEIGHT),
        _text(middle, y + 24, title),
        _text(middle, y + 24 + LINE, note, small=True),
    ]


def _rectangle(x: float, y: float, width: float, height: float, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    place = f'x="{x}" y="{y}" width="{width}" height="{height}"'
    return f'<rect {place} rx="8" fill="none" stroke="currentColor"{dashes}/>'


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    head = f"M{x2 - 8} {y2 - 5}L{x2} {y2}L{x2 - 8} {y2 + 5}"
    return f'<path d="M{x1} {y1}L{x2} {y2}{head}" fill="none" stroke="currentColor"/>'


def _text(x: float, y: float, text: str, *, small: bool = False) -> str:
    size = FONT - 2 if small else FONT
    weight = "normal" if small else "bold"
    style = f'font-size="{size}" font-weight="{weight}" text-anchor="middle" fill="currentColor"'
    return f'<text x="{x}" y="{y}" {style}>{escape(text)}</text>'


def _calls(verbs: Collection[str]) -> str:
    return ", ".join(f"{verb}()" for verb in verbs)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _svg(width: float, height: float, told: str, drawn: Iterable[str]) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = 'style="max-width: 100%; height: auto" font-family="sans-serif"'
    label = f'role="img" aria-label="{escape(told)}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style} {label}>', *drawn, "</svg>"])
