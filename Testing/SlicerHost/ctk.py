"""The module ``ctk``: the widgets of CTK that a scripted module uses, with CTK's properties, slots and signals.

As in PythonQt only properties, slots and signals can be reached, no plain C++ setter.
"""

from __future__ import annotations

import types
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from .qt import qt, strict, wrapped

Signal = QtCore.Signal


class stored(property):
    """A property that only keeps its value; ``changed`` names the method to call after a new one."""

    def __init__(self, default, changed: str | None = None) -> None:
        super().__init__(self._read, self._write)
        self.default, self.changed, self.key = default, changed, ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.key = f"_host_{name}"

    def _read(self, widget):
        return widget.__dict__.get(self.key, self.default)

    def _write(self, widget, value) -> None:
        if self._read(widget) != value:
            widget.__dict__[self.key] = value
            if self.changed:
                getattr(widget, self.changed)()


@wrapped
class ctkCollapsibleButton(strict(QtWidgets.QAbstractButton)):
    """A header that shows and hides what lies in it; checked is open."""

    contentsCollapsed = Signal(bool)
    collapsedHeight = stored(10)
    contentsFrameShape = stored(0)
    contentsLineWidth = stored(1)

    def __init__(self, *args) -> None:
        text = args[0] if args and isinstance(args[0], str) else ""
        super().__init__(args[-1] if args and not isinstance(args[-1], str) else None)
        self.text = text
        self.checkable = True
        self.checked = True
        self.setContentsMargins(0, self._header(), 0, 0)
        self._hostHidden: list = []
        self.toggled.connect(self._hostToggled)

    def _collapsed(self) -> bool:
        return not self.checked

    def _setCollapsed(self, collapsed: bool) -> None:
        self.checked = not collapsed

    collapsed = property(_collapsed, _setCollapsed)

    def _header(self) -> int:
        return self.fontMetrics().height() + 10

    def _hostToggled(self, opened: bool) -> None:
        children = [c for c in self.children() if isinstance(c, QtWidgets.QWidget)]
        if not opened:
            self._hostHidden = [c for c in children if not QtWidgets.QWidget.isHidden(c)]
        for child in self._hostHidden if not opened else self._hostHidden or children:
            QtWidgets.QWidget.setVisible(child, opened)
        self.updateGeometry()
        self.contentsCollapsed.emit(not opened)

    def childEvent(self, event) -> None:
        if event.added() and event.child().isWidgetType() and not self.checked:
            child = event.child()
            QtCore.QTimer.singleShot(0, self, lambda: self.checked or QtWidgets.QWidget.hide(child))

    def hitButton(self, position) -> bool:
        return position.y() <= self._header()

    def sizeHint(self):
        layout = QtWidgets.QWidget.layout(self)
        # The total has the widget's margins in it, of which the header is one.
        return layout.totalSizeHint() if layout and self.checked else QtCore.QSize(120, self._header())

    def minimumSizeHint(self):
        return self.sizeHint()

    def hasHeightForWidth(self) -> bool:
        layout = QtWidgets.QWidget.layout(self)
        return bool(self.checked and layout and layout.hasHeightForWidth())

    def heightForWidth(self, width: int) -> int:
        return QtWidgets.QWidget.layout(self).totalHeightForWidth(width)

    def paintEvent(self, event) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), self._header())
        option.text = f"{'▾' if self.checked else '▸'}  {self.text}"
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButton, option)


def spinBox(name: str) -> property:
    """A property that the widget's inner spin box holds."""

    def read(self):
        return getattr(self._hostSpin, name)

    def write(self, value) -> None:
        setattr(self._hostSpin, name, value)
        self._follow()

    return property(read, write)


@wrapped
class ctkSliderWidget(strict(QtWidgets.QWidget)):
    """Slider and spin box for one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    pageStep = stored(10.0)
    tickInterval = stored(0.0)
    tracking = stored(True)
    spinBoxVisible = stored(True, "_show")
    popupSlider = stored(False)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._hostSlider = qt.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._hostSpin = qt.QDoubleSpinBox()
        self._hostSpin.maximum = 99.0
        self._hostSlider.maximum = 99
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._hostSlider)
        row.addWidget(self._hostSpin)
        self._hostSpin.valueChanged.connect(self._spun)
        self._hostSlider.valueChanged.connect(self._slid)

    def _steps(self, value: float) -> int:
        return round((value - self._hostSpin.minimum) / (self._hostSpin.singleStep or 1.0))

    def _slid(self, steps: int) -> None:
        self._hostSpin.value = self._hostSpin.minimum + steps * self._hostSpin.singleStep

    def _spun(self, value: float) -> None:
        self._follow()
        self.valueChanged.emit(value)

    def _follow(self) -> None:
        blocked = self._hostSlider.blockSignals(True)
        self._hostSlider.maximum = self._steps(min(self._hostSpin.maximum, self._hostSpin.minimum + 1e6))
        self._hostSlider.value = self._steps(self._hostSpin.value)
        self._hostSlider.blockSignals(blocked)

    def _show(self) -> None:
        self._hostSpin.visible = self.spinBoxVisible

    minimum, maximum = spinBox("minimum"), spinBox("maximum")
    singleStep, value = spinBox("singleStep"), spinBox("value")
    decimals, prefix, suffix = spinBox("decimals"), spinBox("prefix"), spinBox("suffix")

    def setValue(self, value: float) -> None:
        self.value = value

    def reset(self) -> None:
        self.value = 0.0

    def setSpinBoxVisible(self, visible: bool) -> None:
        self.spinBoxVisible = visible


@wrapped
class ctkDoubleSpinBox(strict(QtWidgets.QWidget)):
    """A QDoubleSpinBox of CTK's."""

    valueChanged = Signal(float)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._hostSpin = qt.QDoubleSpinBox(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._hostSpin)
        self._hostSpin.valueChanged.connect(self.valueChanged)

    minimum, maximum = spinBox("minimum"), spinBox("maximum")
    singleStep, value = spinBox("singleStep"), spinBox("value")
    decimals, prefix, suffix = spinBox("decimals"), spinBox("prefix"), spinBox("suffix")

    def _follow(self) -> None:
        """Nothing else shows the number."""

    def setValue(self, value: float) -> None:
        self.value = value


@wrapped
class ctkCheckBox(strict(QtWidgets.QCheckBox)):
    pass


@wrapped
class ctkComboBox(strict(QtWidgets.QComboBox)):
    defaultText = stored("")
    defaultIcon = stored(None)


@wrapped
class ctkMessageBox(strict(QtWidgets.QMessageBox)):
    dontShowAgainSettingsKey = stored("")
    dontShowAgain = stored(False)
    dontShowAgainVisible = stored(False)


@wrapped
class ctkPathLineEdit(strict(QtWidgets.QWidget)):
    """A path, typed, browsed for, or chosen from those used before."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    #: ctkPathLineEdit::Filter
    Dirs, Files, Drives, NoSymLinks, AllEntries = 0x001, 0x002, 0x004, 0x008, 0x007
    Readable, Writable, Executable, Modified, Hidden, System = 0x010, 0x020, 0x040, 0x080, 0x100, 0x200
    AllDirs, CaseSensitive, NoDotAndDotDot, NoDot, NoDotDot, NoFilter = 0x400, 0x800, 0x1000, 0x2000, 0x4000, -1
    #: ctkPathLineEdit::Option
    ShowDirsOnly, DontResolveSymlinks, DontConfirmOverwrite, ReadOnly = 0x1, 0x2, 0x4, 0x20
    AdjustToContents, AdjustToContentsOnFirstShow, AdjustToMinimumContentsLength = 0, 1, 2

    label = stored("")
    filters = stored(AllEntries)
    options = stored(0)
    nameFilters = stored(())
    settingKey = stored("", "retrieveHistory")
    showBrowseButton = stored(True, "_show")
    showHistoryButton = stored(True)
    sizeAdjustPolicy = stored(AdjustToContentsOnFirstShow)
    minimumContentsLength = stored(0)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._hostCombo = qt.QComboBox(self)
        self._hostCombo.editable = True
        self._hostCombo.insertPolicy = QtWidgets.QComboBox.InsertPolicy.NoInsert
        self._hostBrowse = qt.QToolButton(self)
        self._hostBrowse.text = "..."
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._hostCombo, 1)
        row.addWidget(self._hostBrowse)
        self._hostCombo.editTextChanged.connect(self.currentPathChanged)
        self._hostBrowse.clicked.connect(lambda: self.browse())

    def _currentPath(self) -> str:
        return self._hostCombo.currentText

    def setCurrentPath(self, path: str) -> None:
        if not isinstance(path, str):
            raise TypeError(f"Qt takes a str where a path is meant, not {type(path).__name__}: {path}")
        self._hostCombo.setEditText(path)

    currentPath = property(_currentPath, setCurrentPath)

    def _show(self) -> None:
        self._hostBrowse.visible = self.showBrowseButton

    def comboBox(self):
        return self._hostCombo

    def _key(self) -> str:
        return self.settingKey or self.objectName

    def retrieveHistory(self) -> None:
        path = self.currentPath
        self._hostCombo.clear()
        self._hostCombo.addItems(qt.QSettings().value(self._key()) or [])
        self._hostCombo.setEditText(path)

    def addCurrentPathToHistory(self) -> None:
        path = self.currentPath
        if not path or not self._key() or not Path(path).exists():
            return
        settings = qt.QSettings()
        kept = [p for p in settings.value(self._key()) or [] if p != path]
        settings.setValue(self._key(), [path, *kept])
        self.retrieveHistory()
        self.setCurrentPath(path)

    def browse(self) -> None:
        title = self.label or "Select"
        if not self.filters & self.Files:
            path = qt.QFileDialog.getExistingDirectory(self, title, self.currentPath)
        elif self.filters & self.Writable:
            path = qt.QFileDialog.getSaveFileName(self, title, self.currentPath, ";;".join(self.nameFilters))
        else:
            path = qt.QFileDialog.getOpenFileName(self, title, self.currentPath, ";;".join(self.nameFilters))
        if path:
            self.setCurrentPath(path)


@wrapped
class ctkDirectoryButton(strict(QtWidgets.QWidget)):
    """A button that names a folder and asks for another."""

    directoryChanged = Signal(str)
    caption = stored("")

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._hostButton = qt.QPushButton(self)
        QtWidgets.QHBoxLayout(self).addWidget(self._hostButton)
        self._hostButton.clicked.connect(lambda: self.browse())

    def _directory(self) -> str:
        return self._hostButton.text

    def _setDirectory(self, directory: str) -> None:
        if directory != self._hostButton.text:
            self._hostButton.text = directory
            self.directoryChanged.emit(directory)

    directory = property(_directory, _setDirectory)

    def browse(self) -> None:
        path = qt.QFileDialog.getExistingDirectory(self, self.caption, self.directory)
        if path:
            self.directory = path


ctk = types.ModuleType("ctk")
WIDGETS = (
    ctkCheckBox,
    ctkCollapsibleButton,
    ctkComboBox,
    ctkDirectoryButton,
    ctkDoubleSpinBox,
    ctkMessageBox,
    ctkPathLineEdit,
    ctkSliderWidget,
)
for _widget in WIDGETS:
    setattr(ctk, _widget.__name__, _widget)
