"""Pickles that name callables run nothing, wherever weights are read from."""

import pickle

from benchmarks.hostile_pickles import READERS, calls, changed, files, read_outcome


def test_no_callable_of_a_pickle_is_called(tmp_path, monkeypatch):
    trace, path = tmp_path / "trace", tmp_path / "weights.bin"
    monkeypatch.syspath_prepend(tmp_path)
    whole = [file for name, hostile in calls(trace, tmp_path).items() for file in files(hostile, name)]
    trace.unlink(missing_ok=True)  # of making them
    some = [file for file in whole if file[0].endswith(("zipped", "older", "protocol 2", "protocol 4"))][::9]
    path.write_bytes(dict(whole)["exec as alone, protocol 4"])
    assert read_outcome(lambda path: pickle.loads(path.read_bytes()), path, trace) == "executed"  # it would be seen
    outcomes = set()
    for name, content in [*some, *changed(whole, 20, 0)]:
        path.write_bytes(content)
        for reader, read in READERS.items():
            outcome = read_outcome(read, path, trace)
            assert outcome in ("read", "refused"), f"{name}, as {reader}"
            outcomes.add(outcome)
    assert outcomes == {"read", "refused"}


def test_a_length_beyond_all_memory_is_a_damaged_file(tmp_path):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"x.")
    for read in READERS.values():
        assert read_outcome(read, path, tmp_path / "trace") == "refused"
