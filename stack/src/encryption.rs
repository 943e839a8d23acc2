//! The key that data at rest is encrypted with.
//!
//! Everything is encrypted in any case. What a stage chooses is whose key it is: AWS's, which costs
//! nothing and asks nobody, or one of our own, whose policy says who may use it, whose use is in
//! CloudTrail, and which can be disabled.
//!
//! Not under it: the artifacts' bucket, which is of another stack, comes first and holds programs, no data
//! of devices; and what Elastic Beanstalk makes for itself (its bucket, its log groups, the instances'
//! volumes), for which it has no option.

use cfn::integration::KEY_ADMINISTRATION;
use cfn::intrinsic::{Sub, pseudo};
use cfn::policy::{Condition, Document, Principal, Statement};
use cfn::resources::{iam, kms};
use cfn::{
    Attribute, DeletionPolicy, Handle, ResourceAttributes, Template, UpdateReplacePolicy, Value,
};

use crate::config;

/// Days from the deletion of a key until it is gone, in which that can be taken back; the most that KMS
/// gives, because everything encrypted with it goes with it.
const PENDING_DAYS: i64 = 30;

/// What this account's roles do with the key through a service, as far as their own policies allow it.
/// A grant is how a service keeps working with the key once the deployment has named it.
const USE: [(&str, &[&str]); 6] = [
    ("elasticache", &CACHE),
    // ElastiCache calls by this name, too: see "At-rest encryption in ElastiCache".
    ("dax", &CACHE),
    (
        "firehose",
        &["kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKey"],
    ),
    ("kinesis", &["kms:Decrypt", "kms:GenerateDataKey"]),
    ("lambda", &["kms:CreateGrant", "kms:Decrypt", "kms:Encrypt"]),
    ("s3", &["kms:Decrypt", "kms:GenerateDataKey"]),
];

const CACHE: [&str; 4] = [
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
];

/// Whose key data at rest is under.
#[derive(Clone, Copy)]
pub struct Encryption {
    /// Our own; `None`: each service takes AWS's.
    pub key: Option<Handle<kms::Key>>,
}

/// Defines the key, where the stage wants one.
pub fn define(template: &mut Template, choice: config::Encryption) -> Encryption {
    let key = match choice {
        config::Encryption::AwsManaged => None,
        config::Encryption::OwnKey => Some(own_key(template)),
    };
    Encryption { key }
}

impl Encryption {
    /// ARN of our own key.
    pub fn arn(self) -> Option<Attribute<kms::KeyArn>> {
        self.key.map(Handle::<kms::Key>::arn)
    }

    /// `role` may use our own key through a service; under AWS's keys nobody needs that.
    pub fn grant(
        self,
        template: &mut Template,
        role: Handle<iam::Role>,
        service: &str,
        actions: &[&str],
    ) {
        if let Some(key) = self.key {
            key.grant_through(template, role, service, actions);
        }
    }
}

/// The key outlives its stack as the buckets do: without it what they keep could not be read.
fn own_key(template: &mut Template) -> Handle<kms::Key> {
    template.define_with(
        "DataKey",
        kms::Key {
            description: Some("Encrypts the sensors' data at rest".into()),
            enable_key_rotation: Some(true.into()),
            key_policy: Some(policy().into()),
            pending_window_in_days: Some(PENDING_DAYS.into()),
            ..Default::default()
        },
        ResourceAttributes {
            deletion_policy: Some(DeletionPolicy::RetainExceptOnCreate),
            update_replace_policy: Some(UpdateReplacePolicy::Retain),
            ..ResourceAttributes::default()
        },
    )
}

/// Who may do what with the key; a key's policy speaks of that key alone, hence `*`: see "Key policies in
/// AWS KMS".
///
/// No role is named: each names the key in its own policy, and CloudFormation makes no circle.
fn policy() -> Document {
    let account = || {
        let root = Sub::new()
            .text("arn:")
            .value(pseudo::partition())
            .text(":iam::")
            .value(pseudo::account_id())
            .text(":root");
        Principal::Aws(root.build())
    };
    // Administrators do all that their own policies allow, but never use the key.
    let mut statements = vec![Statement::allow(KEY_ADMINISTRATION, ["*"]).by(account())];
    for (service, actions) in USE {
        statements.push(
            Statement::allow(actions.iter().copied(), ["*"])
                .by(account())
                .when(kms::Key::used_through(service)),
        );
    }
    statements.push(log_groups());
    statements.push(alarms());
    Document::new(statements)
}

/// CloudWatch Logs for this stack's log groups, whose names CloudFormation begins with the stack's. See
/// "Encrypt log data in CloudWatch Logs using AWS KMS".
fn log_groups() -> Statement {
    let service = Sub::new()
        .text("logs.")
        .value(pseudo::region())
        .text(".")
        .value(pseudo::url_suffix())
        .build();
    let groups: Value<String> = Sub::new()
        .text("arn:")
        .value(pseudo::partition())
        .text(":logs:")
        .value(pseudo::region())
        .text(":")
        .value(pseudo::account_id())
        .text(":log-group:")
        .value(pseudo::stack_name())
        .text("-*")
        .build();
    let actions = [
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey*",
        "kms:ReEncrypt*",
    ];
    Statement::allow(actions, ["*"])
        .by(Principal::Service(service))
        .when(Condition::arn_like(
            "kms:EncryptionContext:aws:logs:arn",
            groups,
        ))
}

/// CloudWatch may publish alarms to a topic under the key.
///
/// See "Key management" of the Amazon SNS developer guide, compatibility with event sources.
pub(crate) fn alarms() -> Statement {
    Statement::allow(["kms:Decrypt", "kms:GenerateDataKey*"], ["*"])
        .by(Principal::Service("cloudwatch.amazonaws.com".into()))
        .when(Condition::source_account())
}
