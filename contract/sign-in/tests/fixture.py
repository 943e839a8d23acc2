"""Writes botocore.json beside it: tokens made by botocore, AWS's own signer for Python.

    python contract/sign-in/tests/fixture.py

needs botocore (`pip install botocore`; moto's environment under target/tools has it).
Nothing here is a real key; the times are fixed, so a second run changes nothing.
"""

import datetime
import json
import pathlib
from unittest import mock
from urllib.parse import quote, urlencode

import botocore
from botocore.credentials import Credentials
from botocore.hooks import HierarchicalEmitter
from botocore.model import ServiceId
from botocore.signers import RequestSigner

REGIONS = ["eu-central-1", "us-gov-west-1"]
TIMES = [0, 951782399, 1709251199, 1798761599, 1795416600]
USERS = ["sensors-dev-function", "sensors-prod-webui", "a", "with space+plus/slash=é~tilde%41"]
CACHES = ["sen1abcdefghijkl", "my-cache.with_dots-1"]
CREDENTIALS = [
    ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None),
    ("ASIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjE//+=="),
    ("ASIA/+&=?# é", "key with spaces/+=&?#é", "session token/+=&?#%25~é"),
]


def token(cache, user, region, credentials, at):
    """As the ElastiCache user guide does it in "Authenticating with IAM", at a time of our choice."""
    query = urlencode({"Action": "connect", "User": user}, quote_via=quote)
    request = {
        "method": "GET",
        "url": f"http://{cache}/?{query}",
        "body": {},
        "headers": {},
        "context": {},
    }
    service = "elasticache"
    emitter = HierarchicalEmitter()
    signer = RequestSigner(
        ServiceId(service), region, service, "v4", Credentials(*credentials), emitter
    )
    moment = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
    with mock.patch("botocore.auth.get_current_datetime", lambda *_, **__: moment):
        url = signer.generate_presigned_url(
            request, operation_name="connect", expires_in=900, region_name=region
        )
    return url.removeprefix("http://")


def main():
    cases = []
    for number in range(40):
        # Every value meets many others, without all the combinations.
        pick = lambda values, stride: values[(number // stride + number) % len(values)]
        case = {
            "cache": pick(CACHES, 3),
            "user": pick(USERS, 5),
            "region": pick(REGIONS, 7),
            "credentials": pick(CREDENTIALS, 4),
            "at": pick(TIMES, 2),
        }
        cases.append({**case, "token": token(**case)})
    text = json.dumps({"botocore": botocore.__version__, "cases": cases}, indent=1, ensure_ascii=False)
    pathlib.Path(__file__).with_name("botocore.json").write_text(text + "\n")


main()
