"""Batches into an object store, killed: does it go on, and is there ever half an object?

python -m benchmarks.batch_objects --work FOLDER [--pairs 100] [--kills 3] [--json FILE]

The store is moto's stand-in of S3 on loopback. List, photos and output lie in it. After each kill every object that is
there has to be a whole image, with the bytes of an uninterrupted run into a folder.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import time
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from benchmarks.batch_runs import differing, images_of, run_batch, start_batch, wait_for, write_set

BUCKET = "shop"


def count_objects(client: Any, prefix: str) -> int:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return sum(page["KeyCount"] for page in pages)


def objects_of(client: Any, prefix: str) -> dict[str, bytes]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key.removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    side = math.isqrt(arguments.pairs)
    shutil.rmtree(arguments.work, ignore_errors=True)
    pairs = write_set(arguments.work / "data", side, side)
    status, said = run_batch(pairs, arguments.work / "whole")
    assert status == 0, said
    whole = images_of(arguments.work / "whole")

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)
    client.create_bucket(Bucket=BUCKET)
    for path in (arguments.work / "data").rglob("*.*"):
        client.upload_file(str(path), BUCKET, f"data/{path.relative_to(arguments.work / 'data').as_posix()}")
    environment = {name.upper(): value for name, value in keys.items()}
    environment |= {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
    places = f"s3://{BUCKET}/data/pairs.csv", f"s3://{BUCKET}/out"
    chance = random.Random(0)
    at_kills, wrong = [], []
    for _ in range(arguments.kills):
        before = count_objects(client, "out/images/")
        process = start_batch(*places, environment=environment)
        wait_for(lambda before=before: count_objects(client, "out/images/") > before, process, interval=0.2)
        time.sleep(chance.uniform(0, 5))
        process.kill()
        process.communicate()
        time.sleep(2)  # what was on its way arrives
        images = objects_of(client, "out/images/")
        at_kills.append(len(images))
        wrong += [name for name, content in images.items() if whole.get(name) != content]
    status, said = run_batch(*places, environment=environment)
    lines = [line for text in objects_of(client, "out/manifest/").values() for line in text.splitlines()]
    report = {
        "pairs": side * side,
        "objects_at_kills": at_kills,
        "half_or_wrong_objects": wrong,
        "exit_status": status,
        "not_equal_to_a_folders": differing(objects_of(client, "out/images/"), whole),
        "done_in_manifest": len({entry["id"] for entry in map(json.loads, lines) if entry["status"] == "done"}),
    }
    server.stop()
    print(json.dumps(report, indent=2))
    if status:
        print(said)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
