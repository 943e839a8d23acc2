//! Findings of outside judges that are accepted, each with its reason, in the templates' metadata.
//!
//! The judges read them there, so that whoever has the template has the reasons; a finding that is not
//! here fails `cargo xtask test`.

use cfn::Template;
use serde_json::json;

use crate::config::Encryption;

/// A finding of checkov: its identifier, the resources that have it, why it is accepted.
struct Accepted {
    check: &'static str,
    resources: &'static [&'static str],
    reason: &'static str,
}

const ACCEPTED: &[Accepted] = &[
    Accepted {
        check: "CKV_AWS_18",
        resources: &["ArtifactsBucket", "ArchiveBucket", "FailureBucket"],
        reason: "no access log: nobody but this account reads the bucket, and CloudTrail data events say who did, where they are wanted",
    },
    Accepted {
        check: "CKV_AWS_111",
        resources: &["FunctionRole"],
        reason: "network interfaces: the calls have no resource-level permission that Lambda accepts",
    },
    Accepted {
        check: "CKV_AWS_111",
        resources: &["PermissionsBoundary", "ServiceBeanstalkPolicy"],
        reason: "what Beanstalk makes in EC2 has IDs that nobody knows beforehand; AWS's own policy for it has the same resource",
    },
    Accepted {
        check: "CKV_AWS_115",
        resources: &["Function"],
        reason: "no reserved concurrency: shards times parallelization factor bound it already",
    },
    Accepted {
        check: "CKV_AWS_116",
        resources: &["Function"],
        reason: "no dead letter queue: it is for asynchronous calls; the event source mapping keeps what fails in the failure bucket",
    },
    Accepted {
        check: "CKV_AWS_158",
        resources: &["ArchiveErrors", "FlowLogs", "FunctionLogs", "RuleErrors"],
        reason: "encrypted by the key that CloudWatch owns: what they hold beside topics and errors is in the archive, too",
    },
    Accepted {
        check: "CKV_AWS_173",
        resources: &["Function"],
        reason: "the variables hold names and an address, no secret; Lambda encrypts them by its own key",
    },
    Accepted {
        check: "CKV_AWS_260",
        resources: &["BalancerSecurityGroup"],
        reason: "port 80 is open to the allowed ranges of the stage: it redirects to HTTPS where a certificate is given",
    },
];

/// What is no finding under a key of our own.
const ANSWERED_BY_OWN_KEY: [&str; 2] = ["CKV_AWS_158", "CKV_AWS_173"];

/// A finding of parliament in a policy of a role.
struct AcceptedPolicy {
    issue: &'static str,
    role: &'static str,
    policy: &'static str,
    reason: &'static str,
}

/// Stands for the name of a policy that is a resource by itself.
const MANAGED: &str = "managed";

const NEWER: &str = "parliament's list of actions is older than the handlers; a test holds every action against cfn/schemas/actions.json";
const LOOKING: &str =
    "lists and descriptions: many such calls name no resource, and IAM then asks for all";

const ACCEPTED_POLICIES: &[AcceptedPolicy] = &[
    AcceptedPolicy {
        issue: "UNKNOWN_ACTION",
        role: "DeployerPolicy",
        policy: MANAGED,
        reason: NEWER,
    },
    AcceptedPolicy {
        issue: "UNKNOWN_ACTION",
        role: "ServiceDataPolicy",
        policy: MANAGED,
        reason: NEWER,
    },
    AcceptedPolicy {
        issue: "UNKNOWN_ACTION",
        role: "ServiceNetworkPolicy",
        policy: MANAGED,
        reason: NEWER,
    },
    AcceptedPolicy {
        issue: "UNKNOWN_ACTION",
        role: "ServiceOtherPolicy",
        policy: MANAGED,
        reason: NEWER,
    },
    AcceptedPolicy {
        issue: "UNKNOWN_ACTION",
        role: "ServiceStoragePolicy",
        policy: MANAGED,
        reason: NEWER,
    },
    AcceptedPolicy {
        issue: "UNKNOWN_PREFIX",
        role: "ServiceOtherPolicy",
        policy: MANAGED,
        reason: NEWER,
    },
    AcceptedPolicy {
        issue: "MISMATCHED_TYPE_BUT_USABLE",
        role: "ServiceRolesPolicy",
        policy: MANAGED,
        reason: "the form of \"Permissions boundaries for IAM entities\"; an ARN without wildcards is compared alike",
    },
    AcceptedPolicy {
        issue: "RESOURCE_STAR",
        role: "DeployerPolicy",
        policy: MANAGED,
        reason: LOOKING,
    },
    AcceptedPolicy {
        issue: "RESOURCE_STAR",
        role: "ServiceOtherPolicy",
        policy: MANAGED,
        reason: LOOKING,
    },
    AcceptedPolicy {
        issue: "RESOURCE_STAR",
        role: "ServiceStoragePolicy",
        policy: MANAGED,
        reason: LOOKING,
    },
    AcceptedPolicy {
        issue: "RESOURCE_STAR",
        role: "PermissionsBoundary",
        policy: MANAGED,
        reason: "launch templates, security groups and instances have IDs that nobody knows beforehand; the rest only looks",
    },
    AcceptedPolicy {
        issue: "RESOURCE_MISMATCH",
        role: "PermissionsBoundary",
        policy: MANAGED,
        reason: "each wildcard is for one service's resources of Beanstalk; the calls of the service that know no resource are in a statement of their own",
    },
    AcceptedPolicy {
        issue: "RESOURCE_STAR",
        role: "ServiceBeanstalkPolicy",
        policy: MANAGED,
        reason: "launch templates, security groups and instances have IDs that nobody knows beforehand; the rest only looks",
    },
    AcceptedPolicy {
        issue: "RESOURCE_MISMATCH",
        role: "ServiceBeanstalkPolicy",
        policy: MANAGED,
        reason: "each wildcard is for one service's resources of Beanstalk; the calls of the service that know no resource are in a statement of their own",
    },
    AcceptedPolicy {
        issue: "RESOURCE_STAR",
        role: "FunctionRole",
        policy: "NetworkInterfaces",
        reason: "Lambda refuses to make a function whose role narrows these calls",
    },
    AcceptedPolicy {
        issue: "RESOURCE_MISMATCH",
        role: "FlowLogsRole",
        policy: "FlowLogsFind",
        reason: "DescribeLogGroups takes log groups by now (\"Actions, resources, and condition keys for Amazon CloudWatch Logs\")",
    },
    AcceptedPolicy {
        issue: "RESOURCE_MISMATCH",
        role: "WebInstanceRole",
        policy: "BeanstalkLogs",
        reason: "DescribeLogGroups takes log groups by now; the form is that of AWSElasticBeanstalkWebTier",
    },
];

/// Writes the reasons into the metadata of the resources that the template has.
pub(crate) fn annotate(template: &mut Template, encryption: Encryption) {
    let is_finding = |accepted: &&Accepted| {
        encryption == Encryption::AwsManaged || !ANSWERED_BY_OWN_KEY.contains(&accepted.check)
    };
    let ids: Vec<&'static str> = template.logical_ids().collect();
    for id in ids {
        let skip: Vec<_> = ACCEPTED
            .iter()
            .filter(|accepted| accepted.resources.contains(&id))
            .filter(is_finding)
            .map(|accepted| json!({ "id": accepted.check, "comment": accepted.reason }))
            .collect();
        if !skip.is_empty() {
            template.annotate(id, "checkov", json!({ "skip": skip }));
        }
        let skip: Vec<_> = ACCEPTED_POLICIES
            .iter()
            .filter(|accepted| accepted.role == id)
            .map(|it| json!({ "issue": it.issue, "policy": it.policy, "comment": it.reason }))
            .collect();
        if !skip.is_empty() {
            template.annotate(id, "parliament", json!({ "skip": skip }));
        }
    }
}
