"""Callbacks that record or interrupt a fit."""


class Killed(BaseException):
    """Exception that simulates the end of the process."""


class Killer:
    """Callback that interrupts the fit at a given step."""

    def __init__(self, at):
        self.at = at
        self.steps = 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "step":
            self.steps += 1
            if self.steps == self.at:
                raise Killed

    def on_fit_task_end(self, estimator, context):
        return False


class Recorder:
    """Callback that records the beginning and end of each task, and can stop tasks."""

    def __init__(self, stop=lambda task, n: False):
        self.stop = stop
        self.calls = []
        self.set_up = 0

    def setup(self, estimator, context):
        self.set_up += 1

    def teardown(self, estimator, context):
        self.set_up -= 1

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name, context.max_subtasks))

    def on_fit_task_end(self, estimator, context):
        self.calls.append(("end", context.task_name, context.max_subtasks))
        return self.stop(context.task_name, self.count("end", context.task_name))

    def count(self, when, task):
        """Return how often a task has begun or ended."""
        return sum(call[:2] == (when, task) for call in self.calls)


class PropagatedRecorder(Recorder):
    """Recorder that searches and pipelines pass on to their inner estimators."""

    max_propagation_depth = None
