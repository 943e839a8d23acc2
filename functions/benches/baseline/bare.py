"""The same as bare.mjs in Python: one MULTI per batch, without a client, replies counted but not read."""

import base64
import os
import socket
from urllib.parse import urlparse

from runtime import run

url = urlparse(os.environ["REDIS_URL"])
redis = socket.create_connection((url.hostname, url.port))
redis.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def command(*parts):
    pieces = [b"*%d\r\n" % len(parts)]
    for part in parts:
        pieces.append(b"$%d\r\n%b\r\n" % (len(part), part))
    return b"".join(pieces)


def transaction(text, replies):
    redis.sendall(text)
    # OK, then QUEUED for each, then EXEC's answer: a line for the list and one for each.
    lines = 0
    while lines < replies * 2 + 2:
        chunk = redis.recv(1 << 16)
        if not chunk or chunk.startswith(b"-"):
            raise RuntimeError(chunk)
        lines += chunk.count(b"\n")


def handle(event):
    pieces = [command(b"MULTI")]
    latest = b""
    for record in event["Records"]:
        latest = base64.b64decode(record["kinesis"]["data"])
        pieces.append(command(b"SET", b"sensorLatest", latest))
        pieces.append(command(b"INCR", b"sensorCount"))
    pieces.append(command(b"PUBLISH", b"sensors", latest))
    pieces.append(command(b"EXEC"))
    transaction(b"".join(pieces), len(event["Records"]) * 2 + 1)
    return {"batchItemFailures": []}


run(handle)
