"""Batches into an object store: a stand-in of S3 on loopback."""

import json
import time

import pytest
from PIL import Image
from support.batches import images_of, make, start, write_pairs

from stableviton_sdk.batch.ledger import Ledger, Shard
from stableviton_sdk.batch.pairs import pair_folders
from stableviton_sdk.batch.stores import open_store, read_file
from stableviton_sdk.errors import InvalidInput, MissingDependency

BATCH = """
import sys
from support.batches import Slow, make
if __name__ == "__main__":
    print(make(sys.argv[1], sys.argv[2], painter=Slow).to_dict())
"""


@pytest.fixture
def bucket():
    """A bucket `shop`, and the environment that leads clients to it."""
    server_module = pytest.importorskip("moto.server", reason="moto isn't installed")
    import boto3

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="shop")
    yield client, {**keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    server.stop()


def objects(client, prefix):
    found = client.list_objects_v2(Bucket="shop", Prefix=prefix).get("Contents", [])
    return {
        entry["Key"].removeprefix(prefix): client.get_object(Bucket="shop", Key=entry["Key"])["Body"].read()
        for entry in found
    }


@pytest.mark.slow
def test_killed_while_it_writes_objects_it_goes_on_to_the_same_bytes(tmp_path, bucket):
    client, environment = bucket
    pairs = write_pairs(tmp_path / "data")
    make(pairs, tmp_path / "whole")
    for path in (tmp_path / "data").rglob("*.*"):
        client.upload_file(str(path), "shop", f"data/{path.relative_to(tmp_path / 'data')}")
    arguments = ("s3://shop/data/pairs.csv", "s3://shop/out")
    process = start(BATCH, *arguments, environment=environment)
    deadline = time.monotonic() + 120
    while len(objects(client, "out/images/")) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    begun = objects(client, "out/images/")
    whole = images_of(tmp_path / "whole")
    assert 3 <= len(begun) <= 12
    assert all(content == whole[name] for name, content in begun.items())
    process = start(BATCH, *arguments, environment=environment)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "'done': 12" in out
    assert objects(client, "out/images/") == whole
    lines = [json.loads(line) for text in objects(client, "out/manifest/").values() for line in text.splitlines()]
    assert {line["id"] for line in lines} == {name.removesuffix(".png") for name in whole}


def test_a_shard_that_cannot_grow_is_put_again_and_begun_anew_when_it_is_long(monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    from stableviton_sdk.batch import ledger as books

    monkeypatch.setattr(books, "LINES_PER_OBJECT", 2)
    try:
        ledger = Ledger("memory://shop/out")
        shard = Shard(ledger.store, 3, "w")
        for index in range(5):
            shard.add({"id": str(index), "status": "done", "fingerprint": "f", "row": "r", "at": 1.0})
        shard.close()
        assert len(ledger.shards()) == 3
        ledger.store.write("run.json", json.dumps({"format": books.FORMAT, "version": 1, "settings": {}}).encode())
        state = ledger.read()
        assert (set(state.records), state.run) == (set("01234"), 3)
    finally:
        fsspec.filesystem("memory").rm("/shop", recursive=True)


def test_folders_of_an_object_store_are_listed_and_read():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    try:
        for name in ("persons/p.png", "garments/g.png", "garments/.hidden.png"):
            with system.open(f"/shop/{name}", "wb") as file:
                Image.new("RGB", (4, 4)).save(file, "PNG")
        (row,) = pair_folders("memory://shop/persons", "memory://shop/garments", "cross").rows
        assert row.person == "memory://shop/persons/p.png"
        assert read_file(row.person, 10**6)[:4] == b"\x89PNG"
        with pytest.raises(InvalidInput, match="is larger than 10 B"):
            read_file(row.person, 10)
        with pytest.raises(InvalidInput, match="is missing"):
            read_file("memory://shop/none.png", 10)
    finally:
        system.rm("/shop", recursive=True)


def test_an_address_that_nothing_can_open_is_refused_in_one_sentence():
    pytest.importorskip("fsspec")
    with pytest.raises((InvalidInput, MissingDependency), match="can't be opened"):
        open_store("nowhere://shop/out")
