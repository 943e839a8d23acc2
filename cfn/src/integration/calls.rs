//! The calls of each resource type (sources: the IoT Core, Lambda, Data Firehose, Elastic Beanstalk,
//! CloudWatch, VPC and KMS developer guides, each where it lists the permissions a role needs).

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{Call, Caller, RoleCall, Setting};
use crate::evaluate::Keys;
use crate::network::option;
use crate::resolve::{Naming, Problem, Resolved, ResolvedResource, text};

/// Calls and other needs of a template, for [`super::calls`] and [`super::check`].
pub(super) struct Calls<'a> {
    resolved: &'a Resolved,
    pub(super) calls: Vec<Call>,
    pub(super) unknown: Vec<Problem>,
    pub(super) open_roles: OpenRoles,
    pub(super) account_uses: Vec<AccountUse>,
}

/// Use of a key by the deploying principal, through a service that then uses the key by a grant.
pub(super) struct AccountUse {
    /// Logical ID of the resource that is encrypted.
    pub(super) from: String,
    /// ARN of the key.
    pub(super) key: String,
    /// Action such as `kms:CreateGrant`.
    pub(super) action: &'static str,
    /// Condition keys of the call.
    pub(super) context: Keys,
}

/// Roles whose calls AWS publishes only as managed policies.
#[derive(Default)]
pub(super) struct OpenRoles {
    /// Their logical IDs: unused permissions of their AWS-managed policies are not findings.
    pub(super) roles: BTreeSet<String>,
    /// Role, end of a managed policy's ARN, and the setting that needs it.
    pub(super) needed: Vec<(String, &'static str, Setting)>,
}

/// A setting that implies calls, and their principal.
struct Site {
    from: String,
    path: String,
    caller: Caller,
}

impl<'a> Calls<'a> {
    pub(super) fn of(resolved: &'a Resolved) -> Calls<'a> {
        let mut calls = Calls {
            resolved,
            calls: Vec::new(),
            unknown: Vec::new(),
            open_roles: OpenRoles::default(),
            account_uses: Vec::new(),
        };
        for resource in resolved.resources.values() {
            match resource.r#type.as_str() {
                "AWS::IoT::TopicRule" => calls.topic_rule(resource),
                "AWS::Lambda::EventSourceMapping" => calls.event_source_mapping(resource),
                "AWS::Lambda::Function" => calls.function(resource),
                "AWS::KinesisFirehose::DeliveryStream" => calls.delivery_stream(resource),
                "AWS::ElasticBeanstalk::Environment" => calls.environment(resource),
                "AWS::CloudWatch::Alarm" | "AWS::CloudWatch::CompositeAlarm" => {
                    calls.alarm(resource);
                }
                "AWS::EC2::FlowLog" => calls.flow_log(resource),
                "AWS::Logs::LogGroup" => calls.log_group(resource),
                // "At-rest encryption in ElastiCache": DAX is a name that ElastiCache calls by.
                "AWS::ElastiCache::ReplicationGroup" => {
                    for service in ["elasticache", "dax"] {
                        let actions = [
                            "kms:CreateGrant",
                            "kms:Decrypt",
                            "kms:Encrypt",
                            "kms:GenerateDataKey",
                        ];
                        calls.deployed_under(resource, "/KmsKeyId", service, &actions);
                    }
                }
                _ => {}
            }
        }
        calls
    }

    /// Adds a call that no setting implies.
    pub(super) fn declared(&mut self, call: &RoleCall) {
        let site = Site {
            from: call.from.clone(),
            path: call.because.clone(),
            caller: Caller::Role {
                role: call.role.clone(),
                service: call.service.clone(),
                trust: call.trust.clone(),
            },
        };
        let service = call.action.split(':').next().unwrap_or_default();
        let resource = self.arn(service, &call.resource);
        self.need(&site, &call.action, &resource, Keys::new());
    }

    // Building

    fn need(&mut self, site: &Site, action: &str, resource: &str, context: Keys) {
        self.push(site, action, resource, context, true);
    }

    fn push(&mut self, site: &Site, action: &str, resource: &str, context: Keys, required: bool) {
        let region = &self.resolved.context.region;
        let context = context
            .with("aws:SecureTransport", "true")
            .with("aws:RequestedRegion", region);
        self.calls.push(Call {
            from: site.from.clone(),
            path: site.path.clone(),
            caller: site.caller.clone(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            context,
            required,
        });
    }

    fn unknown(&mut self, resource: &ResolvedResource, path: &str, message: impl Into<String>) {
        self.unknown
            .push(Problem::at(&resource.logical_id, path, message));
    }

    /// The logical ID of a role in this template.
    fn role(&self, reference: &str) -> String {
        let role = self.resolved.find("AWS::IAM::Role", reference);
        role.map_or(reference, |role| &role.logical_id).to_owned()
    }

    /// The calls of a resource as a role that a service assumes for it.
    fn site(&self, from: &ResolvedResource, path: &str, role: &str, service: &str) -> Site {
        let mut trust = Keys::new().with("aws:SourceAccount", &self.resolved.context.account_id);
        if let Some(arn) = from.arn() {
            trust.set("aws:SourceArn", vec![arn.to_owned()]);
        }
        Site {
            from: from.logical_id.clone(),
            path: path.to_owned(),
            caller: Caller::Role {
                role: self.role(role),
                service: service.to_owned(),
                trust,
            },
        }
    }

    fn service_keys(&self, from: &ResolvedResource) -> Keys {
        let keys = Keys::new().with("aws:SourceAccount", &self.resolved.context.account_id);
        match from.arn() {
            Some(arn) => keys.with("aws:SourceArn", arn),
            None => keys,
        }
    }

    /// An ARN in this account and region.
    fn arn(&self, service: &str, resource: &str) -> String {
        let context = &self.resolved.context;
        format!(
            "arn:{}:{service}:{}:{}:{resource}",
            context.partition, context.region, context.account_id
        )
    }

    fn bucket(&self, name: &str) -> String {
        format!("arn:{}:s3:::{name}", self.resolved.context.partition)
    }

    /// ARN of a resource by its name or URL, also when it is not of this template.
    fn named(&self, r#type: &str, name: &str, service: &str, resource: &str) -> String {
        let known = self
            .resolved
            .find(r#type, name)
            .and_then(ResolvedResource::arn);
        known.map_or_else(|| self.arn(service, resource), str::to_owned)
    }

    /// The customer-managed key of a key ID, ARN or alias; `None` for an AWS-managed key.
    fn key(&self, id: Option<String>) -> Option<String> {
        let id = id?;
        if id.contains("alias/aws/") {
            return None;
        }
        let alias = self.resolved.find("AWS::KMS::Alias", &id);
        let id = alias
            .and_then(|alias| alias.text("/TargetKeyId"))
            .unwrap_or(id);
        let key = self
            .resolved
            .find("AWS::KMS::Key", &id)
            .and_then(ResolvedResource::arn);
        Some(key.map_or_else(
            || {
                if id.starts_with("arn:") {
                    id.clone()
                } else {
                    self.arn("kms", &format!("key/{id}"))
                }
            },
            str::to_owned,
        ))
    }

    fn through_keys(&self, service: &str) -> Keys {
        let context = &self.resolved.context;
        Keys::new()
            .with(
                "kms:ViaService",
                format!("{service}.{}.{}", context.region, context.url_suffix),
            )
            .with("kms:CallerAccount", &context.account_id)
    }

    /// Use of a key through a service, as the site's caller.
    fn through(&mut self, site: &Site, key: Option<String>, service: &str, actions: &[&str]) {
        let Some(key) = key else { return };
        let keys = self.through_keys(service);
        for action in actions {
            self.need(site, action, &key, keys.clone());
        }
    }

    /// The key that a bucket encrypts with, by the bucket's ARN.
    fn bucket_key(&self, arn: &str) -> Option<String> {
        let bucket = self.resolved.find("AWS::S3::Bucket", arn)?;
        let pointer = "/BucketEncryption/ServerSideEncryptionConfiguration/0/ServerSideEncryptionByDefault/KMSMasterKeyID";
        self.key(bucket.text(pointer))
    }

    fn stream_key(&self, arn: &str) -> Option<String> {
        self.key(
            self.resolved
                .find("AWS::Kinesis::Stream", arn)?
                .text("/StreamEncryption/KeyId"),
        )
    }

    /// The customer-managed key of a delivery stream's buffer, by the delivery stream's ARN.
    fn delivery_stream_key(&self, arn: &str) -> Option<String> {
        let stream = self
            .resolved
            .find("AWS::KinesisFirehose::DeliveryStream", arn)?;
        self.key(stream.text("/DeliveryStreamEncryptionConfigurationInput/KeyARN"))
    }

    /// Adds a key that the deploying principal must be able to use through a service.
    fn deployed_under(
        &mut self,
        resource: &ResolvedResource,
        pointer: &str,
        service: &str,
        actions: &[&'static str],
    ) {
        let Some(key) = self.key(resource.text(pointer)) else {
            return;
        };
        let keys = self.through_keys(service);
        for action in actions {
            self.account_uses.push(AccountUse {
                from: resource.logical_id.clone(),
                key: key.clone(),
                action,
                context: keys.clone(),
            });
        }
    }

    fn write_object(&mut self, site: &Site, bucket: &str, key: &str) {
        self.need(
            site,
            "s3:PutObject",
            &format!("{bucket}/{key}"),
            Keys::new(),
        );
        let encryption = self.bucket_key(bucket);
        self.through(site, encryption, "s3", &["kms:GenerateDataKey"]);
    }

    /// Writing to a log group as a role, creating streams in it.
    fn write_logs(&mut self, site: &Site, group: &str, describe: bool) {
        let group = self.arn("logs", &format!("log-group:{group}:log-stream:"));
        self.need(site, "logs:CreateLogStream", &group, Keys::new());
        self.push(
            site,
            "logs:DescribeLogStreams",
            &group,
            Keys::new(),
            describe,
        );
        self.need(
            site,
            "logs:PutLogEvents",
            &format!("{group}example"),
            Keys::new(),
        );
    }

    /// Sending to a queue, topic or bucket, by ARN.
    fn deliver(&mut self, resource: &ResolvedResource, site: &Site, destination: &str, key: &str) {
        match destination.split(':').nth(2) {
            Some("s3") => {
                self.write_object(site, destination, key);
                self.need(site, "s3:ListBucket", destination, Keys::new());
            }
            Some("sqs") => self.need(site, "sqs:SendMessage", destination, Keys::new()),
            Some("sns") => self.need(site, "sns:Publish", destination, Keys::new()),
            _ => self.unknown(
                resource,
                &site.path,
                format!(
                    "what `{destination}` needs is not known here: use a queue, a topic or a bucket"
                ),
            ),
        }
    }

    // Resource types

    fn topic_rule(&mut self, rule: &ResolvedResource) {
        let payload = "TopicRulePayload";
        for (index, action) in rule.items("/TopicRulePayload/Actions").iter().enumerate() {
            self.rule_action(rule, &format!("{payload}.Actions.{index}"), action);
        }
        if let Some(action) = rule.property("/TopicRulePayload/ErrorAction") {
            self.rule_action(rule, &format!("{payload}.ErrorAction"), action);
        }
    }

    fn rule_action(&mut self, rule: &ResolvedResource, path: &str, action: &Json) {
        for (kind, settings) in action.as_object().into_iter().flatten() {
            let path = format!("{path}.{kind}");
            let get = |key: &str| settings.get(key).and_then(text).unwrap_or_default();
            if kind == "Lambda" {
                let keys = self.service_keys(rule);
                let site = Site {
                    from: rule.logical_id.clone(),
                    path,
                    caller: Caller::Service("iot.amazonaws.com".to_owned()),
                };
                self.need(&site, "lambda:InvokeFunction", &get("FunctionArn"), keys);
                continue;
            }
            let site = self.site(rule, &path, &get("RoleArn"), "iot.amazonaws.com");
            match kind.as_str() {
                "Kinesis" => {
                    let name = example(&get("StreamName"), "${");
                    let stream = self.named(
                        "AWS::Kinesis::Stream",
                        &name,
                        "kinesis",
                        &format!("stream/{name}"),
                    );
                    self.need(&site, "kinesis:PutRecord", &stream, Keys::new());
                    let key = self.stream_key(&stream);
                    self.through(&site, key, "kinesis", &["kms:GenerateDataKey"]);
                }
                "Firehose" => {
                    let name = example(&get("DeliveryStreamName"), "${");
                    let stream = self.named(
                        "AWS::KinesisFirehose::DeliveryStream",
                        &name,
                        "firehose",
                        &format!("deliverystream/{name}"),
                    );
                    self.need(&site, "firehose:PutRecord", &stream, Keys::new());
                    if get("BatchMode") == "true" {
                        self.need(&site, "firehose:PutRecordBatch", &stream, Keys::new());
                    }
                    // Firehose calls on behalf of the putting principal ("Data protection in Amazon Data Firehose").
                    let key = self.delivery_stream_key(&stream);
                    let actions = ["kms:Decrypt", "kms:GenerateDataKey"];
                    self.through(&site, key, "firehose", &actions);
                }
                "CloudwatchLogs" => self.write_logs(&site, &get("LogGroupName"), true),
                "Sqs" => {
                    let url = get("QueueUrl");
                    let name = url.rsplit('/').next().unwrap_or_default().to_owned();
                    let queue = self.named("AWS::SQS::Queue", &url, "sqs", &name);
                    self.need(&site, "sqs:SendMessage", &queue, Keys::new());
                }
                "Sns" => self.need(&site, "sns:Publish", &get("TargetArn"), Keys::new()),
                "S3" => {
                    let bucket = self.bucket(&get("BucketName"));
                    self.write_object(&site, &bucket, &example(&get("Key"), "${"));
                }
                "Republish" => {
                    let topic = self.arn("iot", &format!("topic/{}", example(&get("Topic"), "${")));
                    self.need(&site, "iot:Publish", &topic, Keys::new());
                }
                _ => self.unknown(rule, &path, "what this action calls is not known here"),
            }
        }
    }

    fn event_source_mapping(&mut self, mapping: &ResolvedResource) {
        let name = mapping.text("/FunctionName").unwrap_or_default();
        let Some(function) = self.resolved.find("AWS::Lambda::Function", &name) else {
            self.unknown(
                mapping,
                "FunctionName",
                format!("`{name}` is not a function of this template"),
            );
            return;
        };
        let role = function.text("/Role").unwrap_or_default();
        // The service assumes the function's role, also to poll.
        let site = |calls: &Self, path: &str| {
            let site = calls.site(function, path, &role, "lambda.amazonaws.com");
            Site {
                from: mapping.logical_id.clone(),
                ..site
            }
        };
        let source = mapping.text("/EventSourceArn").unwrap_or_default();
        let own = site(self, "EventSourceArn");
        match source.split(':').nth(2) {
            Some("kinesis") => {
                for action in [
                    "kinesis:DescribeStream",
                    "kinesis:DescribeStreamSummary",
                    "kinesis:GetRecords",
                    "kinesis:GetShardIterator",
                    "kinesis:ListShards",
                ] {
                    self.need(&own, action, &source, Keys::new());
                }
                self.push(&own, "kinesis:ListStreams", "*", Keys::new(), false);
                let key = self.stream_key(&source);
                self.through(&own, key, "kinesis", &["kms:Decrypt"]);
            }
            Some("sqs") => {
                for action in [
                    "sqs:ReceiveMessage",
                    "sqs:DeleteMessage",
                    "sqs:GetQueueAttributes",
                ] {
                    self.need(&own, action, &source, Keys::new());
                }
            }
            _ => self.unknown(
                mapping,
                "EventSourceArn",
                format!("what reading `{source}` needs is not known here"),
            ),
        }
        if let Some(destination) = mapping.text("/DestinationConfig/OnFailure/Destination") {
            let own = site(self, "DestinationConfig.OnFailure.Destination");
            let key = format!("aws/lambda/{}/shardId-000000000000/example", mapping.name);
            self.deliver(mapping, &own, &destination, &key);
        }
    }

    /// A key for the variables needs no permission of the role: Lambda creates a grant for the role with the
    /// permissions of the principal that sets the variables ("Securing Lambda environment variables").
    fn function(&mut self, function: &ResolvedResource) {
        let actions = ["kms:CreateGrant", "kms:Decrypt", "kms:Encrypt"];
        self.deployed_under(function, "/KmsKeyArn", "lambda", &actions);
        let role = function.text("/Role").unwrap_or_default();
        let site =
            |calls: &Self, path: &str| calls.site(function, path, &role, "lambda.amazonaws.com");
        let group = function.text("/LoggingConfig/LogGroup");
        let group = group.unwrap_or_else(|| format!("/aws/lambda/{}", function.name));
        let own = site(self, "LoggingConfig.LogGroup");
        self.write_logs(&own, &group, false);
        if !function.items("/VpcConfig/SubnetIds").is_empty() {
            let own = site(self, "VpcConfig");
            // Lambda makes these calls without a resource.
            for action in [
                "ec2:AssignPrivateIpAddresses",
                "ec2:CreateNetworkInterface",
                "ec2:DeleteNetworkInterface",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSubnets",
                "ec2:UnassignPrivateIpAddresses",
            ] {
                self.need(&own, action, "*", Keys::new());
            }
            for action in ["ec2:DescribeSecurityGroups", "ec2:DescribeVpcs"] {
                self.push(&own, action, "*", Keys::new(), false);
            }
        }
        if let Some(destination) = function.text("/DeadLetterConfig/TargetArn") {
            let own = site(self, "DeadLetterConfig.TargetArn");
            self.deliver(function, &own, &destination, "example");
        }
        if function.text("/TracingConfig/Mode").as_deref() == Some("Active") {
            let own = site(self, "TracingConfig.Mode");
            for action in ["xray:PutTraceSegments", "xray:PutTelemetryRecords"] {
                self.need(&own, action, "*", Keys::new());
            }
        }
        self.cache_sign_in(function, &site(self, "Environment"));
    }

    /// `elasticache:Connect` on the caches in a program's settings whose users sign in with IAM, and on the users
    /// in the settings. Without users there, the program chooses one, so each may be granted ("Authenticating
    /// with IAM" in the ElastiCache user guide).
    fn cache_sign_in(&mut self, program: &ResolvedResource, site: &Site) {
        for cache in self.resolved.of_type("AWS::ElastiCache::ReplicationGroup") {
            if !program.depends_on.contains(&cache.logical_id) {
                continue;
            }
            let groups = cache.texts("/UserGroupIds");
            let groups: Vec<&ResolvedResource> = groups
                .iter()
                .filter_map(|id| self.resolved.find("AWS::ElastiCache::UserGroup", id))
                .collect();
            let users: Vec<&ResolvedResource> = groups
                .iter()
                .flat_map(|group| group.texts("/UserIds"))
                .filter_map(|id| self.resolved.find("AWS::ElastiCache::User", &id))
                .filter(|user| user.text("/AuthenticationMode/Type").as_deref() == Some("iam"))
                .collect();
            if users.is_empty() {
                continue;
            }
            if let Some(arn) = cache.arn() {
                self.need(site, "elasticache:Connect", arn, Keys::new());
            }
            let is_named = |user: &&ResolvedResource| program.depends_on.contains(&user.logical_id);
            let names_one = users.iter().any(is_named);
            for user in users {
                if let Some(arn) = user.arn()
                    && (!names_one || is_named(&user))
                {
                    self.push(site, "elasticache:Connect", arn, Keys::new(), names_one);
                }
            }
        }
    }

    fn delivery_stream(&mut self, stream: &ResolvedResource) {
        let actions = ["kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKey"];
        let key = "/DeliveryStreamEncryptionConfigurationInput/KeyARN";
        self.deployed_under(stream, key, "firehose", &actions);
        let service = "firehose.amazonaws.com";
        let account = self.resolved.context.account_id.clone();
        let site = |calls: &Self, path: &str, role: &str| {
            let mut site = calls.site(stream, path, role, service);
            if let Caller::Role { trust, .. } = &mut site.caller {
                trust.set("sts:ExternalId", vec![account.clone()]);
            }
            site
        };
        for kind in [
            "ExtendedS3DestinationConfiguration",
            "S3DestinationConfiguration",
        ] {
            let Some(settings) = stream.property(&format!("/{kind}")) else {
                continue;
            };
            let get = |pointer: &str| settings.pointer(pointer).and_then(text);
            let own = site(self, kind, &get("/RoleARN").unwrap_or_default());
            let bucket = get("/BucketARN").unwrap_or_default();
            for action in [
                "s3:GetBucketLocation",
                "s3:ListBucket",
                "s3:ListBucketMultipartUploads",
            ] {
                self.need(&own, action, &bucket, Keys::new());
            }
            let prefixes: BTreeSet<String> = ["/Prefix", "/ErrorOutputPrefix"]
                .iter()
                .filter_map(|it| get(it))
                .collect();
            let keys = match prefixes.is_empty() {
                true => vec!["example".to_owned()],
                false => prefixes
                    .iter()
                    .map(|it| format!("{}example", example(it, "!{")))
                    .collect(),
            };
            for key in keys {
                for action in ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"] {
                    self.need(&own, action, &format!("{bucket}/{key}"), Keys::new());
                }
            }
            let key = self.key(get(
                "/EncryptionConfiguration/KMSEncryptionConfig/AWSKMSKeyARN",
            ));
            let key = key.or_else(|| self.bucket_key(&bucket));
            self.through(&own, key, "s3", &["kms:Decrypt", "kms:GenerateDataKey"]);
            if get("/CloudWatchLoggingOptions/Enabled").as_deref() == Some("true") {
                let own = site(
                    self,
                    &format!("{kind}.CloudWatchLoggingOptions"),
                    &get("/RoleARN").unwrap_or_default(),
                );
                let group = get("/CloudWatchLoggingOptions/LogGroupName").unwrap_or_default();
                let name = get("/CloudWatchLoggingOptions/LogStreamName").unwrap_or_default();
                let arn = self.arn("logs", &format!("log-group:{group}:log-stream:{name}"));
                self.need(&own, "logs:PutLogEvents", &arn, Keys::new());
            }
            let processors = settings.pointer("/ProcessingConfiguration/Processors");
            for processor in processors.and_then(Json::as_array).into_iter().flatten() {
                if processor.get("Type").and_then(Json::as_str) == Some("Lambda") {
                    let path = format!("{kind}.ProcessingConfiguration");
                    self.unknown(
                        stream,
                        &path,
                        "what a Lambda processor needs is not known here",
                    );
                }
            }
            if get("/DataFormatConversionConfiguration/SchemaConfiguration/TableName").is_some() {
                let path = format!("{kind}.DataFormatConversionConfiguration");
                self.unknown(
                    stream,
                    &path,
                    "what a format conversion needs is not known here",
                );
            }
        }
        if let Some(source) = stream.text("/KinesisStreamSourceConfiguration/KinesisStreamARN") {
            let role = stream
                .text("/KinesisStreamSourceConfiguration/RoleARN")
                .unwrap_or_default();
            let own = site(self, "KinesisStreamSourceConfiguration", &role);
            for action in [
                "kinesis:DescribeStream",
                "kinesis:GetRecords",
                "kinesis:GetShardIterator",
                "kinesis:ListShards",
            ] {
                self.need(&own, action, &source, Keys::new());
            }
            let key = self.stream_key(&source);
            self.through(&own, key, "kinesis", &["kms:Decrypt"]);
        }
    }

    fn environment(&mut self, environment: &ResolvedResource) {
        let first =
            |namespace: &str, name: &str| option(environment, namespace, name).into_iter().next();
        if let Some(role) = first("aws:elasticbeanstalk:environment", "ServiceRole") {
            let mut own = self.site(
                environment,
                "ServiceRole",
                &role,
                "elasticbeanstalk.amazonaws.com",
            );
            if let Caller::Role { role, trust, .. } = &mut own.caller {
                trust.set("sts:ExternalId", vec!["elasticbeanstalk".to_owned()]);
                self.open_roles.roles.insert(role.clone());
                // "Managing Elastic Beanstalk service roles"
                let health = Setting {
                    name: "SystemType = enhanced",
                    is_on: first("aws:elasticbeanstalk:healthreporting:system", "SystemType")
                        .is_some_and(|it| it == "enhanced"),
                };
                let updates = Setting {
                    name: "ManagedActionsEnabled = true",
                    is_on: first(
                        "aws:elasticbeanstalk:managedactions",
                        "ManagedActionsEnabled",
                    )
                    .is_some_and(|it| it == "true"),
                };
                for (policy, setting) in [
                    ("/AWSElasticBeanstalkEnhancedHealth", health),
                    (
                        "/AWSElasticBeanstalkManagedUpdatesCustomerRolePolicy",
                        updates,
                    ),
                ] {
                    self.open_roles.needed.push((role.clone(), policy, setting));
                }
            }
            // Calls of enhanced health (AWSElasticBeanstalkEnhancedHealth); those of managed updates are not
            // published.
            for action in [
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeAutoScalingInstances",
                "autoscaling:DescribeScalingActivities",
                "ec2:DescribeInstances",
                "ec2:DescribeInstanceStatus",
                "elasticloadbalancing:DescribeLoadBalancers",
                "elasticloadbalancing:DescribeTargetHealth",
            ] {
                self.need(&own, action, "*", Keys::new());
            }
        }
        let Some(profile) = first("aws:autoscaling:launchconfiguration", "IamInstanceProfile")
        else {
            self.unknown(
                environment,
                "OptionSettings",
                "IamInstanceProfile is not set: without it Beanstalk cannot launch instances",
            );
            return;
        };
        let Some(profile) = self.resolved.find("AWS::IAM::InstanceProfile", &profile) else {
            self.unknown(
                environment,
                "OptionSettings",
                format!("instance profile `{profile}` is not in this template"),
            );
            return;
        };
        for role in profile.texts("/Roles") {
            // EC2 sets neither source account nor source ARN.
            let own = Site {
                from: environment.logical_id.clone(),
                path: "IamInstanceProfile".to_owned(),
                caller: Caller::Role {
                    role: self.role(&role),
                    service: "ec2.amazonaws.com".to_owned(),
                    trust: Keys::new(),
                },
            };
            self.instances(environment, &own);
        }
    }

    fn instances(&mut self, environment: &ResolvedResource, own: &Site) {
        let is = |namespace: &str, name: &str, value: &str| {
            option(environment, namespace, name)
                .first()
                .is_some_and(|it| it == value)
        };
        let application = environment.text("/ApplicationName").unwrap_or_default();
        let arn = environment.arn().unwrap_or("*").to_owned();
        let enhanced = is(
            "aws:elasticbeanstalk:healthreporting:system",
            "SystemType",
            "enhanced",
        );
        self.push(
            own,
            "elasticbeanstalk:PutInstanceStatistics",
            &arn,
            Keys::new(),
            enhanced,
        );
        let application = self.arn("elasticbeanstalk", &format!("application/{application}"));
        self.push(
            own,
            "elasticbeanstalk:PutInstanceStatistics",
            &application,
            Keys::new(),
            false,
        );

        let streams = is("aws:elasticbeanstalk:cloudwatch:logs", "StreamLogs", "true");
        let group = format!(
            "/aws/elasticbeanstalk/{}/var/log/web.stdout.log",
            environment.name
        );
        let group = self.arn("logs", &format!("log-group:{group}:log-stream:"));
        for action in ["logs:CreateLogStream", "logs:DescribeLogStreams"] {
            self.push(own, action, &group, Keys::new(), streams);
        }
        self.push(
            own,
            "logs:PutLogEvents",
            &format!("{group}example"),
            Keys::new(),
            streams,
        );
        self.push(own, "logs:DescribeLogGroups", "*", Keys::new(), false);
        self.push(own, "logs:DescribeLogGroups", &group, Keys::new(), streams);
        self.push(own, "logs:CreateLogGroup", &group, Keys::new(), false);
        for action in [
            "cloudwatch:PutMetricData",
            "xray:PutTraceSegments",
            "xray:PutTelemetryRecords",
        ] {
            self.push(own, action, "*", Keys::new(), false);
        }

        let label = environment.text("/VersionLabel").unwrap_or_default();
        if let Some(version) = self
            .resolved
            .find("AWS::ElasticBeanstalk::ApplicationVersion", &label)
        {
            let bucket = version.text("/SourceBundle/S3Bucket").unwrap_or_default();
            let key = version.text("/SourceBundle/S3Key").unwrap_or_default();
            self.beanstalk_files(own, &self.bucket(&bucket), &key, false);
        }
        // Beanstalk's bucket. AWS does not publish an instance's calls; its policy for web tiers
        // (AWSElasticBeanstalkWebTier) grants all of these, so all are needed.
        let context = &self.resolved.context;
        let bucket = format!("elasticbeanstalk-{}-{}", context.region, context.account_id);
        let bucket = self.bucket(&bucket);
        for key in ["resources/environments/logs/example", "example"] {
            self.beanstalk_files(own, &bucket, key, true);
        }
        self.cache_sign_in(environment, own);
    }

    fn beanstalk_files(&mut self, own: &Site, bucket: &str, key: &str, required: bool) {
        let object = format!("{bucket}/{key}");
        for action in ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"] {
            self.push(own, action, &object, Keys::new(), required);
        }
        for action in ["s3:ListBucket", "s3:GetBucketLocation"] {
            self.push(own, action, bucket, Keys::new(), required);
        }
    }

    fn alarm(&mut self, alarm: &ResolvedResource) {
        let mut topics = BTreeSet::new();
        for list in ["AlarmActions", "OKActions", "InsufficientDataActions"] {
            for target in alarm.texts(&format!("/{list}")) {
                if target.split(':').nth(2) == Some("sns") {
                    topics.insert(target);
                } else {
                    let message = format!("what acting on `{target}` needs is not known here");
                    self.unknown(alarm, list, message);
                }
            }
        }
        let own = Site {
            from: alarm.logical_id.clone(),
            path: "AlarmActions".to_owned(),
            caller: Caller::Service("cloudwatch.amazonaws.com".to_owned()),
        };
        for topic in topics {
            let keys = self.service_keys(alarm);
            self.need(&own, "sns:Publish", &topic, keys.clone());
            let Some(id) = self
                .resolved
                .find("AWS::SNS::Topic", &topic)
                .and_then(|topic| topic.text("/KmsMasterKeyId"))
            else {
                continue;
            };
            // The policy of SNS's AWS-managed key does not allow CloudWatch.
            let key = self
                .key(Some(id.clone()))
                .unwrap_or_else(|| self.arn("kms", &id));
            let keys = keys.with("kms:EncryptionContext:aws:sns:topicArn", &topic);
            for action in ["kms:Decrypt", "kms:GenerateDataKey"] {
                self.need(&own, action, &key, keys.clone());
            }
        }
    }

    fn flow_log(&mut self, log: &ResolvedResource) {
        let Some(role) = log.text("/DeliverLogsPermissionArn") else {
            return;
        };
        let Some(group) = log.text("/LogGroupName") else {
            self.unknown(
                log,
                "LogDestination",
                "what it needs is not known here: use LogGroupName",
            );
            return;
        };
        let mut own = self.site(
            log,
            "DeliverLogsPermissionArn",
            &role,
            "vpc-flow-logs.amazonaws.com",
        );
        let arn = self.arn("ec2", &format!("vpc-flow-log/{}", log.name));
        if let Caller::Role { trust, .. } = &mut own.caller {
            trust.set("aws:SourceArn", vec![arn]);
        }
        self.write_logs(&own, &group, true);
        let groups = self.arn("logs", &format!("log-group:{group}:log-stream:"));
        self.need(
            &own,
            "logs:DescribeLogGroups",
            &self.arn("logs", "log-group:*"),
            Keys::new(),
        );
        self.push(&own, "logs:CreateLogGroup", &groups, Keys::new(), false);
    }

    /// A log group with a customer-managed key: the service uses the key itself.
    fn log_group(&mut self, group: &ResolvedResource) {
        let Some(key) = self.key(group.text("/KmsKeyId")) else {
            return;
        };
        let context = &self.resolved.context;
        let own = Site {
            from: group.logical_id.clone(),
            path: "KmsKeyId".to_owned(),
            caller: Caller::Service(format!("logs.{}.{}", context.region, context.url_suffix)),
        };
        // A key's policy can only have the prefix of names that CloudFormation generates: a reference to the
        // groups would be circular. A logical ID as the name gets that prefix.
        let name = match context.naming {
            Naming::Logical if group.text("/LogGroupName").is_none() => {
                format!("{}-{}", context.stack_name, group.name)
            }
            _ => group.name.clone(),
        };
        let arn = self.arn("logs", &format!("log-group:{name}"));
        let keys = Keys::new()
            .with("kms:EncryptionContext:aws:logs:arn", arn)
            .with("aws:SourceAccount", &context.account_id);
        for action in [
            "kms:Decrypt",
            "kms:DescribeKey",
            "kms:Encrypt",
            "kms:GenerateDataKey",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
        ] {
            self.need(&own, action, &key, keys.clone());
        }
    }
}

/// A template string with each `${…}` (or `!{…}`) replaced by an example.
fn example(template: &str, open: &str) -> String {
    let mut result = String::new();
    let mut rest = template;
    while let Some(start) = rest.find(open) {
        result.push_str(&rest[..start]);
        result.push_str("example");
        rest = rest[start..]
            .find('}')
            .map_or("", |end| &rest[start + end + 1..]);
    }
    result.push_str(rest);
    result
}
