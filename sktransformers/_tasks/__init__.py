"""Prediction tasks: target encoding, loss, decoding and score."""

from .base import Task
from .labels import LabelTask
from .multilabel import MultilabelTask
from .numbers import NumberTask
from .tags import TagTask
from .texts import TextTask

__all__ = [
    "TASKS",
    "LabelTask",
    "MultilabelTask",
    "NumberTask",
    "TagTask",
    "Task",
    "TextTask",
    "estimator_names",
    "tasks_of",
]

TASKS: tuple[type[Task], ...] = (
    LabelTask,
    MultilabelTask,
    NumberTask,
    TagTask,
    TextTask,
)
"""All tasks. Loading a saved estimator accepts no others."""


def estimator_names() -> list[str]:
    """Return the names of the estimators that saved files may contain."""
    return list(dict.fromkeys(task.estimator for task in TASKS))


def tasks_of(estimator: str) -> dict[str, type[Task]]:
    """Return the tasks of an estimator, by ``kind``."""
    return {task.kind: task for task in TASKS if task.estimator == estimator}
