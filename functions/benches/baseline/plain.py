"""What one would write first in Python: one MULTI per batch through PyPI's client on a kept connection."""

import base64
import os

from redis import Redis
from runtime import run

redis = Redis.from_url(os.environ["REDIS_URL"])


def handle(event):
    pipeline = redis.pipeline(transaction=True)
    latest = b""
    for record in event["Records"]:
        latest = base64.b64decode(record["kinesis"]["data"])
        pipeline.set("sensorLatest", latest).incr("sensorCount")
    pipeline.publish("sensors", latest).execute()
    return {"batchItemFailures": []}


run(handle)
