"""The panels of this system's control room: one line each."""

from control_room.dashboard.page import (
    analytics,
    audit,
    dead_letters,
    order,
    process_control,
    quests,
    scenarios,
)
from control_room.dashboard.page.panel import Panel

PANELS: tuple[Panel, ...] = (
    scenarios.PANEL,
    quests.PANEL,
    process_control.PANEL,
    dead_letters.PANEL,
    audit.PANEL,
    analytics.PANEL,
    order.PANEL,
)
"""From left to right; the first one is open."""

CHIPS: tuple[Panel, ...] = (
    audit.PANEL,
    scenarios.PANEL,
    dead_letters.PANEL,
)
"""Those that have something to say in the heading."""
