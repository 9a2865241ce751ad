"""Where a scenario stands in theory: which formulas of `asyncsim.theory` speak of it, and what they say."""

from asyncsim.standing.facts import Facts, facts_of
from asyncsim.standing.limits import Limits, law_of, limits_of, steady, weights_of
from asyncsim.standing.sentence import standing

__all__ = ["Facts", "Limits", "facts_of", "law_of", "limits_of", "standing", "steady", "weights_of"]
