"""For the documentation's reference: types of arguments without the marks that diffusers' form of docstrings has."""

import griffe


class PlainTypes(griffe.Extension):
    """``x (`int`, *optional*, defaults to 1): …`` is read as ``x (int, optional, defaults to 1): …``."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = "\n".join(map(without_marks, obj.docstring.value.split("\n")))


def without_marks(line: str) -> str:
    """A line whose argument's type, if it is an entry's first one, has lost its marks."""
    before, opening, rest = line.partition(" (`")
    types, closing, after = rest.partition("):")
    if not (opening and closing and before.startswith(" ") and before.strip(" *").isidentifier()):
        return line
    return f"{before} ({types.replace('`', '').replace('*', '')}):{after}"
