"""Downloads from a Hub on loopback, with the real client: what arrives, what is refused, and what stays behind."""

import errno
import hashlib
import shutil

import pytest
from support.hub_contents import LARGE, LARGE_FILE, NAME, SMALL, SMALL_FILE, cached_content
from support.sentences import sentence

from stableviton_sdk.errors import InvalidInput, WeightsUnavailable
from stableviton_sdk.hub import download as sdk_hub
from stableviton_sdk.hub.download import fetch_file, fetch_folder
from stableviton_sdk.hub.known_repos import known_repo


def test_large_and_small_files_arrive_and_the_second_time_nothing_is_downloaded(hub):
    path = fetch_file(NAME, LARGE_FILE)
    assert path.read_bytes() == LARGE
    assert fetch_file(NAME, SMALL_FILE).read_bytes() == SMALL
    assert ("GET", f"/cdn/{hashlib.sha256(LARGE).hexdigest()}") in hub.take_requests()
    assert fetch_file(NAME, LARGE_FILE) == path
    assert {method for method, _ in hub.take_requests()} == {"HEAD"}


def test_a_pinned_commit_is_served_from_the_cache_without_asking_the_hub(hub):
    commit = hub.repositories[NAME].branches["main"]
    path = fetch_file(NAME, LARGE_FILE, revision=commit)
    hub.take_requests()
    assert fetch_file(NAME, LARGE_FILE, revision=commit) == path
    assert hub.take_requests() == []


def test_a_pinned_revision_keeps_the_old_content_when_the_repository_moves_on(hub):
    commit = hub.repositories[NAME].branches["main"]
    hub.commit(NAME, {LARGE_FILE: LARGE[::-1]})
    assert fetch_file(NAME, LARGE_FILE, revision=commit).read_bytes() == LARGE
    assert fetch_file(NAME, LARGE_FILE).read_bytes() == LARGE[::-1]


def test_spaces_are_another_kind_of_repository(hub):
    hub.commit(f"spaces/{NAME}", {LARGE_FILE: LARGE[::-1]})
    assert fetch_file(NAME, LARGE_FILE, repo_type="space").read_bytes() == LARGE[::-1]
    assert fetch_file(NAME, LARGE_FILE).read_bytes() == LARGE


@pytest.mark.parametrize("offline_by", ["argument", "environment"])
def test_offline_the_cache_serves_and_what_it_lacks_is_one_sentence(hub, monkeypatch, offline_by):
    path = fetch_file(NAME, LARGE_FILE)
    hub.take_requests()
    options = {"local_files_only": True} if offline_by == "argument" else {}
    if offline_by == "environment":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch_file(NAME, LARGE_FILE, **options) == path
    with pytest.raises(WeightsUnavailable) as error:
        fetch_file(NAME, SMALL_FILE, **options)
    assert "downloading is off: run once with a network" in sentence(error)
    with pytest.raises(InvalidInput) as error:
        fetch_file(NAME, LARGE_FILE, force_download=True, **options)
    assert "force_download" in sentence(error)
    assert hub.take_requests() == []


def test_what_a_branch_stood_for_is_found_offline_after_only_the_pinned_commit_was_loaded(hub):
    commit = hub.repositories[NAME].branches["main"]
    fetch_file(NAME, LARGE_FILE, revision=commit)
    with pytest.raises(WeightsUnavailable):
        fetch_file(NAME, LARGE_FILE, local_files_only=True)
    fetch_file(NAME, LARGE_FILE)
    assert fetch_file(NAME, LARGE_FILE, local_files_only=True).read_bytes() == LARGE


def test_no_network_is_one_sentence_and_what_is_cached_still_loads(hub, tmp_path):
    path = fetch_file(NAME, LARGE_FILE)
    hub.stop()
    assert fetch_file(NAME, LARGE_FILE) == path
    with pytest.raises(WeightsUnavailable) as error:
        fetch_file(NAME, SMALL_FILE)
    assert "no connection to the Hub" in sentence(error)
    assert SMALL_FILE in str(error.value)


@pytest.mark.parametrize(
    "kind, value, expected",
    [
        ("status", 503, "HTTP 503; try again later"),
        ("status", 429, "HTTP 429; try again later"),
        ("page", None, "what answers is not the Hub"),
        ("close", None, "the connection broke off"),
    ],
)
def test_a_hub_that_answers_wrongly_is_one_sentence_and_what_is_cached_still_loads(hub, kind, value, expected):
    path = fetch_file(NAME, LARGE_FILE)
    hub.fail("", kind, value, methods=("HEAD", "GET"))
    assert fetch_file(NAME, LARGE_FILE) == path
    with pytest.raises(WeightsUnavailable) as error:
        fetch_file(NAME, SMALL_FILE)
    assert expected in sentence(error)


def test_a_hub_that_hangs_is_given_up(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.fail("", "delay", 30, methods=("HEAD", "GET"))
    for fetch in (lambda: fetch_file(NAME, LARGE_FILE), lambda: fetch_folder(NAME)):
        with pytest.raises(WeightsUnavailable) as error:
            fetch()
        assert "no connection to the Hub" in sentence(error)


def test_a_connection_that_breaks_once_is_resumed(hub, no_waiting):
    hub.fail("/cdn/", "break", times=1)
    assert fetch_file(NAME, LARGE_FILE).read_bytes() == LARGE
    assert [method for method, path in hub.take_requests() if "/cdn/" in path] == ["GET", "GET"]


@pytest.mark.parametrize("kind", ["break", "short"])
def test_a_broken_download_is_one_sentence_and_leaves_nothing_behind(hub, tmp_path, no_waiting, kind):
    hub.fail("/cdn/", kind)
    with pytest.raises(WeightsUnavailable) as error:
        fetch_file(NAME, LARGE_FILE)
    assert "the connection broke off; try again" in sentence(error)
    assert cached_content(tmp_path / "home") == []
    hub.heal()
    assert fetch_file(NAME, LARGE_FILE).read_bytes() == LARGE


@pytest.mark.parametrize("file, where", [(LARGE_FILE, "/cdn/"), (SMALL_FILE, SMALL_FILE)])
def test_content_that_disagrees_with_the_hubs_checksum_is_deleted(hub, tmp_path, file, where):
    hub.fail(where, "corrupt")
    with pytest.raises(WeightsUnavailable) as error:
        fetch_file(NAME, file)
    assert "arrived damaged" in sentence(error)
    assert cached_content(tmp_path / "home") == []
    hub.heal()
    assert fetch_file(NAME, file).read_bytes() == (LARGE if file == LARGE_FILE else SMALL)


def test_a_forced_download_that_arrives_damaged_is_deleted_too(hub):
    fetch_file(NAME, LARGE_FILE)
    hub.fail("/cdn/", "corrupt")
    with pytest.raises(WeightsUnavailable, match="arrived damaged"):
        fetch_file(NAME, LARGE_FILE, force_download=True)
    with pytest.raises(WeightsUnavailable, match="not in the cache"):
        fetch_file(NAME, LARGE_FILE, local_files_only=True)


def test_a_process_that_dies_before_the_check_leaves_a_file_that_is_checked_the_next_time(hub, monkeypatch):
    hub.fail("/cdn/", "corrupt", times=1)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sdk_hub, "has_expected_hash", die)
        with pytest.raises(KeyboardInterrupt):
            fetch_file(NAME, LARGE_FILE)
    with pytest.raises(WeightsUnavailable, match="damaged in the cache"):
        fetch_file(NAME, LARGE_FILE, local_files_only=True)
    assert fetch_file(NAME, LARGE_FILE).read_bytes() == LARGE


def test_a_file_that_rotted_in_the_cache_is_replaced_where_that_is_asked_for(hub):
    path = fetch_file(NAME, LARGE_FILE)
    path.resolve().write_bytes(LARGE[:-1] + b"?")
    assert fetch_file(NAME, LARGE_FILE).read_bytes() != LARGE
    assert fetch_file(NAME, LARGE_FILE, verify_cached=True).read_bytes() == LARGE


def test_a_known_checksum_is_compared_before_anything_is_downloaded(hub):
    digest = hashlib.sha256(LARGE).hexdigest()
    assert fetch_file(NAME, LARGE_FILE, sha256=digest[:8]).read_bytes() == LARGE
    hub.commit(NAME, {LARGE_FILE: LARGE[::-1]})
    hub.take_requests()
    with pytest.raises(WeightsUnavailable) as error:
        fetch_file(NAME, LARGE_FILE, sha256=digest[:8])
    assert "has changed" in sentence(error)
    assert hub.repositories[NAME].branches["main"] in str(error.value)
    assert {method for method, _ in hub.take_requests()} == {"HEAD"}


def test_a_known_checksum_is_compared_where_the_hub_states_none(hub, tmp_path):
    with pytest.raises(WeightsUnavailable, match="arrived damaged"):
        fetch_file(NAME, SMALL_FILE, sha256="00000000")
    assert cached_content(tmp_path / "home") == []
    assert fetch_file(NAME, SMALL_FILE, sha256=hashlib.sha256(SMALL).hexdigest()).read_bytes() == SMALL


def test_too_little_room_is_told_before_anything_is_downloaded(hub, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(sdk_hub.shutil, "disk_usage", lambda path: usage._replace(free=len(LARGE) + 10))
    with pytest.raises(WeightsUnavailable) as error:
        fetch_file(NAME, LARGE_FILE, extra_space_ratio=0.5)
    assert "needs 1.6 MB on the disk of" in sentence(error)
    assert "1.0 MB left: make room, or set HF_HOME" in str(error.value)
    assert {method for method, _ in hub.take_requests()} == {"HEAD"}
    assert fetch_file(NAME, LARGE_FILE).read_bytes() == LARGE


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_during_the_download_is_one_sentence_and_leaves_nothing(
    hub, tmp_path, monkeypatch, number
):
    class FullDisk:
        def __init__(self, file):
            self.file, self.left = file, len(LARGE) // 2

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                raise OSError(number, "No space left on device")
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    def get_onto_full_disk(url, temp_file, **options):
        return http_get(url, FullDisk(temp_file), **options)

    from huggingface_hub import file_download

    http_get = file_download.http_get
    monkeypatch.setattr(file_download, "http_get", get_onto_full_disk)
    with pytest.raises(WeightsUnavailable) as error:
        fetch_file(NAME, LARGE_FILE)
    assert "the disk is full" in sentence(error)
    assert cached_content(tmp_path / "home") == []


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"repo_id": "them/nothing"}, "no such repository, or it is private"),
        ({"filename": "ckpts/other.ckpt"}, "no such file in the repository"),
        ({"revision": "v9"}, "no such revision"),
    ],
)
def test_wrong_names_are_one_sentence_each(hub, change, expected):
    with pytest.raises(WeightsUnavailable) as error:
        fetch_file(**{"repo_id": NAME, "filename": LARGE_FILE, **change})
    assert expected in sentence(error)


@pytest.mark.parametrize("name", ["them/a weight", "them/", "a/b/c"])
def test_a_name_that_is_none_is_refused(hub, name):
    with pytest.raises(InvalidInput) as error:
        fetch_file(name, LARGE_FILE)
    assert "owner/name" in sentence(error)
    assert hub.take_requests() == []


@pytest.mark.parametrize("access, expected", [("private", "or it is private"), ("gated", "accept its terms")])
def test_closed_repositories_need_the_right_token(hub, access, expected):
    hub.repositories[NAME].access = access
    for token in (None, "hf_wrong"):
        with pytest.raises(WeightsUnavailable) as error:
            fetch_file(NAME, LARGE_FILE, token=token)
        assert expected in sentence(error)
        assert "hf auth login" in str(error.value)
    path = fetch_file(NAME, LARGE_FILE, token="hf_right")
    assert path.read_bytes() == LARGE
    assert fetch_file(NAME, LARGE_FILE) == path, "what was downloaded before goes on working"


def test_a_bare_403_is_told_as_missing_rights(hub):
    hub.fail("", "status", 403, methods=("HEAD",))
    with pytest.raises(WeightsUnavailable) as error:
        fetch_file(NAME, LARGE_FILE)
    assert "access is denied" in sentence(error)


def test_the_caches_stand_beside_each_other_and_move_together(hub, tmp_path, monkeypatch):
    assert sdk_hub.sdk_cache() == (tmp_path / "home" / "stableviton_sdk").resolve()
    elsewhere = tmp_path / "big"
    assert fetch_file(NAME, LARGE_FILE, cache_dir=elsewhere).is_relative_to(elsewhere)
    assert sdk_hub.sdk_cache(elsewhere) == elsewhere / "stableviton_sdk"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(elsewhere))
    assert sdk_hub.sdk_cache() == elsewhere / "stableviton_sdk"


def test_the_first_checkpoint_is_the_default_and_an_unknown_one_is_refused():
    repo = known_repo("spaces/rlawjdghek/StableVITON")
    assert repo.pick(None)[1].filename == "checkpoints/VITONHD.ckpt"
    assert repo.pick("VITONHD_1024")[1].size == (1024, 768)
    with pytest.raises(InvalidInput) as error:
        repo.pick("VITONHD_2048")
    assert "VITONHD, VITONHD_1024" in sentence(error)
    assert known_repo("somebody/else") is None
