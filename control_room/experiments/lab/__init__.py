"""The lab: the same orders through small consumers and producers written the wrong ways and the right one, counted.

Each file in `ways` is one way. `shop.py` is what its processes work with, `worker.py` starts them, `trial.py` takes one
way through the faults and `run.py` all of them, `record.py` counts what is in the files that they leave.
"""


class LabFailed(Exception):
    """The lab could not do what it has to do; the message says what it was."""
