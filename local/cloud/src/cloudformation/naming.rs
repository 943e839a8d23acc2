//! Physical IDs that CloudFormation and the services make up.
//!
//! A name consists of the stack's, the logical ID and a part that is different for each stack and for
//! each replacement: a bucket that outlives its stack is in nobody's way when the stack is made anew.

use cfn::arn;
use cfn::document::Resource;
use md5::{Digest, Md5};

/// Characters of the part that nobody chose.
const UNIQUE: usize = 12;

/// The longest name of a type that makes shorter ones than 64 characters.
fn longest(r#type: &str) -> usize {
    match r#type {
        "AWS::ElastiCache::ReplicationGroup"
        | "AWS::ElastiCache::ServerlessCache"
        | "AWS::ElastiCache::User"
        | "AWS::ElastiCache::UserGroup"
        | "AWS::ElasticBeanstalk::Environment" => 40,
        "AWS::ElastiCache::CacheCluster" => 50,
        "AWS::S3::Bucket" => 63,
        "AWS::IAM::Role" | "AWS::Lambda::Function" | "AWS::KinesisFirehose::DeliveryStream" => 64,
        "AWS::SQS::Queue" => 80,
        _ => 128,
    }
}

/// Whether the template gives a resource its name.
pub(super) fn is_custom(resource: &Resource) -> bool {
    arn::name_property(&resource.r#type).is_some_and(|name| resource.properties.get(name).is_some())
}

/// The physical ID of a resource, made from the one that it has in [`cfn::resolve`]; `None` where that
/// one is right, because the template or another resource decides about it.
pub(super) fn physical_id(
    stack_id: &str,
    stack_name: &str,
    logical_id: &str,
    resource: &Resource,
    generation: u32,
    usual: &str,
) -> Option<String> {
    if is_custom(resource) {
        return None;
    }
    let digits = digits(&format!("{stack_id}/{logical_id}/{generation}"));
    if let Some((prefix, rest)) = usual.rsplit_once('-')
        && rest.len() == 17
        && rest.bytes().all(|it| it.is_ascii_hexdigit())
    {
        return Some(format!("{prefix}-{}", &digits[..17]));
    }
    if is_uuid(usual) {
        let groups = [
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
        ];
        return Some(format!("{}-{}", groups.join("-"), &digits[20..]));
    }
    let (start, name) = match usual.rfind([':', '/']) {
        Some(end) if usual.starts_with("arn:") || usual.starts_with("https://") => {
            usual.split_at(end + 1)
        }
        _ => ("", usual),
    };
    let underscored = format!("{stack_name}_{logical_id}").replace('-', "_");
    let hyphened = format!("{stack_name}-{logical_id}");
    let (base, separator, unique) = if name.starts_with(&hyphened[..hyphened.len().min(name.len())])
    {
        (hyphened, '-', digits[..UNIQUE].to_uppercase())
    } else if name == underscored {
        (underscored, '_', digits[..UNIQUE].to_owned())
    } else if !name.is_empty() && begins_alike(name, &hyphened.to_lowercase()) {
        (hyphened.to_lowercase(), '-', digits[..UNIQUE].to_owned())
    } else {
        return None;
    };
    let room = longest(&resource.r#type).saturating_sub(UNIQUE + 1);
    let kept: String = base.chars().take(room).collect();
    Some(format!("{start}{kept}{separator}{unique}"))
}

/// 32 digits that depend on the text only.
fn digits(text: &str) -> String {
    let digest = Md5::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a name is made from another; a long one is cut, with nine characters of its own.
fn begins_alike(name: &str, whole: &str) -> bool {
    let common = name
        .bytes()
        .zip(whole.bytes())
        .take_while(|(left, right)| left == right)
        .count();
    common == whole.len() || (name.len() > 30 && common + 9 >= name.len())
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|it| it == b'-' || it.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(r#type: &str, usual: &str, properties: &str, generation: u32) -> Option<String> {
        let text = format!(r#"{{"Type": "{type}", "Properties": {properties}}}"#);
        let resource: Resource = serde_json::from_str(&text).unwrap();
        physical_id("id", "my-stack", "Thing", &resource, generation, usual)
    }

    #[test]
    fn names_have_a_part_that_changes_with_each_replacement() {
        let rows = [
            ("AWS::IAM::Role", "my-stack-Thing", "my-stack-Thing-"),
            ("AWS::S3::Bucket", "my-stack-thing", "my-stack-thing-"),
            ("AWS::IoT::TopicRule", "my_stack_Thing", "my_stack_Thing_"),
            ("AWS::EC2::VPC", "vpc-0123456789abcdef0", "vpc-"),
            (
                "AWS::SNS::Topic",
                "arn:aws:sns:r:0:my-stack-Thing",
                "arn:aws:sns:r:0:my-stack-Thing-",
            ),
            ("AWS::KMS::Key", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", ""),
        ];
        for (r#type, usual, start) in rows {
            let first = id(r#type, usual, "{}", 0).unwrap();
            let second = id(r#type, usual, "{}", 1).unwrap();
            assert!(first.starts_with(start), "{first}");
            assert_ne!(first, second);
            assert_eq!(Some(first), id(r#type, usual, "{}", 0));
        }
    }

    #[test]
    fn names_of_the_template_stay() {
        assert_eq!(
            id("AWS::S3::Bucket", "b", r#"{"BucketName": "b"}"#, 1),
            None
        );
        assert_eq!(id("AWS::S3::BucketPolicy", "a-bucket", "{}", 0), None);
        assert_eq!(id("AWS::EC2::EIP", "192.0.2.1", "{}", 0), None);
    }

    #[test]
    fn names_keep_to_the_limit_of_their_type() {
        let stack = "s".repeat(60);
        let resource: Resource =
            serde_json::from_str(r#"{"Type": "AWS::ElastiCache::ReplicationGroup"}"#).unwrap();
        let usual = format!("{}-{}", &stack[..31], "0123abcd");
        let id = physical_id("id", &stack, "Cache", &resource, 0, &usual).unwrap();
        assert_eq!(id.len(), 40, "{id}");
    }
}
