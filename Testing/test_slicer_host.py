"""The Slicer host behaves as Slicer does: PythonQt, .ui files, parameter nodes, MRML widgets, scene and dialogs."""

import enum
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")
try:
    import PySide6.QtWidgets  # noqa: F401
except ImportError as error:
    pytest.skip(f"PySide6, or a system library that it needs, is not installed: {error}", allow_module_level=True)

import vtk  # noqa: E402

import SlicerHost  # noqa: E402


@pytest.fixture
def host():
    host = SlicerHost.start()
    yield host
    host.reset()


@pytest.fixture
def qt(host):
    import qt

    return qt


@pytest.fixture
def ctk(host):
    import ctk

    return ctk


def add_volume(name: str = "volume", shape: tuple = (4, 20, 30)):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.zeros(shape, np.int16))
    return node


# ---------------------------------------------------------------------------------------------------- PythonQt


def test_property_called_like_a_method_raises(qt) -> None:
    button = qt.QPushButton("Segment")
    assert button.text == "Segment" and button.enabled and not button.checkable
    for called in (lambda: button.text(), lambda: button.enabled(), lambda: qt.QComboBox().currentIndex()):
        with pytest.raises(TypeError, match="not callable"):
            called()
    button.setText("Cancel")
    assert button.text == "Cancel" and button.isEnabled()


def test_misspelt_attribute_raises_but_a_class_of_ones_own_may_have_any(qt) -> None:
    with pytest.raises(AttributeError, match="creation of new attributes"):
        qt.QLabel().txt = "typo"

    class Own(qt.QWidget):
        def __init__(self) -> None:
            qt.QWidget.__init__(self)
            self.anything = 1

    heard = []
    own = Own()
    own.connect("windowTitleChanged(QString)", heard.append)
    own.windowTitle = "title"
    assert (own.anything, heard) == (1, ["title"])


def test_path_object_is_refused_where_qt_takes_a_str(qt, ctk, tmp_path: Path) -> None:
    for given in (
        lambda: qt.QFile(tmp_path),
        lambda: setattr(qt.QLabel(), "text", tmp_path),
        lambda: setattr(ctk.ctkPathLineEdit(), "currentPath", tmp_path),
        lambda: qt.QFileDialog.getOpenFileName(None, "Open", tmp_path),
    ):
        with pytest.raises(TypeError, match="str"):
            given()


def test_signals_connect_both_ways_and_disconnect(qt) -> None:
    slider, heard = qt.QSlider(qt.Qt.Horizontal), []
    by_name, by_signal = (lambda value: heard.append(("name", value))), (lambda value: heard.append(("signal", value)))
    assert slider.connect("valueChanged(int)", by_name)
    slider.valueChanged.connect(by_signal)
    slider.value = 3
    assert slider.disconnect("valueChanged(int)", by_name)
    slider.valueChanged.disconnect(by_signal)
    slider.value = 4
    assert heard == [("name", 3), ("signal", 3)]
    assert not slider.disconnect("valueChanged(int)", by_name)
    with pytest.raises(ValueError, match="valueChange"):
        slider.connect("valueChange(int)", by_name)


def test_slot_gets_as_many_arguments_as_it_takes(qt) -> None:
    button, heard = qt.QPushButton(), []
    button.connect("clicked(bool)", lambda: heard.append("none"))
    button.connect("clicked(bool)", lambda checked: heard.append(checked))
    button.connect("clicked()", lambda: heard.append("plain"))
    button.click()
    assert heard == ["none", False, "plain"]


def test_exception_in_a_slot_or_an_observer_reaches_the_test(host, qt) -> None:
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    with pytest.raises(ZeroDivisionError):
        host.process()
    node = add_volume()

    def observer(caller, event) -> None:
        raise KeyError("observer")

    tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, observer)
    node.Modified()
    node.RemoveObserver(tag)
    with pytest.raises(KeyError):
        host.check()
    host.check()


def test_inner_objects_of_qt_have_properties_too(qt) -> None:
    table = qt.QTableWidget()
    table.horizontalHeader().stretchLastSection = True
    assert table.horizontalHeader().stretchLastSection is True
    box = qt.QGroupBox()
    box.setLayout(qt.QVBoxLayout())
    box.layout().addWidget(table)
    assert isinstance(table, qt.QWidget) and table.parent() is box
    assert slicer.util.findChildren(box, className="QTableWidget") == [table]


def test_timers_and_settings_are_the_tests_own(host, qt) -> None:
    fired = []
    qt.QTimer.singleShot(0, lambda: fired.append("shot"))
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.interval = 1
    timer.connect("timeout()", lambda: fired.append("timer"))
    timer.start()
    host.waitFor(lambda: len(fired) == 2)
    qt.QSettings().setValue("CardiacSeg/Device", "cpu")
    assert slicer.util.settingsValue("CardiacSeg/Device", "auto") == "cpu"
    assert str(Path.home()) not in qt.QSettings().fileName()


def test_ctk_section_hides_what_lies_in_it_and_has_no_plain_setter(host, ctk, qt) -> None:
    section, heard = ctk.ctkCollapsibleButton(), []
    section.text = "Phases"
    label, hidden = qt.QLabel("x"), qt.QLabel("y")
    qt.QVBoxLayout(section).addWidget(label)
    section.layout().addWidget(hidden)
    hidden.hide()
    section.connect("contentsCollapsed(bool)", heard.append)
    section.show()
    section.collapsed = True
    assert not label.visible and not section.checked
    section.collapsed = False
    assert label.visible and not hidden.visible
    assert heard == [True, False]
    with pytest.raises(AttributeError):
        section.setCollapsed(True)
    section.hide()


def test_ctk_slider_and_path_edit_say_what_changed(ctk, tmp_path: Path) -> None:
    slider, heard = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", heard.append)
    slider.minimum, slider.maximum, slider.singleStep, slider.decimals = 1, 30, 1, 0
    slider.value = 12
    slider.value = 99
    assert heard == [1.0, 12.0, 30.0]
    edit = ctk.ctkPathLineEdit()
    edit.settingKey = "paths"
    edit.connect("currentPathChanged(QString)", heard.append)
    edit.currentPath = str(tmp_path)
    edit.addCurrentPathToHistory()
    assert heard[3] == str(tmp_path) and edit.currentPath == str(tmp_path)
    another = ctk.ctkPathLineEdit()
    another.settingKey = "paths"
    assert another.comboBox().count == 1 and another.currentPath == ""


# ----------------------------------------------------------------------------------------------------- dialogs


def test_messages_are_kept_and_questions_answered_as_queued(host) -> None:
    slicer.util.errorDisplay("No image in it.")
    slicer.util.infoDisplay("Saved.")
    host.answer(True, False)
    assert slicer.util.confirmYesNoDisplay("Overwrite?") is True
    assert slicer.util.confirmOkCancelDisplay("Install?") is False
    assert host.dialogs.texts("error") == ["No image in it."]
    assert host.dialogs.texts("question") == ["Overwrite?", "Install?"]
    assert [dialog.answer for dialog in host.dialogs[2:]] == [True, False]


def test_question_that_nobody_expected_is_refused_and_fails_the_test(host) -> None:
    assert slicer.util.confirmOkCancelDisplay("Install torch?") is False
    with pytest.raises(AssertionError, match="Install torch"):
        host.process()


def test_answer_that_nobody_asked_for_fails_the_test(host) -> None:
    host.answer(True)
    with pytest.raises(AssertionError, match="no dialog asked"):
        host.reset()


def test_box_with_buttons_of_its_own_is_answered_by_their_text(host, qt) -> None:
    box = qt.QMessageBox()
    box.text = "The mask was corrected by hand."
    box.icon = qt.QMessageBox.Question
    keep = box.addButton("Keep", qt.QMessageBox.RejectRole)
    box.addButton("Replace", qt.QMessageBox.AcceptRole)
    host.answer("Keep")
    box.exec_()
    assert box.clickedButton() is keep
    host.answer(True)
    assert qt.QMessageBox.question(None, "t", "Really?") == qt.QMessageBox.Yes


def test_file_dialogs_give_one_str_as_pythonqt_does(host, qt) -> None:
    host.answer("/data/cine.nii.gz", "", ["/a", "/b"])
    assert qt.QFileDialog.getOpenFileName(None, "Load", "", "*.nii.gz") == "/data/cine.nii.gz"
    assert qt.QFileDialog.getExistingDirectory(None, "Folder") == ""
    assert qt.QFileDialog.getOpenFileNames() == ("/a", "/b")
    assert [dialog.kind for dialog in host.dialogs] == ["open", "folder", "open"]


def test_without_main_window_errors_are_only_logged(host, caplog) -> None:
    host.showMainWindow(False)
    assert slicer.util.mainWindow() is None
    slicer.util.errorDisplay("No window.")
    assert not host.dialogs and "No window." in caplog.text


def test_nothing_is_installed_and_no_browser_opened(host, qt) -> None:
    slicer.util.pip_install("scikit-image>=0.22")
    slicer.packaging.pip_ensure(["scikit-image"])
    qt.QDesktopServices.openUrl(qt.QUrl("https://www.slicer.org"))
    assert host.installs == ["scikit-image>=0.22", ["scikit-image"]]
    assert host.opened == ["https://www.slicer.org"]


# ------------------------------------------------------------------------------------------------- .ui files

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Panel</class>
 <widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="verticalLayout">
  <item><widget class="ctkCollapsibleButton" name="section">
   <property name="text"><string>Cine MR</string></property>
   <property name="collapsed"><bool>true</bool></property>
   <layout class="QFormLayout" name="form"><item row="0" column="1">
    <widget class="qMRMLNodeComboBox" name="selector">
     <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
     <property name="noneEnabled"><bool>true</bool></property>
     <property name="SlicerParameterName" stdset="0"><string>volume</string></property>
    </widget></item><item row="1" column="1">
    <widget class="qMRMLNodeComboBox" name="forgotten">
     <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
    </widget></item></layout></widget></item>
  <item><widget class="ctkPathLineEdit" name="folder">
   <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Readable</set></property></widget></item>
  <item><widget class="QCheckBox" name="cycle">
   <property name="text"><string>Whole cycle</string></property>
   <property name="SlicerParameterName" stdset="0"><string>wholeCycle</string></property></widget></item>
  <item><widget class="QPushButton" name="button">
   <property name="toolTip"><string>Go.</string></property></widget></item>
 </layout></widget>
 <customwidgets>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header><container>1</container></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>qMRMLNodeComboBox.h</header></customwidget>
  <customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><header>ctkCollapsibleButton.h</header><container>1</container></customwidget>
  <customwidget><class>ctkPathLineEdit</class><extends>QWidget</extends><header>ctkPathLineEdit.h</header></customwidget>
 </customwidgets>
 <connections>
  <connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>
  <connection><sender>cycle</sender><signal>toggled(bool)</signal>
   <receiver>button</receiver><slot>setDisabled(bool)</slot></connection>
 </connections></ui>"""


@pytest.fixture
def panel(host, tmp_path: Path):
    path = tmp_path / "Panel.ui"
    path.write_text(UI)
    widget = slicer.util.loadUI(str(path))
    widget.hide()
    return widget


def test_ui_connection_is_made_where_listed_and_only_there(panel, qt) -> None:
    ui = slicer.util.childWidgetVariables(panel)
    assert not ui.selector.enabled
    panel.setMRMLScene(slicer.mrmlScene)
    assert ui.selector.enabled and ui.selector.mrmlScene() is slicer.mrmlScene
    assert not ui.forgotten.enabled and ui.forgotten.mrmlScene() is None
    ui.cycle.checked = True
    assert not ui.button.enabled
    with pytest.raises(AttributeError):
        ui.noSuchWidget  # noqa: B018
    with pytest.raises(AttributeError):
        panel.selector  # noqa: B018


def test_ui_gives_pythonqt_like_widgets_with_their_properties(panel, qt, ctk) -> None:
    ui = slicer.util.childWidgetVariables(panel)
    assert type(ui.cycle) is qt.QCheckBox and type(ui.section) is ctk.ctkCollapsibleButton
    assert ui.section.collapsed and ui.section.text == "Cine MR"
    assert ui.selector.nodeTypes == ("vtkMRMLScalarVolumeNode",) and ui.selector.noneEnabled
    assert ui.selector.property("SlicerParameterName") == "volume"
    assert ui.folder.filters == ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Readable
    assert ui.button.toolTip == "Go."


def test_ui_with_an_unknown_class_or_connection_is_refused(host, tmp_path: Path) -> None:
    for old, new, said in (
        ('"QCheckBox" name="cycle"', '"ctkNoSuchWidget" name="cycle"', "ctkNoSuchWidget"),
        ("toggled(bool)", "toggle(bool)", "cannot be made"),
        ("setDisabled(bool)", "setDisable(bool)", "cannot be made"),
    ):
        path = tmp_path / "Wrong.ui"
        path.write_text(UI.replace(old, new))
        with pytest.raises(RuntimeError, match=said):
            slicer.util.loadUI(str(path))
    with pytest.raises(RuntimeError, match="not found"):
        slicer.util.loadUI(str(tmp_path / "None.ui"))


# --------------------------------------------------------------------------------------------- parameter nodes


class Device(enum.Enum):
    AUTO = "auto"
    CPU = "cpu"


def wrapper_class():
    from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper

    @parameterNodeWrapper
    class Parameters:
        volume: Optional[slicer.vtkMRMLScalarVolumeNode] = None  # noqa: FA100
        wholeCycle: bool = False
        device: Device = Device.AUTO
        frame: Annotated[int, WithinRange(1, 30), Default(1)]
        height: Optional[float] = None  # noqa: FA100
        model: Annotated[str, Choice(["fast", "accurate"])] = "fast"
        output: Path
        files: list[str]

    return Parameters


@pytest.fixture
def parameters(host):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "parameters")
    return wrapper_class()(node)


def test_parameter_node_has_defaults_and_refuses_what_does_not_fit(parameters) -> None:
    assert (parameters.volume, parameters.wholeCycle, parameters.device) == (None, False, Device.AUTO)
    assert (parameters.frame, parameters.height, parameters.model) == (1, None, "fast")
    assert parameters.output == Path() and list(parameters.files) == []
    for name, value, error in (
        ("wholeCycle", 1, TypeError),
        ("frame", 2.0, TypeError),
        ("frame", 31, ValueError),
        ("frame", np.int64(3), TypeError),
        ("model", "other", ValueError),
        ("height", "tall", TypeError),
        ("output", "a/path", TypeError),
        ("volume", slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode"), TypeError),
        ("files", [1], TypeError),
    ):
        before = parameters.getValue(name)
        with pytest.raises(error):
            setattr(parameters, name, value)
        assert parameters.getValue(name) == before, name


def test_parameter_is_stored_as_slicer_stores_it(parameters) -> None:
    volume = add_volume()
    parameters.volume, parameters.device, parameters.height = volume, Device.CPU, 182.5
    parameters.files.append("fold0.pt")
    parameters.files.append("fold1.pt")
    node = parameters.parameterNode
    assert node.GetNodeReferenceID("volume_0") == volume.GetID()
    assert node.GetParameter("device") == "CPU" and node.GetParameter("height_0") == "182.5"
    assert [node.GetParameter(f"files_{key}") for key in ("len", 0, 1)] == ["2", "fold0.pt", "fold1.pt"]
    slicer.mrmlScene.RemoveNode(volume)
    assert parameters.volume is None


def test_change_of_a_parameter_is_one_event_and_seen_by_another_wrapper(parameters) -> None:
    other, events = type(parameters)(parameters.parameterNode), []
    tag = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: events.append(other.frame))
    parameters.frame = 9
    assert events == [9]
    with slicer.util.NodeModify(parameters):
        parameters.frame = 10
        parameters.wholeCycle = True
    assert events == [9, 10]
    parameters.RemoveObserver(tag)


def test_parameter_types_that_slicer_58_does_not_take_are_refused(host) -> None:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    for kind in (set, eval("int | None"), dict):
        with pytest.raises(Exception, match="serializer"):
            parameterNodeWrapper(type("P", (), {"__annotations__": {"value": kind}, "__module__": __name__}))
    with pytest.raises(ValueError, match="reserved"):
        parameterNodeWrapper(type("P", (), {"connectGui": 1, "__annotations__": {"a": int}, "__module__": __name__}))


def test_gui_and_parameters_follow_each_other(host, panel, parameters) -> None:
    panel.setMRMLScene(slicer.mrmlScene)
    ui = slicer.util.childWidgetVariables(panel)
    volume, other = add_volume("one"), add_volume("two")
    tag = parameters.connectGui(ui)
    host.choose(ui.selector, volume)
    ui.cycle.click()
    assert parameters.volume is volume and parameters.wholeCycle
    parameters.volume, parameters.wholeCycle = other, False
    assert ui.selector.currentNode() is other and not ui.cycle.checked
    parameters.disconnectGui(tag)
    host.choose(ui.selector, volume)
    assert parameters.volume is other


def test_before_slicer_512_connect_gui_gives_no_tag_and_stays_connected(host, panel, parameters) -> None:
    host.parameterNodes.connectGuiReturnsTag = False
    ui = slicer.util.childWidgetVariables(panel)
    tag = parameters.connectGui(ui)
    parameters.disconnectGui(tag)
    ui.cycle.click()
    assert tag is None and parameters.wholeCycle
    # what does give a tag in every version
    tag = parameters.connectParametersToGui({"volume": ui.selector})
    parameters.disconnectGui(tag)
    assert isinstance(tag, int)


def test_widget_without_a_connector_raises_as_in_slicer(parameters, qt, ctk) -> None:
    for name, widget in (
        ("model", qt.QPlainTextEdit()),
        ("wholeCycle", qt.QRadioButton()),
        ("wholeCycle", ctk.ctkCollapsibleButton()),
        ("frame", ctk.ctkSliderWidget()),
        ("files", qt.QLineEdit()),
    ):
        with pytest.raises(RuntimeError, match="GUI connector"):
            parameters.connectParametersToGui({name: widget})
    with pytest.raises(ValueError, match="Cannot find a param"):
        parameters.connectParametersToGui({"nothing": qt.QCheckBox()})


def test_connecting_sets_range_and_choices_of_the_widget(parameters, qt) -> None:
    spin, model, device = qt.QSpinBox(), qt.QComboBox(), qt.QComboBox()
    parameters.connectParametersToGui({"frame": spin, "model": model, "device": device})
    assert (spin.minimum, spin.maximum) == (1, 30)
    assert [model.itemText(i) for i in range(model.count)] == ["fast", "accurate"]
    device.currentIndex = 1
    spin.value = 12
    assert (parameters.device, parameters.frame) == (Device.CPU, 12)


def test_parameter_node_survives_mrb_with_its_node_references(host, parameters, tmp_path: Path) -> None:
    volume = add_volume("cine")
    slicer.util.arrayFromVolume(volume)[1, 2, 3] = 77
    slicer.util.arrayFromVolumeModified(volume)
    parameters.volume, parameters.height = volume, 170.0
    parameters.files = ["a.pt"]
    parameters.parameterNode.SetAttribute("ModuleName", "Test")
    host.saveScene(tmp_path / "scene.mrb")
    host.closeScene()
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    other = add_volume("takes the ID")
    host.loadScene(tmp_path / "scene.mrb")
    (node,) = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
    loaded = type(parameters)(node)
    assert loaded.volume.GetName() == "cine" and loaded.volume is not other
    assert (loaded.height, list(loaded.files), loaded.device) == (170.0, ["a.pt"], Device.AUTO)
    assert slicer.util.arrayFromVolume(loaded.volume)[1, 2, 3] == 77


# ------------------------------------------------------------------------------------------------ MRML widgets


@pytest.fixture
def combo(host):
    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.noneEnabled = True
    combo.setMRMLScene(slicer.mrmlScene)
    yield combo
    combo.setMRMLScene(None)


def test_node_combo_box_follows_the_scene(combo) -> None:
    heard = []
    combo.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: heard.append(node and node.GetName()))
    combo.connect("currentNodeChanged(bool)", heard.append)
    volume = add_volume("ED")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "table")
    assert (combo.nodeCount(), combo.currentNode(), combo.currentNodeID) == (1, None, "")
    combo.setCurrentNode(volume)
    assert combo.currentNode() is volume and combo.currentNodeID == volume.GetID()
    slicer.mrmlScene.RemoveNode(volume)
    assert (combo.nodeCount(), combo.currentNode()) == (0, None)
    assert heard == ["ED", True, None, False]


def test_node_combo_box_hides_and_filters(combo) -> None:
    hidden, labelmap = add_volume("hidden"), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    assert combo.nodeCount() == 2
    combo.showChildNodeTypes = False
    hidden.SetHideFromEditors(True)
    assert combo.nodeCount() == 0
    combo.showHidden, combo.showChildNodeTypes = True, True
    combo.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "cine")
    assert combo.nodeCount() == 0
    labelmap.SetAttribute("Kind", "cine")
    assert combo.nodeFromIndex(0) is labelmap
    combo.setCurrentNode(hidden)
    assert combo.currentNode() is None
    with pytest.raises(TypeError):
        combo.nodeTypes = "vtkMRMLScalarVolumeNode"


def test_node_combo_box_without_none_takes_the_first_node(combo) -> None:
    combo.noneEnabled = False
    first, second = add_volume("1"), add_volume("2")
    assert combo.currentNode() is first
    slicer.mrmlScene.RemoveNode(first)
    assert combo.currentNode() is second


def test_user_of_a_node_combo_box_changes_and_activates(host, combo) -> None:
    heard, volume = [], add_volume()
    combo.connect("nodeActivated(vtkMRMLNode*)", heard.append)
    host.choose(combo, volume)
    host.choose(combo, None)
    assert heard == [volume, None]
    with pytest.raises(ValueError, match="Signal"):
        combo.connect("currentNodeChanged(QString)", print)


def add_cine(frames: int = 4):
    """A sequence whose frame ``i`` holds ``i`` everywhere, its browser and proxy."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
    for index in range(frames):
        volume = add_volume(f"frame {index}")
        slicer.util.arrayFromVolume(volume)[:] = index
        sequence.SetDataNodeAtValue(volume, str(index))
        slicer.mrmlScene.RemoveNode(volume)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return sequence, browser, browser.GetProxyNode(sequence)


def test_browsing_a_sequence_moves_its_proxy_and_play_runs(host) -> None:
    _, browser, proxy = add_cine()
    for index in (2, 0, 3):
        browser.SetSelectedItemNumber(index)
        assert slicer.util.arrayFromVolume(proxy).max() == index
    assert slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(proxy) is browser
    browser.SetSelectedItemNumber(0)
    browser.SetPlaybackRateFps(50.0)
    browser.SetPlaybackActive(True)
    host.waitFor(lambda: browser.GetSelectedItemNumber() > 0)
    browser.SetPlaybackActive(False)


def test_sparse_segmentation_sequence_is_the_trap_that_it_is_in_slicer(host) -> None:
    _, browser, proxy = add_cine(6)
    masks = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "masks")
    for index, size in ((0, 8), (3, 2)):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        node.SetReferenceImageGeometryParameterFromVolumeNode(proxy)
        node.GetSegmentation().AddEmptySegment("LV", "LV")
        mask = np.zeros((4, 20, 30), np.uint8)
        mask[1, :size, :10] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LV", proxy)
        masks.SetDataNodeAtValue(node, str(index))
        slicer.mrmlScene.RemoveNode(node)
    browser.AddSynchronizedSequenceNode(masks)
    browser.SetSaveChanges(masks, True)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    shown = browser.GetProxyNode(masks)
    browser.SetSelectedItemNumber(0)
    browser.SetSelectedItemNumber(1)
    assert slicer.util.arrayFromSegmentBinaryLabelmap(shown, "LV", proxy).sum() == 80  # of ED, shown at frame 1
    assert masks.GetNumberOfDataNodes() == 3  # and stored there


@pytest.fixture
def editor(host):
    volume = add_volume()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "ED")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name in ("LV", "RV"):
        node.GetSegmentation().AddEmptySegment(name, name)
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setMRMLScene(slicer.mrmlScene)
    editor.setMaximumNumberOfUndoStates(10)
    editor.setSegmentationNode(node)
    editor.setSourceVolumeNode(volume)
    yield editor
    editor.setSegmentationNode(None)
    editor.setMRMLSegmentEditorNode(None)


def test_segment_editor_paints_over_undoes_and_fires_the_real_events(host, editor) -> None:
    node, volume, events = editor.segmentationNode(), editor.sourceVolumeNode(), []

    def voxels() -> list[int]:
        return [int(slicer.util.arrayFromSegmentBinaryLabelmap(node, name, volume).sum()) for name in ("LV", "RV")]

    event = slicer.vtkSegmentation.SourceRepresentationModified
    tag = node.GetSegmentation().AddObserver(event, lambda caller, event: events.append(1))
    mask = np.zeros((4, 20, 30), bool)
    mask[1, 5:8, 5:9] = True
    host.paint(editor, "LV", mask)
    assert voxels() == [12, 0] and events
    host.paint(editor, "RV", mask)
    assert voxels() == [0, 12]
    editor.undo()
    assert voxels() == [12, 0]
    editor.undo()
    editor.redo()
    host.paint(editor, "LV", np.roll(mask, 2, axis=2), erase=True)
    assert voxels() == [6, 0]
    node.GetSegmentation().RemoveObserver(tag)
    with pytest.raises(ValueError, match="source volume"):
        host.paint(editor, "LV", mask[:2])


def test_segment_editor_knows_effects_by_name_only(editor) -> None:
    editor.setActiveEffectByName("Paint")
    assert editor.activeEffect().name == "Paint"
    assert editor.mrmlSegmentEditorNode().GetActiveEffectName() == "Paint"
    editor.setActiveEffect(None)
    assert editor.activeEffect() is None and editor.effectByName("Brush") is None
    with pytest.raises(TypeError):
        editor.setActiveEffect("Paint")


def test_slice_views_are_mrmls_own(host) -> None:
    volume = add_volume()
    volume.CreateDefaultDisplayNodes()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    manager = slicer.app.layoutManager()
    red = manager.sliceWidget("Red")
    assert red.sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()
    red.mrmlSliceNode().RotateToVolumePlane(volume)
    heard = []
    manager.connect("layoutChanged(int)", heard.append)
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert heard == [manager.layout] == [slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView]
    assert manager.layoutLogic().GetLayoutNode().GetViewArrangement() == manager.layout


def test_nodes_are_saved_and_loaded_through_slicer_util(host, tmp_path: Path) -> None:
    volume = add_volume("cine")
    assert slicer.util.saveNode(volume, str(tmp_path / "cine.nrrd"), {})
    assert slicer.util.exportNode(volume, str(tmp_path / "copy.nii.gz"), {})
    for name in ("cine.nrrd", "copy.nii.gz"):
        loaded = slicer.util.loadVolume(str(tmp_path / name), {})
        assert slicer.util.arrayFromVolume(loaded).shape == (4, 20, 30)
    with pytest.raises(RuntimeError):
        slicer.util.loadVolume(str(tmp_path / "none.nrrd"), {})


# ------------------------------------------------------------------------------------------- a scripted module

MODULE = """
    from typing import Optional

    import qt
    import slicer
    import vtk
    from slicer.i18n import tr as _
    from slicer.parameterNodeWrapper import parameterNodeWrapper
    from slicer.ScriptedLoadableModule import *
    from slicer.util import VTKObservationMixin


    class TinyModule(ScriptedLoadableModule):
        def __init__(self, parent):
            ScriptedLoadableModule.__init__(self, parent)
            self.started = 0
            slicer.app.connect("startupCompleted()", self.onStartup)
            self.parent.title = _("Tiny")
            self.parent.categories = ["Cardiac"]

        def onStartup(self):
            self.started += 1


    @parameterNodeWrapper
    class TinyParameters:
        volume: Optional[slicer.vtkMRMLScalarVolumeNode] = None
        wholeCycle: bool = False


    class TinyModuleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
        def __init__(self, parent=None):
            ScriptedLoadableModuleWidget.__init__(self, parent)
            VTKObservationMixin.__init__(self)
            self.said, self._parameters, self._tag = [], None, None

        def setup(self):
            ScriptedLoadableModuleWidget.setup(self)
            widget = slicer.util.loadUI(self.resourcePath("UI/Panel.ui"))
            self.layout.addWidget(widget)
            self.ui = slicer.util.childWidgetVariables(widget)
            widget.setMRMLScene(slicer.mrmlScene)
            self.logic = TinyModuleLogic()
            scene = slicer.mrmlScene
            self.addObserver(scene, scene.StartCloseEvent, lambda caller, event: self.onClose("start"))
            self.addObserver(scene, scene.EndCloseEvent, lambda caller, event: self.onClose("end"))
            self.ui.button.connect("clicked(bool)", self.onClick)

        def enter(self):
            self.said.append(("enter", self.parent.isEntered))
            self.setParameters(self.logic.getParameterNode())

        def exit(self):
            self.said.append(("exit", self.parent.isEntered))
            self.setParameters(None)

        def cleanup(self):
            self.said.append(("cleanup", self.parent.isEntered))
            self.removeObservers()

        def onClose(self, when):
            self.said.append((when, slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")))
            self.setParameters(self.logic.getParameterNode() if when == "end" else None)

        def setParameters(self, parameters):
            if self._parameters:
                self._parameters.disconnectGui(self._tag)
            self._parameters = parameters
            if parameters:
                self._tag = parameters.connectGui(self.ui)

        def onClick(self):
            with slicer.util.tryWithErrorDisplay(_("Failed."), waitCursor=True):
                self.said.append(self.logic.run(self._parameters.volume))


    class TinyModuleLogic(ScriptedLoadableModuleLogic):
        def getParameterNode(self):
            return TinyParameters(super().getParameterNode())

        def run(self, volume):
            if volume is None:
                raise RuntimeError("Choose a volume.")
            return volume.GetName()


    class TinyModuleTest(ScriptedLoadableModuleTest):
        def runTest(self):
            self.delayDisplay("running")
            slicer.modules.TinyModuleWidget.said.append("tested")
"""


@pytest.fixture
def tiny(host, tmp_path: Path):
    folder = tmp_path / "TinyModule"
    (folder / "Resources" / "UI").mkdir(parents=True)
    (folder / "Resources" / "UI" / "Panel.ui").write_text(UI)
    (folder / "TinyModule.py").write_text(textwrap.dedent(MODULE))
    yield host.loadModule(folder / "TinyModule.py")
    sys.path.remove(str(folder))


def test_scripted_module_runs_unmodified(host, tiny) -> None:
    assert tiny.said == [("enter", True)]
    assert slicer.modules.TinyModuleInstance.started == 1
    assert slicer.modules.tinymodule.title == "Tiny" and slicer.util.getModuleLogic("TinyModule") is tiny.logic
    node = slicer.mrmlScene.GetSingletonNode("TinyModule", "vtkMRMLScriptedModuleNode")
    assert node.GetAttribute("ModuleName") == "TinyModule"
    assert tiny.logic.getParameterNode().parameterNode is node
    host.choose(tiny.ui.selector, add_volume("chosen"))
    tiny.ui.button.click()
    assert tiny.said[-1] == "chosen"
    slicer.selfTests["TinyModule"]()
    assert tiny.said[-1] == "tested"


def test_failure_in_a_scripted_module_is_shown_and_raised(host, tiny) -> None:
    tiny.ui.button.click()
    assert host.dialogs[-1].kind == "error" and "Choose a volume." in host.dialogs[-1].text
    with pytest.raises(RuntimeError, match="Choose a volume"):
        host.check()


def test_scene_closes_between_its_events_and_singletons_stay(host, tiny) -> None:
    volume = add_volume()
    host.choose(tiny.ui.selector, volume)
    tiny.said.clear()
    host.closeScene()
    assert tiny.said == [("start", 1), ("end", 0)]
    assert tiny._parameters.volume is None and tiny.ui.selector.currentNode() is None
    assert slicer.mrmlScene.GetSingletonNode("TinyModule", "vtkMRMLScriptedModuleNode") is not None


def test_leaving_entering_and_unloading_call_the_module_as_slicer_does(host, tiny) -> None:
    host.selectModule("")
    assert tiny.said[-1] == ("exit", False) and not tiny.parent.isEntered
    slicer.util.selectModule("TinyModule")
    assert tiny.said[-1] == ("enter", True)
    host.reset()
    assert tiny.said[-2:] == [("exit", False), ("cleanup", False)]
    assert not hasattr(slicer.modules, "tinymodule")


def test_observer_that_survives_cleanup_fails_the_test(host, tiny) -> None:
    tiny.removeObservers = lambda: None
    with pytest.raises(AssertionError, match="left observers"):
        host.reset()
    del tiny.removeObservers
    tiny.removeObservers()


def test_module_object_refuses_attributes_that_slicer_has_not(host) -> None:
    module = slicer.qSlicerScriptedLoadableModule("Name", "/a/Name.py")
    with pytest.raises(AttributeError):
        module.titel = "x"
    with pytest.raises(TypeError):
        module.categories = "Cardiac"
