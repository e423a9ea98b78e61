"""The HTTP service, as a client on loopback meets it: real server, real model."""

import base64
import io
import threading

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from support.private_photos import SECRETS, private_photo
from support.service import (
    SAMPLES,
    events,
    finished,
    images,
    png,
    refused,
    result,
    running_service,
    submit,
    wait_until,
)

from stableviton_sdk.provenance import DIGITAL_SOURCE_TYPE, read_settings
from stableviton_sdk.serving.guard import Access
from stableviton_sdk.serving.job import Limits


def person(number=1):
    return Image.open(SAMPLES / f"person_{number}.png").convert("RGB")


def mask_of(url):
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


@pytest.fixture(scope="module")
def job(client):
    """A finished job, for tests that only look."""
    made = submit(client, seed="3", quality="exact")
    assert finished(client, made)["status"] == "done"
    return made


def test_info_says_what_there_is(client):
    info = client.get("/v1/info").json()
    assert info["model"] == "bundled"
    assert info["licence"] == "Apache-2.0"
    assert "small bundled model" in info["notice"]
    assert info["categories"] == ["upper", "lower", "dress"]
    assert info["qualities"] == ["exact", "balanced", "fast", "turbo"]
    assert info["defaults"] == {"category": "upper", "quality": "balanced", "detail": 0.85}
    assert info["limits"] == {"upload_bytes": 40 * 2**20, "pixels": 50_000_000, "garments": 12}
    assert info["has_token"] is False
    assert info["samples"]["garments"] == ["/samples/garment_1.png", "/samples/garment_2.png"]
    assert client.get(info["samples"]["persons"][0]).content == (SAMPLES / "person_1.png").read_bytes()
    assert client.get("/healthz").json()["status"] == "ok"


def test_a_try_on_is_the_pipelines_own(client, job, bundled):
    expected = bundled(
        SAMPLES / "person_1.png", SAMPLES / "garment_1.png", generator=torch.Generator().manual_seed(3)
    ).images[0]
    for format in ("png", "webp"):
        np.testing.assert_array_equal(result(client, job, format=format).convert("RGB"), expected)


def test_a_job_is_accepted_with_its_place_and_address(client):
    answer = client.post("/v1/try-on", files=images(), data={"seed": "7"})
    assert answer.status_code == 202
    made = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{made['id']}"
    assert (made["status"], made["seed"], made["error"], made["result"]) == ("queued", 7, None, None)
    done = finished(client, made["id"])
    assert (done["status"], done["seed"], done["result"]) == ("done", 7, {"width": 192, "height": 256})
    assert done["seconds"] > 0


def test_a_seed_is_drawn_where_none_is_sent_and_stands_in_the_result(client):
    made = submit(client)
    seed = finished(client, made)["seed"]
    assert read_settings(client.get(f"/v1/jobs/{made}/result").content)["seed"] == seed


def test_events_tell_the_whole_story(client):
    told = events(client, submit(client, steps="4"))
    names = [name for name, _ in told]
    assert names[-1] == "done"
    assert set(names[:-1]) <= {"queued", "progress"}
    assert told[-1][1]["result"] == {"width": 192, "height": 256}
    steps = [data["step"] for name, data in told if name == "progress"]
    assert steps == sorted(steps)
    previews = [data["preview"] for name, data in told if name == "progress" and data["preview"]]
    assert previews
    preview = Image.open(io.BytesIO(base64.b64decode(previews[0].removeprefix("data:image/jpeg;base64,"))))
    assert preview.size == (192, 256)


def test_events_of_a_finished_job_are_its_end(client, job):
    assert [name for name, _ in events(client, job)] == ["done"]


def test_the_result_keeps_the_photo_outside_the_mask_and_says_how_it_was_made(client):
    with_private_metadata = io.BytesIO()
    private_photo(with_private_metadata, image=person())
    files = images(person=with_private_metadata.getvalue())
    mask = mask_of(client.post("/v1/prepare", files={"person": files["person"]}).json()["mask"])
    made = submit(client, files)
    assert finished(client, made)["status"] == "done"
    content = client.get(f"/v1/jobs/{made}/result").content
    photo = np.asarray(Image.open(io.BytesIO(files["person"])))
    changed = (np.asarray(Image.open(io.BytesIO(content))) != photo).any(axis=2)
    assert not changed[mask == 0].any()
    assert changed[mask == 255].mean() > 0.5
    settings = read_settings(content)
    assert settings["model"] == "bundled"
    assert settings["quality"] == "balanced"
    assert DIGITAL_SOURCE_TYPE.encode() in content
    plain = client.get(f"/v1/jobs/{made}/result", params={"metadata": "false", "format": "webp"}).content
    assert read_settings(plain) is None
    for secret in (*SECRETS, str(SAMPLES)):
        assert secret.encode() not in content + plain


def test_ones_own_mask_decides_what_is_repainted(client):
    mask = np.zeros((256, 192), np.uint8)
    mask[100:180, 60:130] = 255
    made = submit(client, images(mask=png(Image.fromarray(mask))))
    assert finished(client, made)["status"] == "done"
    changed = (np.asarray(result(client, made)) != np.asarray(person())).any(axis=2)
    assert not changed[mask == 0].any()
    assert changed[mask == 255].mean() > 0.5


def test_a_prepared_mask_has_the_photos_size_as_it_is_displayed(client):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    turned = io.BytesIO()
    person().transpose(Image.Transpose.ROTATE_90).save(turned, "PNG", exif=exif)
    prepared = client.post("/v1/prepare", files={"person": turned.getvalue()}, data={"category": "upper"}).json()
    assert (prepared["width"], prepared["height"]) == (192, 256)
    assert prepared["warnings"] == []
    mask = mask_of(prepared["mask"])
    assert mask.shape == (256, 192)
    assert set(np.unique(mask)) == {0, 255}
    upright = mask_of(client.post("/v1/prepare", files={"person": png(person())}).json()["mask"])
    np.testing.assert_array_equal(mask, upright)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "HEIF", "TIFF", "AVIF", "GIF", "BMP"])
def test_photos_of_every_known_kind_are_read(client, format):
    file = io.BytesIO()
    if format == "HEIF":
        pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC files need pillow-heif")
        pillow_heif.from_pillow(person()).save(file, quality=90)
    else:
        person().save(file, format)
    prepared = client.post("/v1/prepare", files={"person": ("IMG_1.heic", file.getvalue(), "text/plain")}).json()
    assert (prepared["width"], prepared["height"]) == (192, 256)


def test_a_cut_out_photo_keeps_its_transparency(client):
    cut_out = person().convert("RGBA")
    cut_out.putalpha(Image.linear_gradient("L").resize(cut_out.size).point(lambda value: max(value, 40)))
    made = submit(client, images(person=png(cut_out)))
    assert finished(client, made)["status"] == "done"
    assert result(client, made).getchannel("A").tobytes() == cut_out.getchannel("A").tobytes()


def test_warnings_go_to_the_one_whose_image_is_doubtful(client):
    misplaced = np.zeros((256, 192), np.uint8)
    misplaced[:8, :8] = 255
    doubtful = submit(client, images(mask=png(Image.fromarray(misplaced))))
    clear = submit(client)
    told, silent = finished(client, doubtful), finished(client, clear)
    assert told["status"] == "failed" or told["warnings"]
    assert silent["warnings"] == []


def test_a_photo_of_nobody_fails_in_one_sentence(client):
    made = submit(client, images(person=png(Image.new("RGB", (192, 256), (200, 200, 200)))))
    failed = finished(client, made)
    assert failed["status"] == "failed"
    assert failed["error"]["code"] == "no_person"
    assert events(client, made)[-1][0] == "failed"
    refused(client.get(f"/v1/jobs/{made}/result"), 422, "no_person")
    empty = {"person": png(Image.new("RGB", (192, 256), (200, 200, 200)))}
    refused(client.post("/v1/prepare", files=empty), 422, "no_person")


def test_a_click_leads_to_the_garments_own_pixel(client, job, bundled):
    attention = bundled(
        SAMPLES / "person_1.png",
        SAMPLES / "garment_1.png",
        generator=torch.Generator().manual_seed(3),
        output_attention=(-1,),
    ).attention
    expected = attention.source_of(96, 120)
    source = client.get(f"/v1/jobs/{job}/source", params={"x": 96, "y": 120}).json()
    assert source["painted"] is True
    assert source["x"] == pytest.approx(expected.x, abs=0.1)
    assert source["y"] == pytest.approx(expected.y, abs=0.1)
    assert source["confidence"] == pytest.approx(expected.certainty, abs=0.01)
    assert client.get(f"/v1/jobs/{job}/source", params={"x": 2, "y": 2}).json()["painted"] is False


def test_a_pixel_that_the_network_did_not_see_has_no_source(client):
    wide = Image.new("RGB", (600, 256), person().getpixel((0, 0)))
    wide.paste(person(), (200, 0))
    made = submit(client, images(person=png(wide)))
    assert finished(client, made)["status"] == "done"
    unseen = client.get(f"/v1/jobs/{made}/source", params={"x": 1, "y": 1}).json()
    assert unseen == {"x": None, "y": None, "confidence": 0.0, "painted": False}
    refused(client.get(f"/v1/jobs/{made}/attended", params={"x": 1, "y": 1}), 422, "invalid_input")


def test_attended_places_glow_on_the_garment_where_the_source_is(client, job):
    garment = Image.open(SAMPLES / "garment_1.png").convert("RGB")
    source = client.get(f"/v1/jobs/{job}/source", params={"x": 96, "y": 120}).json()
    answer = client.get(f"/v1/jobs/{job}/attended", params={"x": 96, "y": 120})
    drawn = Image.open(io.BytesIO(answer.content))
    assert drawn.size == garment.size
    change = np.abs(np.asarray(drawn).astype(int) - np.asarray(garment)).sum(axis=2)
    ordinary = np.abs(np.asarray(drawn).astype(int) - np.asarray(garment) * 0.75).sum(axis=2) < 6
    assert ordinary.mean() > 0.8  # dimmed alone
    rows, columns = np.nonzero(change * ~ordinary)
    weights = change[rows, columns]
    assert np.average(columns, weights=weights) == pytest.approx(source["x"], abs=12)
    assert np.average(rows, weights=weights) == pytest.approx(source["y"], abs=12)


@pytest.mark.parametrize("query", [{"x": 5000, "y": 1}, {"x": -1, "y": 1}, {"x": "a", "y": 1}, {"y": 1}])
def test_pixels_that_there_are_not_are_refused(client, job, query):
    for what in ("source", "attended"):
        answer = client.get(f"/v1/jobs/{job}/{what}", params=query)
        refused(answer, 422, answer.json()["error"]["code"])
        assert answer.json()["error"]["code"] in ("invalid_input", "invalid_field")


def test_a_deleted_job_is_gone_with_its_images(client):
    made = submit(client)
    finished(client, made)
    assert client.delete(f"/v1/jobs/{made}").status_code == 204
    for path in ("", "/events", "/result", "/source?x=1&y=1", "/attended?x=1&y=1"):
        refused(client.get(f"/v1/jobs/{made}{path}"), 404, "unknown_job")
    refused(client.delete(f"/v1/jobs/{made}"), 404, "unknown_job")


def test_a_running_job_is_cancelled_in_the_middle_and_its_stream_says_so(client):
    made = submit(client, steps="100", guidance_scale="2")
    told = []
    thread = threading.Thread(target=lambda: told.extend(events(httpx_client(client), made)))
    thread.start()
    wait_until(lambda: client.get(f"/v1/jobs/{made}").json()["step"] >= 2)
    refused(client.get(f"/v1/jobs/{made}/result"), 409, "not_done")
    assert client.delete(f"/v1/jobs/{made}").status_code == 204
    thread.join(30)
    assert [name for name, _ in told][-1] == "cancelled"
    assert max(data["step"] for name, data in told if name == "progress") < 100
    assert finished(client, submit(client))["status"] == "done"


def httpx_client(client):
    return httpx.Client(base_url=client.base_url, timeout=60, trust_env=False)


def test_a_full_queue_answers_429_and_when_to_come_again(bundled):
    with running_service(bundled, Limits(queue=2), access=Access(requests_a_minute=0)) as client:
        jobs = [submit(client, steps="100") for _ in range(1)]
        wait_until(lambda: client.get(f"/v1/jobs/{jobs[0]}").json()["status"] == "running")
        jobs += [submit(client), submit(client)]
        for answer in (
            client.post("/v1/try-on", files=images()),
            client.post("/v1/prepare", files={"person": images()["person"]}),
        ):
            refused(answer, 429, "queue_full")
            assert int(answer.headers["retry-after"]) >= 1
        places = [client.get(f"/v1/jobs/{job}").json()["place"] for job in jobs]
        assert places == [None, 1, 2]
        client.delete(f"/v1/jobs/{jobs[0]}")
        assert all(finished(client, job)["status"] == "done" for job in jobs[1:])


def test_a_job_over_its_time_fails_with_a_code_of_its_own(bundled):
    with running_service(bundled, Limits(seconds=0.3)) as client:
        failed = finished(client, submit(client, steps="100"))
        assert failed["error"]["code"] == "time_limit"


def test_the_server_ends_streams_and_jobs_when_it_stops(bundled):
    told = []
    with running_service(bundled) as client:
        made = submit(client, steps="100", guidance_scale="2")
        other = httpx_client(client)
        thread = threading.Thread(target=lambda: told.extend(events(other, made)))
        thread.start()
        wait_until(lambda: client.get(f"/v1/jobs/{made}").json()["step"] >= 1)
        engine = client.engine
    thread.join(30)
    assert told[-1][0] == "cancelled"
    assert engine.counts() == dict.fromkeys(("queued", "running", "done", "failed", "cancelled"), 0)


def test_openapi_describes_forms_errors_and_the_token(client):
    schema = client.get("/openapi.json").json()
    form = schema["paths"]["/v1/try-on"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["person", "garment"]
    assert set(form["properties"]) == {
        *("person", "garment", "mask", "category", "garment_photo", "quality", "detail", "seed", "steps"),
        "guidance_scale",
    }
    for path in schema["paths"].values():
        for operation in path.values():
            for status in ("4XX", "422"):
                answer = operation["responses"][status]["content"]["application/json"]["schema"]
                assert answer["$ref"].endswith("/ErrorAnswer")
    assert schema["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_the_page_and_its_files_are_there_and_nothing_beside_them(client):
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    script = client.get("/static/main.js")
    assert script.headers["content-type"].startswith("text/javascript")
    for path in ("/static/../api.py", "/static/%2e%2e/api.py", "/static/..%2fapi.py", "/nothing", "/static/"):
        refused(client.get(path), 404, "not_found")
    for answer in (page, script, client.get("/v1/info"), client.get("/nothing")):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "'unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
    assert client.get("/v1/info").headers["cache-control"] == "no-store"
