"""Boxes and file dialogs never block: what they say is kept, what they ask is answered from a queue."""

from __future__ import annotations

import os
from typing import NamedTuple

from PySide6 import QtWidgets

from .qt import qt, strict, wrapped

MessageBox = QtWidgets.QMessageBox
_KINDS = {
    MessageBox.Icon.Critical: "error",
    MessageBox.Icon.Warning: "warning",
    MessageBox.Icon.Information: "info",
    MessageBox.Icon.Question: "question",
}
_AGREE = [MessageBox.StandardButton.Ok, MessageBox.StandardButton.Yes, MessageBox.StandardButton.Retry]
_REFUSE = [MessageBox.StandardButton.Cancel, MessageBox.StandardButton.No, MessageBox.StandardButton.Close]


class Dialog(NamedTuple):
    """One box or file dialog: what it was, what it said, what it was answered."""

    kind: str
    text: str
    title: str
    answer: object


class Dialogs(list):
    """Every Dialog so far, and the answers to those that come."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list = []
        self.unexpected: list[str] = []

    def reset(self) -> None:
        self.clear()
        self.answers.clear()
        self.unexpected.clear()

    def texts(self, kind: str = "") -> list[str]:
        """What was said, of one kind only if named: error, warning, info, question, open, folder, save."""
        return [dialog.text for dialog in self if kind in ("", dialog.kind)]

    def take(self, kind: str, text: str, title: str, default):
        """The next answer; a question that no test expected gets ``default`` and is held against it."""
        if self.answers:
            answer = self.answers.pop(0)
        else:
            self.unexpected.append(f"Nobody answered the {kind} dialog: {title}: {text}")
            answer = default
        self.append(Dialog(kind, text, title, answer))
        return answer


dialogs = Dialogs()


def run(box):
    """A message box that would have been shown: answered, its result returned."""
    kind = _KINDS.get(box.icon, "info")
    # "Show details" closes nothing
    buttons = [b for b in MessageBox.buttons(box) if MessageBox.buttonRole(box, b) != MessageBox.ButtonRole.ActionRole]
    if len(buttons) <= 1:
        dialogs.append(Dialog(kind, box.text, box.windowTitle, True))
        chosen = next(iter(buttons), None)
    else:
        answer = dialogs.take("question" if kind == "info" else kind, box.text, box.windowTitle, False)
        chosen = _button(box, answer)
    if chosen is None:
        return MessageBox.StandardButton.Ok
    chosen.click()
    button = MessageBox.standardButton(box, chosen)
    return QtWidgets.QDialog.result(box) if button == MessageBox.StandardButton.NoButton else button


def _button(box, answer):
    """The button that an answer means: yes or no, a standard button, or a button's text."""
    if isinstance(answer, str):
        by_text = {QtWidgets.QAbstractButton.text(b).replace("&", ""): b for b in MessageBox.buttons(box)}
        return by_text[answer]
    wanted = (_AGREE if answer else _REFUSE) if isinstance(answer, bool) else [answer]
    found = [MessageBox.button(box, kind) for kind in wanted]
    roles = MessageBox.ButtonRole
    role = (roles.AcceptRole, roles.YesRole) if answer else (roles.RejectRole, roles.NoRole)
    found += [b for b in MessageBox.buttons(box) if isinstance(answer, bool) and MessageBox.buttonRole(box, b) in role]
    return next(button for button in found if button is not None)


def _static(icon, default_buttons):
    def show(parent, title, text, buttons=default_buttons, default=None):
        box = qt.QMessageBox()
        box.icon, box.windowTitle, box.text, box.standardButtons = icon, title, text, buttons
        return run(box)

    return staticmethod(show)


@wrapped
class QMessageBox(strict(QtWidgets.QMessageBox)):
    def exec_(self):
        return run(self)

    _ok, _both = MessageBox.StandardButton.Ok, MessageBox.StandardButton.Yes | MessageBox.StandardButton.No
    information = _static(MessageBox.Icon.Information, _ok)
    warning = _static(MessageBox.Icon.Warning, _ok)
    critical = _static(MessageBox.Icon.Critical, _ok)
    question = _static(MessageBox.Icon.Question, _both)


@wrapped
class QDialog(strict(QtWidgets.QDialog)):
    """A dialog of the module's own: True accepts it, False rejects it."""

    def exec_(self):
        accepted = dialogs.take("dialog", self.windowTitle, self.windowTitle, False)
        QtWidgets.QDialog.done(self, int(bool(accepted)))
        return int(bool(accepted))


def _ask(kind: str, plural: bool = False):
    """A static function of QFileDialog; as in PythonQt it returns a str, "" where the user cancels."""

    def show(parent=None, caption: str = "", directory: str = "", filters: str = "", *options):
        if isinstance(directory, os.PathLike):
            raise TypeError(f"Qt takes a str where a path is meant: {directory}")
        answer = dialogs.take(kind, directory, caption, "")
        if plural:
            return tuple(str(path) for path in answer) if answer else ()
        return str(answer) if answer else ""

    return staticmethod(show)


@wrapped
class QFileDialog(strict(QtWidgets.QFileDialog)):
    getOpenFileName = _ask("open")
    getOpenFileNames = _ask("open", plural=True)
    getSaveFileName = _ask("save")
    getExistingDirectory = _ask("folder")
