"""Stages: what a frame passes between lwIP and the link. They work in C; here they are set and asked."""

from lwipy.stages.capture import Capture, CaptureCounters
from lwipy.stages.impairment import Direction, Impairment, ImpairmentCounters, ImpairStage, Settings
from lwipy.stages.pacing import PaceStage, Pacing, PacingCounters

__all__ = [
    "Capture", "CaptureCounters", "Direction", "ImpairStage", "Impairment", "ImpairmentCounters", "PaceStage",
    "Pacing", "PacingCounters", "Settings",
]  # fmt: skip
