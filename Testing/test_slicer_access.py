"""Everybody can reach, read and translate the panel: by keyboard, in any language, in a light and a dark theme."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ET

import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")
QtWidgets = pytest.importorskip("PySide6.QtWidgets", reason="PySide6 (Qt) is not installed")
from PySide6.QtCore import Qt  # noqa: E402

from CardiacSegLib import DISCLAIMER  # noqa: E402
from CardiacSegLib.function.segments import SEGMENT_NAMES  # noqa: E402
from CardiacSegLib.study import Label  # noqa: E402
from CardiacSegLib.training.presets import PRESETS  # noqa: E402
from conftest import MODULE_FILE, add_cine, open_module  # noqa: E402
from SlicerHost.user import click, paint, put_masks, settle  # noqa: E402

UI_FILE = MODULE_FILE.parent / "Resources" / "UI" / "CardiacSeg.ui"
CORNER = (slice(0, 1), slice(0, 4), slice(0, 4))


def sections(module) -> list:
    ui = module.ui
    return [ui.cineSection, ui.phasesSection, ui.segmentSection, ui.correctSection, ui.resultsSection, ui.trainSection]


#: What a user works with; composed widgets pass the keyboard on to what they are made of.
WORKED_WITH = (
    *(QtWidgets.QAbstractButton, QtWidgets.QComboBox, QtWidgets.QAbstractSpinBox, QtWidgets.QListWidget),
    *(QtWidgets.QTableWidget, QtWidgets.QAbstractSlider, QtWidgets.QLineEdit),
)


def test_everything_is_reached_by_the_tab_key_in_the_order_of_the_work(module, phantom):
    """The editor's own tools are left to the editor."""
    add_cine(module, phantom)
    put_masks(module, phantom)
    for section in sections(module):
        section.collapsed = False
    Widget = QtWidgets.QWidget
    chain, widget = [], module.parent
    while not chain or widget is not module.parent:
        chain.append(widget)
        widget = Widget.nextInFocusChain(widget)
    reached = [w for w in chain if Widget.focusPolicy(w) & Qt.FocusPolicy.TabFocus]

    def within(widget, ancestor) -> bool:
        return widget is ancestor or Widget.isAncestorOf(ancestor, widget)

    for name in (w.get("name") for w in ET.parse(UI_FILE).iter("widget") if w.get("class") not in ("QLabel", "QFrame")):
        widget = getattr(module.ui, name, None)
        if widget is None or not (isinstance(widget, WORKED_WITH) or name.endswith(("Selector", "Slider", "Path"))):
            continue
        assert any(within(candidate, widget) for candidate in reached), f"{name} cannot be reached by the Tab key"
    visited = [next((i for i, s in enumerate(sections(module)) if within(w, s)), None) for w in reached]
    order = [place for place in visited if place is not None]
    assert order == sorted(order) and set(order) == set(range(6))


def test_keys_of_buttons_are_their_own_and_none_of_slicers_menus(module, phantom):
    """At rest, and for those that change their words also then."""
    add_cine(module, phantom)
    ui = module.ui
    said = [
        (widget.get("name"), prop.findtext("string") or "")
        for widget in ET.parse(UI_FILE).iter("widget")
        for prop in widget.findall("property")
        if prop.get("name") == "text"
    ]
    click(ui.playButton)
    click(ui.segmentButton)
    said += [(name, getattr(ui, name).text) for name in ("playButton", "segmentButton")]
    click(ui.segmentButton)
    click(ui.playButton)
    keys = {(name, text[text.index("&") + 1].upper()) for name, text in said if "&" in text}
    assert len(keys) > 12 and len({key for _, key in keys}) == len(keys)
    assert not {key for _, key in keys} & set("FEVH")


def test_every_section_fits_into_a_narrow_panel_whatever_it_says(host, module, phantom):
    """Slicer's sections are never narrower than they would like to be: the panel would scroll sideways."""
    add_cine(module, phantom)
    put_masks(module, phantom, "A sentence that goes on and on, as sentences of warnings do. " * 5)
    paint(host, module, "ED", Label.LV, CORNER)
    settle(host, module)
    module.ui.problemLabel.text = module.ui.statusLabel.text = module.ui.trainStatusLabel.text = "word " * 60
    for label in (module.ui.problemLabel, module.ui.assembleButton, module.ui.progressBar):
        label.visible = True
    for section in sections(module):
        section.collapsed = False
        assert section.sizeHint().width() < 400, section.text


def texts_of(module) -> set[str]:
    """Every text that can be seen in the panel, tool tips included, but not what lies in the editor."""
    found: set[str] = set()
    widgets = [module.parent, *module.parent.findChildren(QtWidgets.QWidget)]
    for widget in widgets:
        for name in ("text", "toolTip", "title", "placeholderText", "suffix", "specialValueText"):
            value = getattr(widget, name, "")
            found.add(value if isinstance(value, str) else "")
        if isinstance(widget, QtWidgets.QComboBox):
            found |= {QtWidgets.QComboBox.itemText(widget, i) for i in range(QtWidgets.QComboBox.count(widget))}
        if isinstance(widget, QtWidgets.QTableWidget):
            cells = [widget.item(r, c) for r in range(widget.rowCount) for c in range(widget.columnCount)]
            headings = [widget.horizontalHeaderItem(c) for c in range(widget.columnCount)]
            found |= {item.text() for item in (*cells, *headings)} | {item.toolTip() for item in cells}
    return {text for text in found if re.search("[A-Za-z]{2}", text)}


def test_every_word_of_the_panel_can_be_translated(host, phantom, one_thread, monkeypatch):
    """In a language that sets every sentence in angle brackets: what has none was not given to translate.

    Left in English are names (models, presets, the cine), the library's own sentences, and units.
    """
    for name, helper in list(sys.modules.items()):
        if name.split(".")[0] == "CardiacSegSlicer" and hasattr(helper, "_"):
            monkeypatch.setattr(helper, "_", lambda text: f"‹{text}›")
    module = open_module(host)
    add_cine(module, phantom)
    put_masks(module, phantom)
    module.ui.heightSpinBox.value, module.ui.weightSpinBox.value = 180.0, 75.0
    paint(host, module, "ED", Label.LV, CORNER)
    settle(host, module)
    in_file = {string.text for string in ET.parse(UI_FILE).iter("string")}
    function = module.reading.function()
    library = [DISCLAIMER, *function["warnings"], *function["wall"]["assumptions"], *SEGMENT_NAMES]
    names = {"fast", "cine", "None", *PRESETS}
    words = set()
    for text in texts_of(module) - in_file - names:
        for sentence in library:
            text = text.replace(sentence, "")
        words.add(re.sub(r"‹[^‹›]*›|\b(LV|RV|MYO|ED|ES|EDV|ESV|SV|EF|CO|mL|L/min|mm|cm|kg|g|m²)\b", "", text))
    host.reset()
    assert {text for text in words if re.search("[A-Za-z]{2}", text)} == set()


def test_sentences_of_errors_are_given_to_translate():
    bare = []
    for file in MODULE_FILE.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], (ast.Constant, ast.JoinedStr)):
                bare.append(f"{file.name}:{node.lineno}")
    assert bare == []


def test_colours_of_the_panel_are_the_themes_own():
    """Nothing is painted in a colour of its own, so that it is read in a light and in a dark theme."""
    tree = ET.parse(UI_FILE)
    assert not [p for p in tree.iter("property") if p.get("name") in ("styleSheet", "palette")]
    for file in MODULE_FILE.parent.rglob("*.py"):
        assert not re.search(r"styleSheet|setPalette|QColor|setForeground|setBackground\(", file.read_text("utf-8")), (
            file
        )
