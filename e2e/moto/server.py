"""moto's server, extended until both templates of a stage go through its CloudFormation.

Run like moto_server: python server.py -H 127.0.0.1 -p 5055

It judges the order and the content of the calls that deploy and destroy make, and S3 for real. It
does not judge the templates: a stand-in takes any property, and the types that are moto's own know
few. Written against moto 5.2.5; each part says which gap it closes.

`POST /moto-api/copy` answers with the port of another server, which has an account of its own with
all that is in this one; `POST /moto-api/end` ends a server.
"""

import gc
import ipaddress
import json
import os
import re
import signal
import socket
import stat
import sys
import threading
import time
from urllib.parse import urlparse

# A thousand images that nothing here starts; they would be made anew for each account.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

import moto.server
import yaml
from moto.cloudformation import models, parsing, responses, utils
from moto.core.common_models import CloudFormationModel
from moto.core.responses import ActionResult
from moto.cloudformation.exceptions import ValidationError
from moto.ec2.models import ec2_backends
from moto.ec2.models.route_tables import RouteTable
from moto.elasticbeanstalk.responses import EBResponse
from moto.iot.models import FakePolicy, iot_backends
from moto.s3.models import FakeBucket, s3_backends
from werkzeug.serving import make_server

# Types that moto would ignore in silence until something refers to one of their attributes.
STAND_INS = [
    "AWS::CloudWatch::Alarm",
    "AWS::ElastiCache::ParameterGroup",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::ElastiCache::SubnetGroup",
    "AWS::ElastiCache::User",
    "AWS::ElastiCache::UserGroup",
    "AWS::ElasticBeanstalk::Application",
    "AWS::ElasticBeanstalk::ApplicationVersion",
    "AWS::ElasticBeanstalk::Environment",
    "AWS::KinesisFirehose::DeliveryStream",
    "AWS::Logs::LogStream",
    "AWS::Logs::MetricFilter",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
]


class StandIn:
    """A resource that remembers its properties and has every attribute that is asked for."""

    type_name = ""

    def __init__(self, name, properties):
        self.name = name
        self.properties = properties

    @property
    def physical_resource_id(self):
        return self.name

    @staticmethod
    def cloudformation_name_type():
        return ""

    @classmethod
    def has_cfn_attr(cls, attr):
        return True

    def get_cfn_attribute(self, attribute_name):
        if attribute_name == "Arn":
            service = self.type_name.split("::")[1].lower()
            return f"arn:aws:{service}:eu-west-1:123456789012:{self.name}"
        if attribute_name.endswith("Port"):
            return "6379"
        return f"{self.name}.{attribute_name}.test"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name, cloudformation_json, account_id, region_name, **kwargs
    ):
        return cls(resource_name, cloudformation_json.get("Properties"))

    @classmethod
    def update_from_cloudformation_json(
        cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name
    ):
        # A condition that did not hold before left none.
        if original_resource is None:
            return cls(new_resource_name, cloudformation_json.get("Properties"))
        original_resource.properties = cloudformation_json.get("Properties")
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name, cloudformation_json, account_id, region_name
    ):
        pass

    def delete(self, account_id, region_name):
        pass


class TopicRule(StandIn):
    """A rule that moto's IoT knows, too: destroying a stage switches it off first."""

    def __init__(self, name, properties, account_id, region_name):
        # Names of rules have no hyphens.
        super().__init__(name.replace("-", "_"), properties)
        payload = properties["TopicRulePayload"]
        iot_backends[account_id][region_name].create_topic_rule(
            self.name,
            payload["Sql"],
            actions=payload["Actions"],
            error_action=payload.get("ErrorAction"),
            rule_disabled=payload.get("RuleDisabled", False) in (True, "true"),
            aws_iot_sql_version=payload.get("AwsIotSqlVersion"),
            description=payload.get("Description"),
        )

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name, cloudformation_json, account_id, region_name, **kwargs
    ):
        return cls(resource_name, cloudformation_json["Properties"], account_id, region_name)

    def delete(self, account_id, region_name):
        iot_backends[account_id][region_name].rules.pop(self.name, None)


def stand_in(type_name, base=StandIn):
    """The class of one type. moto asks the class itself for the type, without an instance."""
    return type(
        "StandInFor" + type_name.replace("::", ""),
        # moto looks at direct subclasses of its model alone, and at those of its own modules.
        (base, CloudFormationModel),
        {
            "__module__": "moto.cloudformation.stand_in",
            "type_name": type_name,
            "cloudformation_type": staticmethod(lambda: type_name),
        },
    )


# moto walks over the subclasses; somebody must hold them.
classes = [stand_in(type_name) for type_name in STAND_INS]
classes.append(stand_in("AWS::IoT::TopicRule", TopicRule))

clean_json = parsing.clean_json


def resolve(value, resources):
    """Intrinsics that moto does not have, or has for another region; the rest is moto's."""
    if isinstance(value, dict) and len(value) == 1:
        if "Fn::Cidr" in value:
            block, count, bits = (clean_json(it, resources) for it in value["Fn::Cidr"])
            subnets = ipaddress.ip_network(block).subnets(new_prefix=32 - int(bits))
            return [str(next(subnets)) for _ in range(int(count))]
        if value.get("Fn::GetAZs") == "":
            return [resources._region_name + zone for zone in "abc"]
        if "Fn::Select" in value:
            index, items = value["Fn::Select"]
            return resolve(items, resources)[int(index)]
        if isinstance(value.get("Fn::Sub"), str):
            return substitute(value["Fn::Sub"], resources)
    return clean_json(value, resources)


def substitute(text, resources):
    """Fn::Sub with `${Resource.Attribute}`, which moto leaves as it is."""

    def replace(found):
        name, attribute = found[1], found[2]
        reference = {"Fn::GetAtt": [name, attribute]} if attribute else {"Ref": name}
        return str(clean_json(reference, resources))

    return re.sub(r"\$\{([\w:]+)(?:\.([\w.]+))?\}", replace, text)


parsing.clean_json = resolve

from_s3_url = utils.get_stack_from_s3_url


def template_from_url(template_url, account_id, partition):
    """A template at an address with the bucket in the path, as custom endpoints have it."""
    bucket, _, key = urlparse(template_url).path.lstrip("/").partition("/")
    backend = s3_backends[account_id][partition]
    if bucket in backend.buckets:
        return backend.get_object(bucket, key).value.decode()
    return from_s3_url(template_url, account_id, partition)


utils.get_stack_from_s3_url = template_from_url
responses.get_stack_from_s3_url = template_from_url

load_yaml = yaml.load


def load_json_first(text, Loader):
    """moto reads JSON as YAML, which takes most of the time of a deployment."""
    try:
        return json.loads(text)
    except ValueError:
        return load_yaml(text, Loader)


yaml.load = load_json_first

create_change_set = models.CloudFormationBackend.create_change_set


def create_change_set_once(self, stack_name, change_set_type, **rest):
    """moto makes a second stack of the same name where AWS fills the one that waits for review."""
    living = [it for it in self.stacks.values() if it.name == stack_name]
    if change_set_type == "CREATE" and any(it.status != "REVIEW_IN_PROGRESS" for it in living):
        raise ValidationError(message=f"Stack [{stack_name}] already exists")
    made = create_change_set(
        self, stack_name=stack_name, change_set_type=change_set_type, **rest
    )
    change_set_id, stack_id = made
    if change_set_type != "CREATE" or not living:
        return made
    del self.stacks[stack_id]
    change_set = self.change_sets[change_set_id]
    change_set.stack, change_set.stack_id = living[0], living[0].stack_id
    return change_set_id, living[0].stack_id


models.CloudFormationBackend.create_change_set = create_change_set_once


def delete_change_set(self, change_set_name, stack_name=None):
    """moto raises UnboundLocalError for a change set that it does not know."""
    for change_set_id, change_set in list(self.change_sets.items()):
        of_stack = not stack_name or stack_name in (change_set.stack_name, change_set.stack_id)
        if of_stack and change_set_name in (change_set_id, change_set.change_set_name):
            del self.change_sets[change_set_id]


models.CloudFormationBackend.delete_change_set = delete_change_set

update = parsing.ResourceMap.update


def update_and_tag(self, template, parameters=None):
    """Buckets with the stack's tags and with versions, as the template wants them."""
    update(self, template, parameters)
    for logical_id, declared in template["Resources"].items():
        bucket = self._parsed_resources.get(logical_id)
        if isinstance(bucket, FakeBucket):
            tags = {**self.tags, "aws:cloudformation:logical-id": logical_id}
            s3_backends[self._account_id]["aws"].put_bucket_tagging(bucket.name, tags)
            versioning = declared.get("Properties", {}).get("VersioningConfiguration", {})
            bucket.versioning_status = versioning.get("Status")


parsing.ResourceMap.update = update_and_tag

execute_change_set = models.CloudFormationBackend.execute_change_set


def execute_and_refresh(self, change_set_name, stack_name=None):
    """The stack shows the outputs and parameters of the change set, not those from before."""
    change_set = next(
        it
        for change_set_id, it in self.change_sets.items()
        if change_set_name in (change_set_id, it.change_set_name)
    )
    execute_change_set(self, change_set_name, stack_name)
    stack = self.stacks[change_set.stack_id]
    stack.parameters = change_set.parameters
    stack._parse_template()
    stack.output_map = stack._create_output_map()


models.CloudFormationBackend.execute_change_set = execute_and_refresh
# moto gives the policy itself as its ID, and then does not find it when it is to be deleted.
FakePolicy.physical_resource_id = property(lambda self: self.name)



def delete_route_table(self, account_id, region_name):
    """moto's CloudFormation leaves route tables, and with them the network, behind."""
    ec2_backends[account_id][region_name].route_tables.pop(self.id, None)


RouteTable.delete = delete_route_table

delete = parsing.ResourceMap.delete


def delete_but_keep(self):
    """RetainExceptOnCreate keeps what was created, like Retain, which alone moto knows."""
    for declared in self._resource_json_map.values():
        if declared.get("DeletionPolicy") == "RetainExceptOnCreate":
            declared["DeletionPolicy"] = "Retain"
    delete(self)


parsing.ResourceMap.delete = delete_but_keep


BRANCH = "Go 1 running on 64bit Amazon Linux 2023"


def list_platform_versions(self):
    """Two versions of one branch; the recommended one is last in alphabetical order."""
    arn = f"arn:aws:elasticbeanstalk:{self.region}::platform/{BRANCH}/"
    versions = [
        {
            "PlatformArn": arn + version,
            "PlatformBranchName": BRANCH,
            "PlatformLifecycleState": state,
            "PlatformStatus": "Ready",
            "PlatformVersion": version,
        }
        for version, state in (("4.9.1", ""), ("4.10.0", "recommended"))
    ]
    for wanted in self._get_param("Filters") or []:
        versions = [it for it in versions if it.get(wanted["Type"]) in wanted["Values"]]
    return ActionResult({"PlatformSummaryList": versions})


EBResponse.list_platform_versions = list_platform_versions


class Application(moto.server.DomainDispatcherApplication):
    """moto's server, which can be copied with all that it holds."""

    def __init__(self, *args):
        super().__init__(*args)
        self.copying = threading.Lock()

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/moto-api/end":
            os._exit(0)
        if path == "/moto-api/copy":
            port = str(self.copy()).encode()
            start_response("200 OK", [("Content-Length", str(len(port)))])
            return [port]
        return super().__call__(environ, start_response)

    def copy(self):
        """The port of a copy. The copy takes calls before this returns, and ends with this server."""
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with self.copying:
            # What is there already is left where both processes share it.
            gc.freeze()
            original = os.getpid()
            if os.fork() == 0:
                self.serve(listener, original)
        listener.close()
        return port

    def serve(self, listener, original):
        """Goes on as the copy, and never returns."""
        # Of the threads of the original only this one is here.
        self.copying, self.lock = threading.Lock(), threading.Lock()
        # Whoever asked for the copy waits for the end of a connection that is open here, too.
        for descriptor in range(3, 1024):
            try:
                is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
            except OSError:
                continue
            if is_socket and descriptor != listener.fileno():
                os.close(descriptor)
        threading.Thread(target=end_with, args=(original,), daemon=True).start()
        server = make_server(
            "127.0.0.1",
            0,
            self,
            threaded=True,
            request_handler=moto.server.MotoRequestHandler,
            fd=listener.fileno(),
        )
        server.serve_forever()
        os._exit(0)


def end_with(original):
    while os.getppid() == original:
        time.sleep(1)
    os._exit(0)


moto.server.DomainDispatcherApplication = Application

if __name__ == "__main__":
    # Copies that have ended need nobody to look at them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    moto.server.main(sys.argv[1:])
