"""For tests, yours and ours. No product code imports it; docs/recipes/test-with-crash-points.md shows it at work.

`crash_points.py` kills a handler between every two of its steps. `plugin.py` is the pytest plugin with the fixtures: a
private broker, a system of processes, `crash_points`. `waiting.py`: `eventually`. `parts.py`: parts of a service alone.
`faults.py` and `lost_answers.py`: fault injection. `brokers.py`: virtual hosts.
"""
