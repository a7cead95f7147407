"""Progress of a simulation, as every command shows it."""

from common.terminal import Bars, Lines, progress_on

__all__ = ["Bars", "Lines", "progress_on"]
