"""Draws the pictures of docs/rules.md: python docs/img/draw_rules.py. The life of an alert is drawn from its table."""

from __future__ import annotations

from pathlib import Path

from operators.alerts.lifecycle import TABLE, Action, State

HERE = Path(__file__).parent
RED, BLUE, GREEN, GREY, DARK = "#b3261e", "#1a5fb4", "#26a269", "#9a9996", "#333"
WIDTH, HEIGHT = 640, 170
LEFT, SCALE = 270, 350  # of the strip: where it begins, and how long it is

HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">
  <title>{title}</title>
  <defs>
    <marker id="b" markerWidth="9" markerHeight="9" refX="7" refY="3" orient="auto"><path d="M0,0 L8,3 L0,6 z" fill="#1a5fb4"/></marker>
    <marker id="r" markerWidth="9" markerHeight="9" refX="7" refY="3" orient="auto"><path d="M0,0 L8,3 L0,6 z" fill="#b3261e"/></marker>
    <marker id="g" markerWidth="9" markerHeight="9" refX="7" refY="3" orient="auto"><path d="M0,0 L8,3 L0,6 z" fill="#555"/></marker>
  </defs>
  <rect width="{width}" height="{height}" fill="#ffffff"/>
"""


# ---- the left half: what a camera sees --------------------------------------------------------------------------------


def view() -> str:
    return '<rect x="10" y="10" width="235" height="150" fill="#f4f4f4" stroke="#777"/>'


def zone(name: str = "zone", points: str = "55,70 215,70 235,150 25,150") -> str:
    x, y = points.split()[0].split(",")
    return (
        f'<polygon points="{points}" fill="{GREEN}22" stroke="{GREEN}" stroke-width="2"/>'
        f'<text x="{x}" y="{int(y) - 6}" fill="#1c7a4f">{name}</text>'
    )


def wire(name: str = "tripwire") -> str:
    return (
        f'<line x1="130" y1="150" x2="130" y2="45" stroke="{RED}" stroke-width="3" marker-end="url(#r)"/>'
        f'<text x="104" y="36" fill="{RED}">{name}</text>'
    )


def person(x: int, y: int, colour: str = DARK, faint: bool = False) -> str:
    """A person whose feet are at (x, y)."""
    dash = ' stroke-dasharray="3 2"' if faint else ""
    return (
        f'<circle cx="{x}" cy="{y - 38}" r="5" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        f'<path d="M{x},{y - 33} V{y - 15} M{x - 8},{y - 26} H{x + 8} M{x},{y - 15} L{x - 6},{y} M{x},{y - 15} L{x + 6},{y}" '
        f'fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
    )


def car(x: int, y: int, colour: str = DARK) -> str:
    return (
        f'<path d="M{x - 24},{y - 5} v-9 l9,-2 l8,-9 h14 l9,9 l8,2 v9 z" fill="none" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{x - 13}" cy="{y - 4}" r="4" fill="{colour}"/><circle cx="{x + 13}" cy="{y - 4}" r="4" fill="{colour}"/>'
    )


def bag(x: int, y: int, colour: str = DARK, faint: bool = False) -> str:
    dash = ' stroke-dasharray="3 2"' if faint else ""
    return (
        f'<rect x="{x - 8}" y="{y - 12}" width="16" height="12" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        f'<path d="M{x - 4},{y - 12} v-4 h8 v4" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
    )


def way(points: str, colour: str = "b") -> str:
    stroke = {"b": BLUE, "r": RED, "g": "#555"}[colour]
    return f'<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="2" marker-end="url(#{colour})"/>'


def text(x: float, y: float, words: str, colour: str = DARK, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{words}</text>'


# ---- the right half: time ---------------------------------------------------------------------------------------------


class Strip:
    """Time from left to right: when the condition is true, and when the alert is open. Times are ratios of its length."""

    def __init__(self, condition: str) -> None:
        self.parts = [
            text(LEFT, 22, condition),
            f'<line x1="{LEFT}" y1="150" x2="{LEFT + SCALE}" y2="150" stroke="#555" marker-end="url(#g)"/>',
            text(LEFT + SCALE, 164, "time", "#555", 11, "end"),
        ]

    def true(self, *spans: tuple[float, float]) -> Strip:
        for begin, end in spans:
            self.parts.append(self._bar(begin, end, 30, BLUE))
        return self

    def pulse(self, *times: float) -> Strip:
        for at in times:
            self.parts.append(f'<circle cx="{LEFT + SCALE * at:g}" cy="38" r="6" fill="{BLUE}"/>')
        return self

    def span(self, begin: float, end: float, words: str) -> Strip:
        """A length of time, between the two bars."""
        x0, x1 = LEFT + SCALE * begin, LEFT + SCALE * end
        self.parts.append(f'<path d="M{x0:g},56 v10 M{x1:g},56 v10 M{x0:g},61 H{x1:g}" stroke="#555" fill="none"/>')
        self.parts.append(text((x0 + x1) / 2, 78, words, "#555", 11, "middle"))
        return self

    def alert(self, begin: float, end: float) -> Strip:
        """From opening to close; shorter than a tenth: at one moment."""
        self.parts.append(self._bar(begin, end, 92, RED))
        if end - begin < 0.1:
            self.parts.append(text(LEFT + SCALE * begin, 124, "open, close", RED, 11, "middle"))
            return self
        self.parts.append(text(LEFT + SCALE * (begin + end) / 2, 104, "alert", "#ffffff", 11, "middle"))
        self.parts.append(text(LEFT + SCALE * begin, 124, "open", RED, 11, "middle"))
        self.parts.append(text(LEFT + SCALE * end, 124, "close", RED, 11, "middle"))
        return self

    def _bar(self, begin: float, end: float, y: int, colour: str) -> str:
        return f'<rect x="{LEFT + SCALE * begin:g}" y="{y}" width="{SCALE * (end - begin):g}" height="16" fill="{colour}"/>'


def picture(title: str, scene: list[str], strip: Strip) -> str:
    body = "\n  ".join([view(), *scene, *strip.parts])
    return HEAD.format(width=WIDTH, height=HEIGHT, title=title) + "  " + body + "\n</svg>\n"


QUEUE = "85,80 180,80 180,150 85,150"


def rules() -> dict[str, str]:
    """Return the drawing of each type of rule."""
    return {
        "line_crossing": picture(
            "Line crossing",
            [wire(), person(180, 130), way("60,128 168,128"), text(140, 62, "right", "#555"), text(85, 62, "left", "#555")],
            Strip("crosses to that side").pulse(0.25, 0.42).span(0.42, 0.72, "gap_s").alert(0.25, 0.42),
        ),
        "tailgating": picture(
            "Tailgating",
            [wire(), person(190, 130), person(150, 130, RED), way("40,145 112,145")],
            Strip("who follows crosses").pulse(0.4).span(0.22, 0.4, "within_s").alert(0.4, 0.42),
        ),
        "intrusion": picture(
            "Intrusion",
            [zone(), person(130, 130, RED), way("20,60 118,112")],
            Strip("inside").true((0.15, 0.55), (0.6, 0.7)).span(0.15, 0.25, "hold_s").span(0.7, 0.86, "gap_s").alert(0.25, 0.7),
        ),
        "restricted_class": picture(
            "Restricted class",
            [zone(), person(80, 130), car(165, 130, RED)],
            Strip("one of the classes is inside").true((0.15, 0.7)).span(0.15, 0.25, "hold_s").alert(0.25, 0.7),
        ),
        "loitering": picture(
            "Loitering",
            [zone(), person(160, 130, RED), way("20,90 60,110 110,90 150,140 80,140 70,120 140,118")],
            Strip("the visit").true((0.1, 0.8)).span(0.1, 0.45, "since_s").alert(0.45, 0.8),
        ),
        "dwell": picture(
            "Dwell above a limit",
            [zone("parking, 15 min"), car(130, 130, RED)],
            Strip("the visit").true((0.05, 0.85)).span(0.05, 0.55, "limit_s").alert(0.55, 0.85),
        ),
        "queue_wait": picture(
            "Queue: wait",
            [zone("queue", QUEUE), person(105, 140, RED), person(130, 140), person(155, 140), way("60,140 92,140")],
            Strip("one visit to the queue").true((0.1, 0.75)).span(0.1, 0.5, "wait_s").alert(0.5, 0.75),
        ),
        "queue_length": picture(
            "Queue: length",
            [zone("queue", QUEUE), *(person(x, 140, RED) for x in (102, 122, 142, 162)), person(40, 140), way("52,140 80,140")],
            Strip("at least count, each for settled_s").true((0.2, 0.5), (0.56, 0.75)).span(0.2, 0.35, "hold_s")
            .span(0.75, 0.9, "gap_s").alert(0.35, 0.75),
        ),
        "crowding": picture(
            "Crowding",
            [zone(), *(person(x, y, RED) for x, y in ((80, 125), (110, 145), (140, 120), (170, 142)))],
            Strip("at least count inside").true((0.1, 0.4), (0.47, 0.7)).span(0.1, 0.22, "hold_s").span(0.7, 0.85, "gap_s")
            .alert(0.22, 0.7),
        ),
        "empty": picture(
            "Empty too long",
            [zone("desk"), person(130, 125, GREY, faint=True)],
            Strip("nobody inside").true((0.1, 0.75)).span(0.1, 0.5, "since_s").alert(0.5, 0.75),
        ),
        "stopped": picture(
            "Stopped",
            [car(130, 110, RED), f'<circle cx="130" cy="105" r="38" fill="none" stroke="{BLUE}" stroke-dasharray="4 3"/>',
             text(172, 96, "still_m", BLUE, 11)],
            Strip("stays within still_m").true((0.1, 0.75)).span(0.1, 0.5, "since_s").alert(0.5, 0.75),
        ),
        "speeding": picture(
            "Speeding",
            [car(80, 120, RED), way("112,112 222,112"), text(130, 100, "12.3 m/s ± 0.4", RED)],
            Strip("speed − sure_sd · its deviation &gt; limit_mps").true((0.2, 0.7)).span(0.2, 0.3, "hold_s")
            .span(0.7, 0.85, "gap_s").alert(0.3, 0.7),
        ),
        "wrong_way": picture(
            "Wrong way",
            [f'<path d="M128,60 L60,35 A74,74 0 0 0 60,85 z" fill="{RED}22"/>', way("90,145 200,145", "g"),
             text(120, 138, "allowed", "#555", 11), car(150, 68, RED), way("120,60 45,60", "r"),
             text(30, 32, "tolerance_deg", RED, 11)],
            Strip("goes against the arrow").true((0.2, 0.65)).span(0.2, 0.3, "hold_s").span(0.65, 0.8, "gap_s")
            .alert(0.3, 0.65),
        ),
        "abandoned": picture(
            "Abandoned object",
            [bag(90, 115, RED), f'<circle cx="90" cy="107" r="42" fill="none" stroke="{BLUE}" stroke-dasharray="4 3"/>',
             text(66, 58, "owner_m", BLUE, 11), person(180, 130), way("196,128 232,128")],
            Strip("stands still, no owner near").true((0.15, 0.75)).span(0.15, 0.5, "since_s").alert(0.5, 0.75),
        ),
        "removed": picture(
            "Removed object",
            [bag(90, 130, GREY, faint=True), person(150, 130), bag(166, 118, RED), way("180,128 232,128")],
            Strip("has stood still; is gone, or moves").true((0.05, 0.5)).span(0.05, 0.4, "since_s or longer").pulse(0.54)
            .alert(0.54, 0.56),
        ),
        "proximity": picture(
            "Proximity",
            [person(95, 115, RED), car(165, 115, RED),
             f'<path d="M95,122 v6 M165,122 v6 M95,125 H165" stroke="{BLUE}" fill="none"/>',
             text(130, 142, "&lt; distance_m", BLUE, 11, "middle")],
            Strip("nearer than distance_m").true((0.15, 0.45), (0.52, 0.7)).span(0.15, 0.32, "hold_s").span(0.7, 0.85, "gap_s")
            .alert(0.32, 0.7),
        ),
    }  # fmt: skip


# ---- the life of an alert ---------------------------------------------------------------------------------------------

BOXES = {
    State.IDLE: (20, 130), State.POTENTIAL: (200, 40), State.OPEN: (490, 40), State.ACKNOWLEDGED: (790, 40),
    State.COOLING: (490, 240),
}  # fmt: skip
BOX_WIDTH, BOX_HEIGHT = 130, 44
ARROWS = {
    (State.IDLE, State.POTENTIAL): ("M100,130 L192,76", 84, 98),
    (State.POTENTIAL, State.OPEN): ("M330,52 H482", 406, 46),
    (State.OPEN, State.POTENTIAL): ("M490,74 H338", 406, 88),
    (State.OPEN, State.ACKNOWLEDGED): ("M620,52 H782", 701, 46),
    (State.ACKNOWLEDGED, State.POTENTIAL): ("M855,40 V20 H265 V32", 556, 15),
    (State.OPEN, State.COOLING): ("M570,84 V232", 577, 190),
    (State.ACKNOWLEDGED, State.COOLING): ("M860,84 V262 H628", 867, 190),
    (State.POTENTIAL, State.COOLING): ("M300,84 L500,232", 415, 160),
    (State.COOLING, State.POTENTIAL): ("M490,254 L240,92", 330, 180),
    (State.COOLING, State.IDLE): ("M490,272 H85 V182", 280, 266),
}
"""Way of the arrow, and where its words are: below right of it, or centred on it for level ones."""
MARKS = {Action.OPEN: "open", Action.UPDATE: "update", Action.CLOSE: "close"}


def life() -> str:
    """Return the drawing of `lifecycle.TABLE`. What withdraws the rule leads from everywhere to IDLE and is left out."""
    moves: dict[tuple[State, State], list[str]] = {}
    stays: dict[State, list[str]] = {}
    for (state, event), (after, action) in TABLE.items():
        if event.name == "WITHDRAWN":
            continue
        if after is not state:
            moves.setdefault((state, after), []).append(event.name + (f" → {MARKS[action]}" if action in MARKS else ""))
        elif action in MARKS:
            stays.setdefault(state, []).append(event.name)
    if set(moves) != set(ARROWS):
        raise ValueError(f"expected arrows for {sorted(moves)}, got {sorted(ARROWS)}")
    parts = []
    for pair, (path, x, y) in ARROWS.items():
        level = path.count("V") + path.count("L") == 0 or pair in ((State.ACKNOWLEDGED, State.POTENTIAL),)
        centred = level or pair[1] is State.IDLE
        said = any("→" in words for words in moves[pair])
        parts.append(
            f'<path d="{path}" fill="none" stroke="{RED if said else "#555"}" marker-end="url(#{"r" if said else "g"})"/>'
        )
        anchor = (
            "middle"
            if centred
            else "end"
            if pair in ((State.IDLE, State.POTENTIAL), (State.COOLING, State.POTENTIAL))
            else "start"
        )
        for n, words in enumerate(moves[pair]):
            parts.append(text(x, y + 14 * n, words, RED if said else DARK, 11, anchor))
    for state, (x, y) in BOXES.items():
        is_open = state in (State.OPEN, State.ACKNOWLEDGED)
        parts.append(
            f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" fill="{"#fbe9e7" if is_open else "#f4f4f4"}" '
            f'stroke="{RED if is_open else "#777"}" stroke-width="1.5"/>'
        )
        parts.append(text(x + BOX_WIDTH / 2, y + 27, state.name, DARK, 13, "middle"))
    for state, right in ((State.OPEN, 563), (State.ACKNOWLEDGED, 853)):
        for n, words in enumerate(stays[state]):
            parts.append(text(right, 104 + 13 * n, f"{words} → update", RED, 10, "end"))
    parts.append(
        text(20, 318, "WITHDRAWN, the rule is gone: from everywhere to IDLE; an open alert closes.", "#555", 11)
    )
    head = HEAD.format(width=975, height=330, title="The life of an alert")
    return head + "  " + "\n  ".join(parts) + "\n</svg>\n"


def drawings() -> dict[Path, str]:
    """Return what each file should hold."""
    found = {HERE / "rules" / f"{name}.svg": drawn for name, drawn in rules().items()}
    return {**found, HERE / "alert-life.svg": life()}


if __name__ == "__main__":
    for path, drawn in drawings().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(drawn, encoding="utf-8")
