//! Which settings protect, and whether a change makes them protect less.
//!
//! By name, over all types: what is called so protects in every one that we use. A setting that is not
//! here is shown as an ordinary change.

use cfn::diff::Setting;
use serde_json::Value as Json;

/// What a change of a protecting setting means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Weaker,
    Stronger,
    /// Another way to protect, such as another key.
    Other,
}

/// When a setting protects most.
enum Best {
    True,
    False,
    /// The higher the better; not set is for ever.
    Long,
    /// The higher the better; not set is none.
    Many,
    /// The later in the list the better; not set is the first.
    Order(&'static [&'static str]),
    /// It is there.
    Present,
    /// It is not there.
    Absent,
    /// True, and not set is true.
    TrueUnlessFalse,
    /// A list with as few as possible: who comes in is one more.
    Few,
    /// Rules that delete: the later the better, none is best.
    Expiry,
    /// The name of an ELB security policy: those with TLS 1.3 alone before those with TLS 1.2, before
    /// those that admit older ones.
    Tls,
}

const KEPT: Best = Best::Order(&["Delete", "Snapshot", "RetainExceptOnCreate", "Retain"]);

/// Last names of a setting's path (for an option setting its name, or namespace and name) → subject, best
/// value.
const SETTINGS: &[(&str, &str, Best)] = &[
    ("DeletionPolicy", "deletion policy", KEPT),
    ("UpdateReplacePolicy", "deletion policy", KEPT),
    ("DeletionProtectionEnabled", "deletion policy", Best::True),
    ("RetentionInDays", "log retention", Best::Long),
    ("DeleteOnTerminate", "log retention", Best::False),
    ("RetentionPeriodHours", "retention", Best::Many),
    ("ExpirationInDays", "retention", Best::Long),
    ("NoncurrentDays", "retention", Best::Long),
    ("SnapshotRetentionLimit", "retention", Best::Many),
    ("BlockPublicAcls", "public access", Best::True),
    ("BlockPublicPolicy", "public access", Best::True),
    ("IgnorePublicAcls", "public access", Best::True),
    ("RestrictPublicBuckets", "public access", Best::True),
    (
        "PublicAccessBlockConfiguration",
        "public access",
        Best::Present,
    ),
    ("OwnershipControls", "public access", Best::Present),
    (
        "ObjectOwnership",
        "public access",
        Best::Order(&[
            "ObjectWriter",
            "BucketOwnerPreferred",
            "BucketOwnerEnforced",
        ]),
    ),
    ("LifecycleConfiguration", "retention", Best::Expiry),
    ("LifecycleConfiguration.Rules", "retention", Best::Expiry),
    ("MapPublicIpOnLaunch", "public access", Best::False),
    ("AssociatePublicIpAddress", "public access", Best::False),
    (
        "ELBScheme",
        "public access",
        Best::Order(&["public", "internal"]),
    ),
    ("AtRestEncryptionEnabled", "encryption", Best::True),
    ("TransitEncryptionEnabled", "encryption", Best::True),
    (
        "TransitEncryptionMode",
        "encryption",
        Best::Order(&["preferred", "required"]),
    ),
    ("EnableKeyRotation", "encryption", Best::True),
    (
        "EncryptionType",
        "encryption",
        Best::Order(&["NONE", "KMS"]),
    ),
    ("StreamEncryption", "encryption", Best::Present),
    ("BucketEncryption", "encryption", Best::Present),
    (
        "DeliveryStreamEncryptionConfigurationInput",
        "encryption",
        Best::Present,
    ),
    ("KmsKeyId", "encryption", Best::Present),
    ("KmsMasterKeyId", "encryption", Best::Present),
    ("KMSMasterKeyID", "encryption", Best::Present),
    ("KeyId", "encryption", Best::Present),
    (
        "KeyType",
        "encryption",
        Best::Order(&["AWS_OWNED_CMK", "CUSTOMER_MANAGED_CMK"]),
    ),
    (
        "SSEAlgorithm",
        "encryption",
        Best::Order(&["AES256", "aws:kms", "aws:kms:dsse"]),
    ),
    ("SqsManagedSseEnabled", "encryption", Best::TrueUnlessFalse),
    ("SSLPolicy", "encryption", Best::Tls),
    (
        "aws:elbv2:listener:443 ListenerEnabled",
        "encryption",
        Best::True,
    ),
    (
        "aws:elbv2:listener:default ListenerEnabled",
        "encryption",
        Best::False,
    ),
    (
        "aws:elbv2:listener:443 Protocol",
        "encryption",
        Best::Order(&["HTTP", "HTTPS"]),
    ),
    ("SSLCertificateArns", "encryption", Best::Present),
    ("UserGroupIds", "sign-in", Best::Present),
    ("UserIds", "sign-in", Best::Few),
    (
        "AuthenticationMode.Type",
        "sign-in",
        Best::Order(&["no-password-required", "password", "iam"]),
    ),
    ("AuthenticationMode.Passwords", "sign-in", Best::Absent),
    ("Passwords", "sign-in", Best::Absent),
    ("NoPasswordRequired", "sign-in", Best::False),
    ("AuthType", "sign-in", Best::Order(&["NONE", "AWS_IAM"])),
    ("DisableIMDSv1", "metadata service", Best::True),
    ("DisableDefaultEC2SecurityGroup", "network", Best::True),
    (
        "VersioningConfiguration.Status",
        "versions",
        Best::Order(&["Suspended", "Disabled", "Enabled"]),
    ),
    ("VersioningConfiguration", "versions", Best::Present),
    ("AutomaticFailoverEnabled", "availability", Best::True),
    ("MultiAZEnabled", "availability", Best::True),
    (
        "EnvironmentType",
        "availability",
        Best::Order(&["SingleInstance", "LoadBalanced"]),
    ),
    ("NumCacheClusters", "availability", Best::Many),
    ("MinSize", "availability", Best::Many),
    ("AutoMinorVersionUpgrade", "updates", Best::TrueUnlessFalse),
    ("ManagedActionsEnabled", "updates", Best::True),
    ("StreamLogs", "logs", Best::True),
    (
        "SystemType",
        "health reports",
        Best::Order(&["basic", "enhanced"]),
    ),
    ("RuleDisabled", "messages", Best::False),
    ("Enabled", "messages", Best::TrueUnlessFalse),
    ("ActionsEnabled", "alarms", Best::TrueUnlessFalse),
    ("AlarmActions", "alarms", Best::Present),
];

/// What a setting protects and what its change means; `None` for one that does not protect.
pub(crate) fn of(setting: &Setting) -> Option<(&'static str, Verdict)> {
    let name = name(&setting.path);
    let (before, after) = (value(&setting.before), value(&setting.after));
    if name.ends_with("AccessString") {
        return Some(("sign-in", access(&before, &after)));
    }
    let is_known = |known: &str| {
        name.strip_suffix(known)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with(['.', ' ']))
    };
    // The longest name that is known is the one that is meant.
    let known = SETTINGS.iter().filter(|(known, ..)| is_known(known));
    let (_, subject, best) = known.max_by_key(|(known, ..)| known.len())?;
    if let Best::Few = best {
        return Some((subject, fewer(&before, &after)));
    }
    let rank = |value: &Option<Json>| rank(best, value.as_ref());
    let verdict = match rank(&after).partial_cmp(&rank(&before)) {
        Some(std::cmp::Ordering::Less) => Verdict::Weaker,
        Some(std::cmp::Ordering::Greater) => Verdict::Stronger,
        _ => Verdict::Other,
    };
    Some((subject, verdict))
}

/// Who is in a list more or less.
fn fewer(before: &Option<Json>, after: &Option<Json>) -> Verdict {
    let items = |value: &Option<Json>| match value {
        Some(Json::Array(items)) => items.clone(),
        Some(item) => vec![item.clone()],
        None => Vec::new(),
    };
    let (old, new) = (items(before), items(after));
    if new.iter().any(|item| !old.contains(item)) {
        Verdict::Weaker
    } else if new.len() < old.len() {
        Verdict::Stronger
    } else {
        Verdict::Other
    }
}

/// What a cache user's access string allows more or less. Order matters in it, so that one with the same
/// words in another order may allow anything.
fn access(before: &Option<Json>, after: &Option<Json>) -> Verdict {
    let words = |value: &Option<Json>| -> Vec<String> {
        let text = value.as_ref().and_then(Json::as_str).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    };
    let closes =
        |word: &&String| word.starts_with('-') || word.starts_with("reset") || *word == "off";
    let (old, new) = (words(before), words(after));
    if old == new {
        return Verdict::Other;
    }
    let is_off = |words: &[String]| words.iter().any(|word| word == "off");
    if is_off(&new) != is_off(&old) {
        return if is_off(&new) {
            Verdict::Stronger
        } else {
            Verdict::Weaker
        };
    }
    let more = new.iter().any(|word| !closes(&word) && !old.contains(word));
    let less = old.iter().any(|word| closes(&word) && !new.contains(word));
    let common = |of: &[String], other: &[String]| -> Vec<String> {
        of.iter().filter(|it| other.contains(it)).cloned().collect()
    };
    if more || less || common(&old, &new) != common(&new, &old) {
        return Verdict::Weaker;
    }
    Verdict::Stronger
}

/// The names that count in a path such as `Properties.OptionSettings.[aws:ec2:vpc ELBScheme].Value`:
/// `aws:ec2:vpc ELBScheme`.
fn name(path: &str) -> String {
    if let Some((_, option)) = path.split_once("OptionSettings.[") {
        return option.split(']').next().unwrap_or_default().to_owned();
    }
    let is_place = |step: &&str| step.bytes().all(|byte| byte.is_ascii_digit());
    let steps: Vec<&str> = path.split('.').filter(|step| !is_place(step)).collect();
    steps.join(".")
}

/// The value itself, also of an option setting that comes or goes as a whole.
fn value(value: &Option<Json>) -> Option<Json> {
    match value {
        Some(option) if option.get("OptionName").is_some() => option.get("Value").cloned(),
        other => other.clone(),
    }
}

/// How well a value protects; comparable with others of the same setting.
fn rank(best: &Best, value: Option<&Json>) -> f64 {
    let text = || match value {
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let flag = |wanted: &str| f64::from(text() == wanted);
    match best {
        Best::True => flag("true"),
        Best::False => f64::from(text() != "true"),
        Best::Long if value.is_none() => f64::INFINITY,
        Best::Many if value.is_none() => 0.0,
        Best::Long | Best::Many => text().parse().unwrap_or(0.0),
        Best::Order(order) => {
            let place = order.iter().position(|it| *it == text());
            place.map_or(0.0, |place| place as f64)
        }
        Best::Present => f64::from(value.is_some()),
        Best::Absent => f64::from(value.is_none()),
        Best::TrueUnlessFalse => f64::from(text() != "false"),
        // Lists are compared item by item.
        Best::Few => 0.0,
        Best::Expiry => value.map_or(f64::INFINITY, soonest),
        Best::Tls => {
            let name = text();
            let order = [
                "TLS13-1-0",
                "TLS13-1-1",
                "TLS-1-2",
                "TLS13-1-2",
                "TLS13-1-3",
            ];
            let place = order.iter().position(|it| name.contains(it));
            place.map_or(0.0, |place| place as f64 + 1.0)
        }
    }
}

/// Days after which the first rule deletes.
fn soonest(rules: &Json) -> f64 {
    match rules {
        Json::Array(items) => items.iter().map(soonest).fold(f64::INFINITY, f64::min),
        Json::Object(members) if members.get("Status") == Some(&Json::from("Disabled")) => {
            f64::INFINITY
        }
        Json::Object(members) => {
            let days = |(name, value): (&String, &Json)| match name.as_str() {
                "ExpirationInDays" | "NoncurrentDays" => value.as_f64().unwrap_or(0.0),
                "ExpirationDate" => 0.0,
                _ => soonest(value),
            };
            members.iter().map(days).fold(f64::INFINITY, f64::min)
        }
        _ => f64::INFINITY,
    }
}

/// What a resource must have to be as safe as ours: type, path below `Properties`, subject, and what is
/// said when it has not.
const EXPECTED: &[(&str, &str, Best, &str)] = &[
    (
        "AWS::S3::Bucket",
        "/PublicAccessBlockConfiguration/BlockPublicPolicy",
        Best::TrueUnlessFalse,
        "it may be made public by a policy",
    ),
    (
        "AWS::S3::Bucket",
        "/PublicAccessBlockConfiguration/RestrictPublicBuckets",
        Best::TrueUnlessFalse,
        "a public policy of it counts",
    ),
    (
        "AWS::S3::Bucket",
        "/PublicAccessBlockConfiguration/BlockPublicAcls",
        Best::TrueUnlessFalse,
        "it may be made public by ACLs",
    ),
    (
        "AWS::S3::Bucket",
        "/PublicAccessBlockConfiguration",
        Best::Present,
        "nothing blocks public access to it",
    ),
    (
        "AWS::Logs::LogGroup",
        "/RetentionInDays",
        Best::Present,
        "it keeps its events for ever",
    ),
    (
        "AWS::ElastiCache::User",
        "/AuthenticationMode/Type",
        Best::Order(&["no-password-required", "password", "iam"]),
        "it does not sign in with IAM",
    ),
    (
        "AWS::ElastiCache::User",
        "/NoPasswordRequired",
        Best::False,
        "it signs in without a password",
    ),
    (
        "AWS::ElastiCache::ReplicationGroup",
        "/TransitEncryptionEnabled",
        Best::True,
        "it is reached without encryption",
    ),
    (
        "AWS::ElastiCache::ReplicationGroup",
        "/AtRestEncryptionEnabled",
        Best::True,
        "it is not encrypted at rest",
    ),
    (
        "AWS::ElastiCache::ReplicationGroup",
        "/UserGroupIds",
        Best::Present,
        "nobody has to sign in",
    ),
    (
        "AWS::Kinesis::Stream",
        "/StreamEncryption",
        Best::Present,
        "it is not encrypted at rest",
    ),
    (
        "AWS::KinesisFirehose::DeliveryStream",
        "/DeliveryStreamEncryptionConfigurationInput",
        Best::Present,
        "it is not encrypted at rest",
    ),
    (
        "AWS::SNS::Topic",
        "/KmsMasterKeyId",
        Best::Present,
        "it is not encrypted at rest",
    ),
    (
        "AWS::SQS::Queue",
        "/SqsManagedSseEnabled",
        Best::TrueUnlessFalse,
        "it is not encrypted at rest",
    ),
    (
        "AWS::KMS::Key",
        "/EnableKeyRotation",
        Best::True,
        "it is not rotated",
    ),
    (
        "AWS::EC2::Subnet",
        "/MapPublicIpOnLaunch",
        Best::False,
        "what starts in it gets a public address",
    ),
    (
        "AWS::Lambda::Url",
        "/AuthType",
        Best::Order(&["NONE", "AWS_IAM"]),
        "anybody may call it",
    ),
];

/// What a resource that comes does not have of what protects.
pub(crate) fn lacking(r#type: &str, properties: &Json) -> Vec<&'static str> {
    let expected = EXPECTED.iter().filter(|(of, ..)| *of == r#type);
    expected
        .filter(|(_, pointer, best, _)| {
            let value = properties.pointer(pointer);
            let most = match best {
                Best::Order(order) => order.len() as f64 - 1.0,
                _ => 1.0,
            };
            rank(best, value) < most
        })
        .map(|(_, _, _, words)| *words)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(path: &str, before: Json, after: Json, expected: Option<(&str, Verdict)>) {
        let some = |value: Json| (!value.is_null()).then_some(value);
        let setting = Setting {
            path: path.to_owned(),
            before: some(before),
            after: some(after),
            replaces: false,
        };
        assert_eq!(of(&setting), expected, "{path}");
    }

    #[test]
    fn settings_that_protect_are_known_by_name() {
        use Verdict::{Other, Stronger, Weaker};
        let block = "Properties.PublicAccessBlockConfiguration";
        check(
            block,
            json!({}),
            json!(null),
            Some(("public access", Weaker)),
        );
        let flag = format!("{block}.BlockPublicPolicy");
        check(
            &flag,
            json!(true),
            json!(false),
            Some(("public access", Weaker)),
        );
        check(
            &flag,
            json!(false),
            json!(true),
            Some(("public access", Stronger)),
        );
        let days = "Properties.RetentionInDays";
        check(days, json!(90), json!(7), Some(("log retention", Weaker)));
        check(
            days,
            json!(90),
            json!(null),
            Some(("log retention", Stronger)),
        );
        check(
            "DeletionPolicy",
            json!("Retain"),
            json!(null),
            Some(("deletion policy", Weaker)),
        );
        let key = "Properties.StreamEncryption.KeyId";
        check(
            key,
            json!("alias/aws/kinesis"),
            json!("Key"),
            Some(("encryption", Other)),
        );
        let (new, old) = (
            "ELBSecurityPolicy-TLS13-1-2-2021-06",
            "ELBSecurityPolicy-2016-08",
        );
        check(
            "Properties.SSLPolicy",
            json!(new),
            json!(old),
            Some(("encryption", Weaker)),
        );
        check("Properties.ShardCount", json!(1), json!(2), None);
        // Of rules that delete it is the first that counts.
        let rules = "Properties.LifecycleConfiguration.Rules";
        let multipart = json!({ "Status": "Enabled", "AbortIncompleteMultipartUpload": {} });
        let expiry = json!({ "Status": "Enabled", "ExpirationInDays": 1 });
        check(
            rules,
            json!([multipart]),
            json!([multipart, expiry]),
            Some(("retention", Weaker)),
        );
        check(
            rules,
            json!([expiry]),
            json!([multipart]),
            Some(("retention", Stronger)),
        );
        let status = "Properties.LifecycleConfiguration.Rules.0.Status";
        check(status, json!("Enabled"), json!("Disabled"), None);
        let enabled = "Properties.ActionsEnabled";
        check(enabled, json!(null), json!(false), Some(("alarms", Weaker)));
        check(enabled, json!(null), json!(true), Some(("alarms", Other)));
        let ownership = "Properties.OwnershipControls.Rules.0.ObjectOwnership";
        check(
            ownership,
            json!("BucketOwnerEnforced"),
            json!("ObjectWriter"),
            Some(("public access", Weaker)),
        );
    }

    #[test]
    fn who_may_sign_in_to_the_cache_and_how_is_weighed() {
        use Verdict::{Other, Stronger, Weaker};
        let mode = "Properties.AuthenticationMode.Type";
        check(
            mode,
            json!("iam"),
            json!("no-password-required"),
            Some(("sign-in", Weaker)),
        );
        check(
            mode,
            json!("iam"),
            json!("password"),
            Some(("sign-in", Weaker)),
        );
        let ids = "Properties.UserIds";
        let (two, three) = (json!(["a", "b"]), json!(["a", "b", "default"]));
        check(ids, two.clone(), three.clone(), Some(("sign-in", Weaker)));
        check(ids, three, two.clone(), Some(("sign-in", Stronger)));
        check(
            ids,
            two.clone(),
            json!(["b", "a"]),
            Some(("sign-in", Other)),
        );
    }

    #[test]
    fn listeners_are_known_by_their_port() {
        use Verdict::{Stronger, Weaker};
        let option = |namespace: &str, name: &str| {
            format!("Properties.OptionSettings.[aws:elbv2:listener:{namespace} {name}].Value")
        };
        let enabled = |namespace| option(namespace, "ListenerEnabled");
        check(
            &enabled("443"),
            json!("true"),
            json!("false"),
            Some(("encryption", Weaker)),
        );
        check(
            &enabled("default"),
            json!("true"),
            json!("false"),
            Some(("encryption", Stronger)),
        );
        check(
            &option("443", "Protocol"),
            json!("HTTPS"),
            json!("HTTP"),
            Some(("encryption", Weaker)),
        );
    }

    #[test]
    fn what_comes_without_protection_is_said() {
        let user = json!({ "AuthenticationMode": { "Type": "no-password-required" } });
        assert_eq!(
            lacking("AWS::ElastiCache::User", &user),
            ["it does not sign in with IAM"]
        );
        let user = json!({ "AuthenticationMode": { "Type": "iam" } });
        assert!(lacking("AWS::ElastiCache::User", &user).is_empty());
        let url = json!({ "AuthType": "NONE" });
        assert_eq!(lacking("AWS::Lambda::Url", &url), ["anybody may call it"]);
        assert_eq!(
            lacking("AWS::S3::Bucket", &json!({})),
            ["nothing blocks public access to it"]
        );
        assert!(lacking("AWS::EC2::Subnet", &json!({})).is_empty());
    }

    #[test]
    fn an_access_string_that_allows_more_is_weaker() {
        let path = "Properties.AccessString";
        let (less, more) = ("on ~sensor* -@all +get", "on ~sensor* -@all +get +set");
        check(
            path,
            json!(less),
            json!(more),
            Some(("sign-in", Verdict::Weaker)),
        );
        check(
            path,
            json!(more),
            json!(less),
            Some(("sign-in", Verdict::Stronger)),
        );
        let all = "on ~sensor* +get";
        check(
            path,
            json!(less),
            json!(all),
            Some(("sign-in", Verdict::Weaker)),
        );
        use Verdict::{Stronger, Weaker};
        for (before, after, expected) in [
            ("on resetchannels ~a +get", "on ~a +get", Weaker),
            ("on ~a +get", "off ~a +get", Stronger),
            ("off ~a +get", "on ~a +get", Weaker),
            ("on -@all +@all", "on +@all -@all", Weaker),
            ("on ~a +get", "on ~a +get -@admin", Stronger),
        ] {
            check(
                path,
                json!(before),
                json!(after),
                Some(("sign-in", expected)),
            );
        }
    }

    #[test]
    fn option_settings_are_known_by_their_option() {
        let path = "Properties.OptionSettings.[aws:autoscaling:launchconfiguration DisableIMDSv1]";
        let option = json!({"Namespace": "n", "OptionName": "DisableIMDSv1", "Value": "true"});
        check(
            path,
            option,
            json!(null),
            Some(("metadata service", Verdict::Weaker)),
        );
        let value = format!("{path}.Value");
        check(
            &value,
            json!("true"),
            json!("false"),
            Some(("metadata service", Verdict::Weaker)),
        );
    }
}
