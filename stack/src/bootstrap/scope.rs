//! To which resources an action is limited: by the names that CloudFormation generates from a stack's name.

use cfn::actions;

/// Formats of ARNs whose resources carry the name of their stack, and what stands there instead of the `*`.
///
/// CloudFormation generates `STACK-LOGICALID-RANDOM` and keeps at least 25 characters of the stack's name.
/// A type that is not here has IDs of its service's own, or names that do not begin with the stack's
/// (ElastiCache's are cut to 40 characters, Beanstalk environments' to four of the stack's).
const NAMED: &[(&str, &str)] = &[
    ("cloudwatch:${Region}:${Account}:alarm:", "{stack}-*"),
    (
        "elasticbeanstalk:${Region}:${Account}:application/",
        "{stack}-*",
    ),
    (
        "elasticbeanstalk:${Region}:${Account}:applicationversion/",
        "{stack}-*",
    ),
    (
        "elasticbeanstalk:${Region}:${Account}:configurationtemplate/",
        "{stack}-*",
    ),
    // An environment's ARN begins with its application's name.
    (
        "elasticbeanstalk:${Region}:${Account}:environment/",
        "{stack}-*",
    ),
    ("firehose:${Region}:${Account}:deliverystream/", "{stack}-*"),
    ("iam::${Account}:instance-profile/", "{stack}-*"),
    ("iam::${Account}:role/", "{stack}-*"),
    ("iot:${Region}:${Account}:policy/", "{stack}-*"),
    // A rule's name has no hyphen, and how CloudFormation makes do without is not documented.
    ("iot:${Region}:${Account}:rule/", "sensors*"),
    ("kinesis:${Region}:${Account}:stream/", "{stack}-*"),
    // A key's ID is its service's, and an alias is ours to choose.
    ("kms:${Region}:${Account}:alias/", "*"),
    ("kms:${Region}:${Account}:key/", "*"),
    // Its ID is Lambda's.
    ("lambda:${Region}:${Account}:event-source-mapping:", "*"),
    ("lambda:${Region}:${Account}:function:", "{stack}-*"),
    ("logs:${Region}:${Account}:log-group:", "{stack}-*"),
    ("s3:::", "{stack}-*"),
    ("sns:${Region}:${Account}:", "{stack}-*"),
];

/// Services whose every call names its resource, where it has one.
const NAMING: [&str; 7] = ["firehose", "iam", "iot", "kinesis", "kms", "lambda", "s3"];

/// Actions that AWS's list limits to a resource which the request does not name.
const UNNAMED: [&str; 1] = ["sns:Unsubscribe"];

/// A text for each stack, with `{stack}` replaced by its name. An artifacts' stack's name begins with that of
/// the main stack.
pub(super) fn each(stacks: &[String], text: &str) -> Vec<String> {
    if !text.contains("{stack}") {
        return vec![text.to_owned()];
    }
    stacks
        .iter()
        .map(|stack| text.replace("{stack}", stack))
        .collect()
}

/// The resources on which an action is allowed for some stacks.
///
/// What only reads lists of names (`Describe…`, `List…`) is allowed on all: many such calls name no resource,
/// and IAM then asks for the whole. Those of [`NAMING`] always name one.
pub(super) fn of(stacks: &[String], action: &str) -> Vec<String> {
    let formats = actions::arn_formats(action);
    let (service, name) = action.split_once(':').unwrap_or((action, ""));
    let is_list = name.starts_with("Describe") || name.starts_with("List");
    if formats.is_empty() || UNNAMED.contains(&action) || (is_list && !NAMING.contains(&service)) {
        return vec!["*".to_owned()];
    }
    let mut named: Vec<String> = formats
        .iter()
        .filter_map(|format| {
            let rest = format.strip_prefix("arn:${Partition}:")?;
            let (start, end) = NAMED
                .iter()
                .find(|(start, _)| rest.strip_prefix(start) == Some("*"))?;
            Some(each(stacks, &format!("arn:${{Partition}}:{start}{end}")))
        })
        .flatten()
        .collect();
    if named.is_empty() {
        // Other kinds of resources that the action takes beside a named one are not in our templates.
        named = formats.into_iter().map(of_account).collect();
    }
    named.sort();
    named.dedup();
    named
}

/// Everything of a service in the region and account; a format without them as it is.
fn of_account(format: &str) -> String {
    let parts: Vec<&str> = format.splitn(6, ':').collect();
    match parts.as_slice() {
        [
            arn,
            partition,
            service,
            region @ "${Region}",
            account @ "${Account}",
            _,
        ] => {
            format!("{arn}:{partition}:{service}:{region}:{account}:*")
        }
        _ => format.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_limited_as_far_as_names_go() {
        for (action, expected) in [
            (
                "kinesis:CreateStream",
                "arn:${Partition}:kinesis:${Region}:${Account}:stream/sensors-dev-*",
            ),
            (
                "lambda:UpdateFunctionCode",
                "arn:${Partition}:lambda:${Region}:${Account}:function:sensors-dev-*",
            ),
            (
                "elasticache:CreateUser",
                "arn:${Partition}:elasticache:${Region}:${Account}:*",
            ),
            ("s3:ListBucket", "arn:${Partition}:s3:::sensors-dev-*"),
            ("s3:PutObject", "arn:${Partition}:s3:::sensors-dev-*"),
            ("cloudwatch:DescribeAlarms", "*"),
            ("kms:CreateKey", "*"),
            ("sns:Unsubscribe", "*"),
        ] {
            assert_eq!(
                of(&["sensors-dev".to_owned()], action),
                [expected],
                "{action}"
            );
        }
        let both = ["sensors-dev", "sensors-prod"].map(str::to_owned);
        assert_eq!(of(&both, "sns:CreateTopic").len(), 2);
    }
}
