//! Grants: methods of a resource that give a role access to it.
//!
//! A grant adds an inline policy to a role, named after the resource and its access, so that a reviewer
//! finds it by the resource's logical ID. It is inline, so that a resource that depends on the role also
//! waits for its permissions.

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
    /// Allows `role` to put single records, as AWS IoT's rules do.
    pub fn grant_put(self, template: &mut Template, role: Handle<iam::Role>) {
        let statement = Statement::allow(["kinesis:PutRecord"], [self.arn()]);
        template.grant(role, format!("{}Put", self.logical_id()), statement);
    }

    /// Allows `role` to read the stream with shared throughput, as an event source mapping does.
    ///
    /// See "Using AWS Lambda with Amazon Kinesis", execution role permissions; without
    /// `ListStreams`, because the mapping names the stream.
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
    /// Allows `role` to put single records, as AWS IoT's rules do without batch mode.
    pub fn grant_put(self, template: &mut Template, role: Handle<iam::Role>) {
        let statement = Statement::allow(["firehose:PutRecord"], [self.arn()]);
        template.grant(role, format!("{}Put", self.logical_id()), statement);
    }
}

impl Handle<elasticache::ReplicationGroup> {
    /// Its ARN, for which there is no attribute.
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

    /// Allows `role` to sign in as `user` with its own credentials; the user's access string limits its
    /// commands.
    ///
    /// See "Authenticating with IAM" in the ElastiCache user guide: the action is required on both, cache and
    /// user.
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
    /// The condition that a service uses the key for the caller; `service` is the first part of its host name,
    /// such as `kinesis`.
    ///
    /// See "kms:ViaService" in the AWS KMS developer guide.
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
    /// Allows `role` to use the key through a service, such as `kinesis`, if the key's policy delegates to the
    /// account's policies.
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

    /// Allows `role` to deliver objects as Firehose does.
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

    /// Allows `role` to store failed batches, as an event source mapping does.
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
    /// Allows `role` to create log streams in the group and to write to them. It need not create the group, which
    /// is in the template.
    pub fn grant_write(self, template: &mut Template, role: Handle<iam::Role>) {
        let actions = ["logs:CreateLogStream", "logs:PutLogEvents"];
        template.grant(
            role,
            format!("{}Write", self.logical_id()),
            Statement::allow(actions, [self.arn()]),
        );
    }

    /// Allows `role` to write as an AWS IoT rule does, which also lists log streams.
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
    /// Allows `role` to write to this log stream of the group.
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
