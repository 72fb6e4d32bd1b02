"""The drawing and the page of the architecture show the floors as they are."""

import itertools
import pathlib
import re
import xml.etree.ElementTree as ET

from tests.test_imports import FLOORS, SRC

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"
DRAWING = ET.parse(DOCS / "architecture.svg").getroot()


def groups(kind):
    return [group for group in DRAWING.iter(f"{SVG}g") if group.get("class") == kind]


def box(group):
    """Left, top, right and bottom of the rectangle of a group."""
    rect = group.find(f"{SVG}rect")
    x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def named_parts(group):
    return [text for text in group.findall(f"{SVG}text") if text.get("class") == "part"]


def drawn_floors():
    """Parts per floor from the ground up, in the order in which they are seen."""
    bottom_up = sorted(groups("floor"), key=lambda group: -box(group)[1])
    return [
        [text.text for text in sorted(named_parts(floor), key=lambda text: float(text.get("x")))]
        for floor in bottom_up
    ]


def test_the_drawing_shows_every_part_on_its_floor():
    assert drawn_floors() == FLOORS, "docs/architecture.svg: parts are <text class='part'>"


def test_what_is_drawn_stays_inside_of_its_box_and_boxes_apart():
    _, _, width, height = map(float, DRAWING.get("viewBox").split())
    for kind, count in (("floor", len(FLOORS)), ("stage", 5)):
        boxes = [box(group) for group in groups(kind)]
        assert len(boxes) == count
        for (left, top, right, bottom), group in zip(boxes, groups(kind), strict=True):
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            for text in group.findall(f"{SVG}text"):
                assert left < float(text.get("x")) < right
                assert top < float(text.get("y")) < bottom
            for earlier, later in itertools.pairwise(named_parts(group)):
                # Letters of this font are .6 of its size, 13, in width.
                end = float(earlier.get("x")) + 0.6 * 13 * len(earlier.text)
                assert end < float(later.get("x")) < right
        down = sorted(boxes, key=lambda box: box[1])
        assert all(above[3] < below[1] for above, below in itertools.pairwise(down))


def luminance(colour):
    """Relative luminance of `#rrggbb`, as WCAG 2 has it."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def test_it_is_read_on_light_pages_and_on_dark_ones():
    background = DRAWING.find(f"{SVG}rect")
    size = DRAWING.get("viewBox").split()[2:]
    assert [background.get("width"), background.get("height")] == size  # the page does not matter
    fills = {rect.get("fill") for rect in DRAWING.iter(f"{SVG}rect")}
    inks = {text.get("fill") for text in DRAWING.iter(f"{SVG}text")}
    assert min(contrast(ink, fill) for ink in inks for fill in fills) > 7


def test_it_says_what_it_shows_to_those_who_do_not_see_it():
    assert DRAWING.find(f"{SVG}title").text
    said = DRAWING.find(f"{SVG}desc").text.lower()
    for stage in groups("stage"):
        name = stage.find(f"{SVG}text").text.split(". ")[1]
        assert name.lower() in said
    assert {9: "nine"}[len(FLOORS)] in said
    assert 'role="img"' in (DOCS / "architecture.svg").read_text(encoding="utf-8")


def test_the_page_has_a_row_per_floor_and_a_point_per_stage():
    table = PAGE.split("| floor | what it is |")[1].split("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert [re.findall("`(.+?)`", row) for row in rows] == FLOORS[::-1]
    stages = [stage.find(f"{SVG}text").text for stage in groups("stage")]
    assert re.findall(r"^(\d\. )\*\*(.+?)\.\*\*", PAGE, flags=re.MULTILINE) == [
        (stage[:3], stage[3:]) for stage in stages
    ]


def test_files_that_the_page_names_exist():
    named = re.findall(r"`((?:\w+/)*\w+\.py|\w+/)`", PAGE)
    assert len(named) > 15
    root = DOCS.parent
    for name in named:
        assert (SRC / name).exists() or (root / name).exists(), name
