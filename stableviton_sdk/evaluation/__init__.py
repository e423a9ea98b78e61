"""How good a try-on is, in numbers that others can repeat."""
