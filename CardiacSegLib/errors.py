"""The errors a user may see: one readable sentence or two, saying what, where and what to do."""

from __future__ import annotations


class CardiacSegError(Exception):
    """Something the user can understand and act on; the command line prints it on one line."""


class StudyError(CardiacSegError):
    """An input is not a cine study that can be read, or contradicts itself."""


class ModelError(CardiacSegError):
    """A model file is unknown, damaged or of another kind."""


class TrainingError(CardiacSegError):
    """Training cannot start or go on with this data, preset or output folder."""
