//! Permissions beside the things that they open.
//!
//! A grant adds an inline policy to a role, named after the resource and what it allows, so that a
//! reviewer finds it by the resource's logical ID. Inline, because a role that CloudFormation has
//! made is then complete: whatever waits for the role waits for its permissions too.

use crate::intrinsic::Sub;
use crate::policy::{Condition, Document, Statement};
use crate::problem::Problem;
use crate::resource::Handle;
use crate::resources::{elasticache, iam, kinesis, kinesisfirehose, kms, logs, s3};
use crate::template::Template;
use crate::value::List;

impl Template {
    /// Adds an inline policy of one statement to a role.
    pub fn grant(
        &mut self,
        role: Handle<iam::Role>,
        policy_name: impl Into<String>,
        statement: Statement,
    ) {
        let policy = iam::role::Policy::new(Document::new([statement]), policy_name.into());
        let logical_id = role.logical_id();
        let Some(role) = self.properties_mut(role) else {
            return self.report(Problem::new(
                logical_id,
                "gets a grant, but is no role of this template: grant to the role's own template",
            ));
        };
        match role.policies.get_or_insert_default() {
            List::Items(policies) => policies.push(policy.into()),
            List::Intrinsic(_) => self.report(Problem::new(
                format!("{logical_id}.Policies"),
                "is an intrinsic function, to which no grant can be added: list the policies instead",
            )),
        }
    }
}

impl Handle<kinesis::Stream> {
    /// `role` may put single records, as AWS IoT's rules do.
    pub fn grant_put(self, template: &mut Template, role: Handle<iam::Role>) {
        let statement = Statement::allow(["kinesis:PutRecord"], [self.arn()]);
        template.grant(role, format!("{}Put", self.logical_id()), statement);
    }

    /// `role` may read the stream with shared throughput, as an event source mapping does.
    ///
    /// See "Using AWS Lambda with Amazon Kinesis", execution role permissions; `ListStreams` is left
    /// out, because the mapping is given the stream.
    pub fn grant_read(self, template: &mut Template, role: Handle<iam::Role>) {
        let actions = [
            "kinesis:DescribeStream",
            "kinesis:DescribeStreamSummary",
            "kinesis:GetRecords",
            "kinesis:GetShardIterator",
            "kinesis:ListShards",
        ];
        template.grant(
            role,
            format!("{}Read", self.logical_id()),
            Statement::allow(actions, [self.arn()]),
        );
    }
}

impl Handle<kinesisfirehose::DeliveryStream> {
    /// `role` may put single records, as AWS IoT's rules do without batch mode.
    pub fn grant_put(self, template: &mut Template, role: Handle<iam::Role>) {
        let statement = Statement::allow(["firehose:PutRecord"], [self.arn()]);
        template.grant(role, format!("{}Put", self.logical_id()), statement);
    }
}

impl Handle<elasticache::ReplicationGroup> {
    /// Its ARN, which no attribute gives.
    pub fn arn(self) -> crate::value::Value<String> {
        Sub::new()
            .text("arn:")
            .value(crate::intrinsic::pseudo::partition())
            .text(":elasticache:")
            .value(crate::intrinsic::pseudo::region())
            .text(":")
            .value(crate::intrinsic::pseudo::account_id())
            .text(":replicationgroup:")
            .value(self.reference())
            .build()
    }

    /// `role` may sign in as `user` with its own credentials; what the user may do then is said by
    /// its access string.
    ///
    /// See "Authenticating with IAM" of the ElastiCache user guide: the one action is asked for on
    /// both, cache and user.
    pub fn grant_connect(
        self,
        template: &mut Template,
        user: Handle<elasticache::User>,
        role: Handle<iam::Role>,
    ) {
        let of: [crate::value::Value<String>; 2] = [self.arn(), user.arn().into()];
        template.grant(
            role,
            format!("{}Connect", self.logical_id()),
            Statement::allow(["elasticache:Connect"], of),
        );
    }
}

impl kms::Key {
    /// The key is used by a service for the caller, never by the caller alone; `service` is the first word
    /// of its address, such as `kinesis`.
    ///
    /// See "kms:ViaService" of the AWS KMS developer guide.
    pub fn used_through(service: &str) -> Condition {
        let address = Sub::new()
            .text(service)
            .text(".")
            .value(crate::intrinsic::pseudo::region())
            .text(".")
            .value(crate::intrinsic::pseudo::url_suffix());
        Condition::string_equals("kms:ViaService", address.build())
    }
}

impl Handle<kms::Key> {
    /// `role` may use the key through a service, such as `kinesis`, as far as the key's policy lets the
    /// account's roles do so.
    pub fn grant_through(
        self,
        template: &mut Template,
        role: Handle<iam::Role>,
        service: &str,
        actions: &[&str],
    ) {
        let statement = Statement::allow(actions.iter().copied(), [self.arn()])
            .when(kms::Key::used_through(service));
        template.grant(
            role,
            format!("{}Through-{service}", self.logical_id()),
            statement,
        );
    }
}

impl Handle<s3::Bucket> {
    /// All objects of the bucket.
    pub fn objects(self) -> crate::value::Value<String> {
        Sub::new().value(self.arn()).text("/*").build()
    }

    /// `role` may deliver objects as Firehose does.
    ///
    /// See "Grant Firehose access to an Amazon S3 destination" of the Firehose developer guide.
    pub fn grant_delivery(self, template: &mut Template, role: Handle<iam::Role>) {
        let name = self.logical_id();
        let of_bucket = [
            "s3:GetBucketLocation",
            "s3:ListBucket",
            "s3:ListBucketMultipartUploads",
        ];
        template.grant(
            role,
            format!("{name}List"),
            Statement::allow(of_bucket, [self.arn()]),
        );
        let of_objects = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"];
        template.grant(
            role,
            format!("{name}Deliver"),
            Statement::allow(of_objects, [self.objects()]),
        );
    }

    /// `role` may keep failed batches, as an event source mapping does.
    ///
    /// See "Retain records of asynchronous and stream invocations", S3 destinations, of the Lambda
    /// developer guide.
    pub fn grant_failures(self, template: &mut Template, role: Handle<iam::Role>) {
        let name = self.logical_id();
        template.grant(
            role,
            format!("{name}List"),
            Statement::allow(["s3:ListBucket"], [self.arn()]),
        );
        template.grant(
            role,
            format!("{name}Put"),
            Statement::allow(["s3:PutObject"], [self.objects()]),
        );
    }
}

impl Handle<logs::LogGroup> {
    /// `role` may make log streams in the group and write to them. The group itself is declared, so
    /// nobody needs to make one.
    pub fn grant_write(self, template: &mut Template, role: Handle<iam::Role>) {
        let actions = ["logs:CreateLogStream", "logs:PutLogEvents"];
        template.grant(
            role,
            format!("{}Write", self.logical_id()),
            Statement::allow(actions, [self.arn()]),
        );
    }

    /// `role` may write as an AWS IoT rule does, which also looks its log streams up.
    ///
    /// See "CloudWatch Logs" under "AWS IoT rule actions".
    pub fn grant_rule_write(self, template: &mut Template, role: Handle<iam::Role>) {
        let actions = [
            "logs:CreateLogStream",
            "logs:DescribeLogStreams",
            "logs:PutLogEvents",
        ];
        template.grant(
            role,
            format!("{}Write", self.logical_id()),
            Statement::allow(actions, [self.arn()]),
        );
    }
}

impl Handle<logs::LogStream> {
    /// `role` may write to this log stream of the group.
    pub fn grant_write(
        self,
        template: &mut Template,
        group: Handle<logs::LogGroup>,
        role: Handle<iam::Role>,
    ) {
        let stream = Sub::new()
            .text("arn:")
            .value(crate::intrinsic::pseudo::partition())
            .text(":logs:")
            .value(crate::intrinsic::pseudo::region())
            .text(":")
            .value(crate::intrinsic::pseudo::account_id())
            .text(":log-group:")
            .value(group.reference())
            .text(":log-stream:")
            .value(self.reference())
            .build();
        template.grant(
            role,
            format!("{}Write", self.logical_id()),
            Statement::allow(["logs:PutLogEvents"], [stream]),
        );
    }
}
