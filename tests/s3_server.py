"""A real S3-compatible server, SeaweedFS, on the loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions

ACCESS_KEY, SECRET_KEY = "key", "secret"
#: Seconds that it has to come up.
PATIENCE = 60


@dataclass
class S3Server:
    """
    Attributes:
        client: boto3's.
        variables: what tells Snakemake's plugin of it.
    """

    client: Any
    variables: dict[str, str]

    def keys(self, bucket: str) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {item["Key"] for page in pages for item in page.get("Contents", [])}

    def read(self, bucket: str, key: str) -> bytes:
        return self.client.get_object(Bucket=bucket, Key=key)["Body"].read()


@contextmanager
def serving(folder: Path) -> Iterator[S3Server]:
    """Run a server with its data in ``folder``, and stop it in the end."""
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    names = ("s3", "master", "volume", "filer", "admin")
    ports = _free_ports(2 * len(names))
    options = [
        option
        for name in names
        for option in (f"-{name}.port={ports.pop()}", f"-{name}.port.grpc={ports.pop()}")
    ]
    url = f"http://127.0.0.1:{options[0].partition('=')[2]}"
    with open(folder / "weed.log", "w") as log:
        process = subprocess.Popen(
            [
                Path(sys.executable).with_name("weed"),
                "mini",
                f"-dir={folder / 'data'}",
                f"-s3.config={folder / 's3.json'}",
                f"-filer.localSocket={folder / 'filer.sock'}",
                f"-s3.localSocket={folder / 's3.sock'}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-webdav=false",
                "-admin.ui=false",
                *options,
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        _wait(client, process, folder / "weed.log")
        variables = {
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": url,
            "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": ACCESS_KEY,
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY": SECRET_KEY,
        }
        yield S3Server(client, variables)
    finally:
        process.terminate()
        process.wait()


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def _wait(client: Any, process: subprocess.Popen, log: Path) -> None:
    """Until a bucket can be made and written to."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
            return
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as e:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS did not come up ({e}):\n{log.read_text()}") from e
            time.sleep(0.2)
