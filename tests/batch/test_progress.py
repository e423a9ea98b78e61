"""How far a batch is: quiet where nobody looks, JSON for programs, a line for people."""

import io
import json

import pytest

from stableviton_sdk.batch.progress import SPAN, Progress, Speed, describe, format_seconds

EVENT = {"event": "image", "done": 12, "failed": 1, "total": 4000, "per_hour": 1234.5, "seconds_left": 3661, "id": "a"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_speed_is_that_of_the_last_minutes():
    speed = Speed()
    assert speed.per_hour() is None
    for at in (0.0, 10.0, 5.0):  # of several processes, not in order
        speed.add(at)
    assert speed.per_hour() == pytest.approx(2 / 10 * 3600)
    for index in range(11):
        speed.add(10 * SPAN + index)
    assert speed.per_hour() == pytest.approx(3600)


def test_a_line_says_images_an_hour_time_left_and_the_name():
    assert describe(EVENT) == "12 of 4,000 done, 1 failed, 1,234 images an hour, 1:01:01 left, a"


@pytest.mark.parametrize("seconds, text", [(7, "0:07"), (3723, "1:02:03"), (3 * 86400 + 4 * 3600, "3 days 4 h")])
def test_times_are_written_for_people(seconds, text):
    assert format_seconds(seconds) == text


def test_it_is_quiet_when_piped_and_one_line_on_a_terminal(capsys):
    piped, terminal = io.StringIO(), Terminal()
    for stream in (piped, terminal):
        progress = Progress(stream=stream)
        for event in ("start", "image", "end"):
            progress({**EVENT, "event": event})
    assert piped.getvalue() == ""
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().endswith("\n")
    assert capsys.readouterr() == ("", "")


def test_programs_get_json_lines(capsys):
    progress = Progress(as_json=True)
    for event in ("start", "image", "image", "end"):
        progress({**EVENT, "event": event})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["start", "end"]
    assert lines[-1]["done"] == 12
