"""What an error says to the user."""

import pytest


def sentence(error: pytest.ExceptionInfo) -> str:
    """The message, which must be one line without a traceback's or a client's noise."""
    text = str(error.value)
    assert text.endswith((".", "!"))
    assert "\n" not in text
    assert "Traceback" not in text
    assert len(text) < 500
    return text
