"""The Lambda Runtime API, as much as a handler needs."""

import http.client
import json
import os

BASE = "/2018-06-01/runtime/invocation"


def run(handle):
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", BASE + "/next")
        response = api.getresponse()
        request_id = response.getheader("Lambda-Runtime-Aws-Request-Id")
        answer = handle(json.loads(response.read()))
        api.request("POST", f"{BASE}/{request_id}/response", json.dumps(answer))
        api.getresponse().read()
