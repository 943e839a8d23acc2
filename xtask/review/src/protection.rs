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
    /// The name of an ELB security policy: those with TLS 1.3 alone before those with TLS 1.2, before
    /// those that admit older ones.
    Tls,
}

const KEPT: Best = Best::Order(&["Delete", "Snapshot", "RetainExceptOnCreate", "Retain"]);

/// Last name of a setting's path (for an option setting its name) → subject, best value.
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
    ("SSLPolicy", "encryption", Best::Tls),
    ("SSLCertificateArns", "encryption", Best::Present),
    ("UserGroupIds", "sign-in", Best::Present),
    ("NoPasswordRequired", "sign-in", Best::False),
    ("DisableIMDSv1", "metadata service", Best::True),
    ("DisableDefaultEC2SecurityGroup", "network", Best::True),
    (
        "Status",
        "versions",
        Best::Order(&["Suspended", "Disabled", "Enabled"]),
    ),
    ("VersioningConfiguration", "versions", Best::Present),
    ("AutomaticFailoverEnabled", "availability", Best::True),
    ("MultiAZEnabled", "availability", Best::True),
    ("AutoMinorVersionUpgrade", "updates", Best::True),
    ("ManagedActionsEnabled", "updates", Best::True),
    ("StreamLogs", "logs", Best::True),
    ("ActionsEnabled", "alarms", Best::True),
    ("AlarmActions", "alarms", Best::Present),
];

/// What a setting protects and what its change means; `None` for one that does not protect.
pub(crate) fn of(setting: &Setting) -> Option<(&'static str, Verdict)> {
    let name = name(&setting.path);
    let (before, after) = (value(&setting.before), value(&setting.after));
    if name == "AccessString" {
        return Some(("sign-in", access(&before, &after)));
    }
    let (_, subject, best) = SETTINGS.iter().find(|(known, ..)| *known == name)?;
    let rank = |value: &Option<Json>| rank(best, value.as_ref());
    let verdict = match rank(&after).partial_cmp(&rank(&before)) {
        Some(std::cmp::Ordering::Less) => Verdict::Weaker,
        Some(std::cmp::Ordering::Greater) => Verdict::Stronger,
        _ => Verdict::Other,
    };
    Some((subject, verdict))
}

/// What a cache user's access string allows more or less. Order matters in it, so that one with the same
/// words in another order is another one.
fn access(before: &Option<Json>, after: &Option<Json>) -> Verdict {
    let words = |value: &Option<Json>| -> Vec<String> {
        let text = value.as_ref().and_then(Json::as_str).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    };
    let opens = |word: &&String| !word.starts_with('-') && !word.starts_with("reset");
    let (old, new) = (words(before), words(after));
    let more = new.iter().filter(opens).any(|word| !old.contains(word));
    let denied = |word: &&String| word.starts_with('-') && !new.contains(word);
    if more || old.iter().any(|word| denied(&word)) {
        return Verdict::Weaker;
    }
    if new.len() < old.len() {
        return Verdict::Stronger;
    }
    Verdict::Other
}

/// The name that counts in a path such as `Properties.OptionSettings.[aws:ec2:vpc ELBScheme].Value`.
fn name(path: &str) -> &str {
    if let Some((_, option)) = path.split_once("OptionSettings.[") {
        let option = option.split(']').next().unwrap_or_default();
        return option.rsplit(' ').next().unwrap_or_default();
    }
    let is_place = |step: &&str| step.bytes().all(|byte| byte.is_ascii_digit());
    path.rsplit('.')
        .find(|step| !is_place(step))
        .unwrap_or_default()
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
