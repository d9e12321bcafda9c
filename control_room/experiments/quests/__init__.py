"""The quests: what a viewer may try to do to a running system. They watch what happens, and the audit is the judge.

`quest.py` says what a quest is and follows one; `catalogue.py` holds them all.
"""

from control_room.experiments.quests.catalogue import QUESTS
from control_room.experiments.quests.quest import Help, NoHelp, Quest

__all__ = ["QUESTS", "Help", "NoHelp", "Quest"]
