"""Agnostic masks: the rule, and the skeleton that it is written in."""
