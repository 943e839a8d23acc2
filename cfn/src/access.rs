//! Summaries of permissions and of network paths, as plain text for reviewers and snapshots.
//!
//! Lines are sorted, one fact each, in columns. The template is resolved in [`context`], so that a summary
//! has no account, region or machine, and every name is a logical ID.
//! [`crate::evaluate`] refuses unsupported policy elements; this shows everything as it is written.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::arn;
use crate::network::{Endpoint, Network, Peer, Rule, Target};
use crate::resolve::{Context, MissingParameters, Naming, Resolved, ResolvedResource, text};

/// A context with placeholders: `{account}`, `{region}`, `{stack}`, `{ParameterName}` for a parameter
/// without default, and logical IDs for names.
pub fn context() -> Context {
    Context {
        stack_id: "{stack}".to_owned(),
        missing_parameters: MissingParameters::Placeholder,
        naming: Naming::Logical,
        ..Context::new("{account}", "{region}", "{stack}")
    }
}

/// Permissions, one a line: principal, effect, action, resource, condition.
///
/// Roles are named by logical ID; a line with `sts:AssumeRole` names who may assume a role.
pub fn permissions(resolved: &Resolved) -> String {
    table(permission_rows(resolved))
}

/// The rows of [`permissions`]: principal, effect, action, resource and perhaps a condition.
pub(crate) fn permission_rows(resolved: &Resolved) -> BTreeSet<Row> {
    let resources = resolved.resources.values();
    resources
        .flat_map(|resource| rows_of(resolved, resource))
        .collect()
}

/// Network paths, one a line: rules of security groups (`in`: what a group admits, `out`: where its members
/// may connect to), members of the groups, and each subnet's route to the internet.
pub fn reachability(resolved: &Resolved) -> String {
    table(reachability_rows(resolved))
}

/// The rows of [`reachability`]: kind (`in`, `out`, `member`, `route`, `acl`) first.
pub(crate) fn reachability_rows(resolved: &Resolved) -> BTreeSet<Row> {
    let network = Network::of(resolved);
    let group = |id: &str| match network.groups.get(id) {
        Some(group) => group.logical_id.clone(),
        None => id.to_owned(),
    };
    let peer = |rule: &Rule| match &rule.peer {
        Peer::Group(id) => group(id),
        Peer::Block(block) => block.clone(),
        Peer::Unknown(name) => format!("{name} (not evaluated)"),
    };
    let mut rows = BTreeSet::new();
    for it in network.groups.values() {
        let own = || it.logical_id.clone();
        for rule in &it.ingress {
            rows.insert(vec![
                "in".to_owned(),
                peer(rule),
                "→".to_owned(),
                own(),
                rule.traffic(),
            ]);
        }
        for rule in &it.egress {
            rows.insert(vec![
                "out".to_owned(),
                own(),
                "→".to_owned(),
                peer(rule),
                rule.traffic(),
            ]);
        }
        if it.default_egress {
            rows.insert(vec![
                "out".to_owned(),
                own(),
                "→".to_owned(),
                "ANYWHERE".to_owned(),
                "all (no inline egress rule: EC2 opens the group outward)".to_owned(),
            ]);
        }
    }
    for id in resolved.resources.keys() {
        for end in [Endpoint::of(resolved, id), Endpoint::balancer(resolved, id)]
            .into_iter()
            .flatten()
        {
            let Endpoint::Inside {
                name,
                security_groups,
                ..
            } = end
            else {
                continue;
            };
            for id in security_groups {
                rows.insert(vec![
                    "member".to_owned(),
                    name.clone(),
                    "of".to_owned(),
                    group(&id),
                ]);
            }
        }
    }
    for (id, subnet) in &network.subnets {
        let way = match network.internet_target(id) {
            Some(Target::InternetGateway(name)) => format!("by internet gateway {name}"),
            Some(Target::Nat(name)) => format!("by NAT gateway {name}"),
            Some(Target::Other(what)) => format!("by {what}"),
            None => "no way".to_owned(),
        };
        let own = subnet.logical_id.clone();
        rows.insert(vec![
            "route".to_owned(),
            own,
            "→".to_owned(),
            "internet".to_owned(),
            way,
        ]);
        for (block, target) in subnet
            .routes
            .iter()
            .filter(|(block, _)| block != "0.0.0.0/0")
        {
            let way = match target {
                Target::InternetGateway(name) | Target::Nat(name) | Target::Other(name) => name,
            };
            let own = subnet.logical_id.clone();
            rows.insert(vec![
                "route".to_owned(),
                own,
                "→".to_owned(),
                block.clone(),
                format!("by {way}"),
            ]);
        }
    }
    for acl in network.acls {
        rows.insert(vec!["acl".to_owned(), acl, "(not evaluated)".to_owned()]);
    }
    rows
}

/// Columns of a line of [`permissions`] or [`reachability`].
pub type Row = Vec<String>;

/// Formats columns, two spaces apart.
fn table(rows: BTreeSet<Row>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let texts = rows.iter().filter_map(|row| row.get(column));
        texts
            .map(|text| text.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut result = String::new();
    for row in &rows {
        let mut line = String::new();
        for (text, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{text:<width$}  "));
        }
        result.push_str(line.trim_end());
        result.push('\n');
    }
    result
}

fn rows_of(resolved: &Resolved, resource: &ResolvedResource) -> Vec<Row> {
    let id = resource.logical_id.as_str();
    let document = |pointer: &str| resource.property(pointer).unwrap_or(&Json::Null).clone();
    match resource.r#type.as_str() {
        "AWS::IAM::Role" => {
            let trust = document("/AssumeRolePolicyDocument");
            let mut rows = statements(&trust, None, Some(id));
            for policy in resource.items("/Policies") {
                rows.extend(statements(&policy["PolicyDocument"], Some(id), None));
            }
            for arn in resource.texts("/ManagedPolicyArns") {
                if resolved.find("AWS::IAM::ManagedPolicy", &arn).is_none() {
                    let row = [id, "allow", "(as the managed policy says)", &arn];
                    rows.push(row.map(str::to_owned).to_vec());
                }
            }
            rows
        }
        "AWS::IAM::Policy" | "AWS::IAM::RolePolicy" | "AWS::IAM::ManagedPolicy" => {
            let mut holders = Vec::new();
            for list in ["/Roles", "/Users", "/Groups", "/RoleName"] {
                holders.extend(resource.texts(list));
            }
            for role in resolved.of_type("AWS::IAM::Role") {
                if role
                    .texts("/ManagedPolicyArns")
                    .contains(&resource.physical_id)
                {
                    holders.push(role.logical_id.clone());
                }
            }
            if holders.is_empty() {
                holders.push(format!("(nobody: {id})"));
            }
            let of = |holder: &String| statements(&document("/PolicyDocument"), Some(holder), None);
            holders.iter().flat_map(of).collect()
        }
        "AWS::IoT::Policy" => {
            let holder = format!("certificate with {id}");
            statements(&document("/PolicyDocument"), Some(&holder), None)
        }
        "AWS::S3::BucketPolicy" | "AWS::SNS::TopicPolicy" | "AWS::SQS::QueuePolicy" => {
            statements(&document("/PolicyDocument"), None, None)
        }
        "AWS::Kinesis::ResourcePolicy" => statements(&document("/ResourcePolicy"), None, None),
        "AWS::KMS::Key" => {
            // In a key's policy `*` is the key.
            let mut rows = statements(&document("/KeyPolicy"), None, None);
            for row in &mut rows {
                if row[3] == "*" {
                    row[3] = resource.arn().unwrap_or(id).to_owned();
                }
            }
            rows
        }
        "AWS::Lambda::Permission" => {
            let mut row = vec![
                resource.text("/Principal").unwrap_or_default(),
                "allow".to_owned(),
                resource.text("/Action").unwrap_or_default(),
                resource.text("/FunctionName").unwrap_or_default(),
            ];
            let conditions: Vec<String> = ["SourceAccount", "SourceArn"]
                .iter()
                .filter_map(|key| {
                    Some(format!(
                        "aws:{key} = {}",
                        resource.text(&format!("/{key}"))?
                    ))
                })
                .collect();
            if !conditions.is_empty() {
                row.push(format!("if {}", conditions.join(" and ")));
            }
            vec![row]
        }
        _ if resource.property("/PolicyDocument").is_some() => {
            // An unsupported type, such as AWS::Logs::ResourcePolicy with its JSON as text.
            let written = match document("/PolicyDocument") {
                Json::String(text) => serde_json::from_str(&text).unwrap_or(Json::String(text)),
                other => other,
            };
            statements(&written, None, Some(id))
        }
        _ => Vec::new(),
    }
}

/// One row for each principal, action and resource of a policy document. `holder` is the principal if the
/// policy has none; `target` the resource if it has none.
fn statements(document: &Json, holder: Option<&str>, target: Option<&str>) -> Vec<Row> {
    let list = |value: &Json| -> Vec<Json> {
        match value {
            Json::Array(items) => items.clone(),
            Json::Null => Vec::new(),
            single => vec![single.clone()],
        }
    };
    let mut rows = Vec::new();
    for statement in list(&document["Statement"]) {
        let texts = |key: &str, mark: &str| -> Vec<String> {
            let texts = list(&statement[key]);
            texts
                .iter()
                .filter_map(text)
                .map(|text| format!("{mark}{text}"))
                .collect()
        };
        let either = |key: &str, default: Option<&str>| {
            let mut all = texts(key, "");
            all.extend(texts(&format!("Not{key}"), "NOT "));
            if all.is_empty() {
                all.push(default.unwrap_or("?").to_owned());
            }
            all
        };
        let effect = match statement["Effect"].as_str() {
            Some("Deny") => "DENY",
            _ => "allow",
        };
        let mut who = principals(&statement["Principal"], "");
        who.extend(principals(&statement["NotPrincipal"], "NOT "));
        if who.is_empty() {
            who.push(holder.unwrap_or("?").to_owned());
        }
        let condition = condition(&statement["Condition"]);
        for who in &who {
            for action in either("Action", None) {
                for resource in either("Resource", target) {
                    let mut row = vec![who.clone(), effect.to_owned(), action.clone(), resource];
                    row.extend(condition.clone());
                    rows.push(row);
                }
            }
        }
    }
    rows
}

fn principals(principal: &Json, mark: &str) -> Vec<String> {
    match principal {
        Json::Object(kinds) => kinds
            .iter()
            .flat_map(|(kind, values)| {
                let values = match values {
                    Json::Array(items) => items.iter().filter_map(text).collect(),
                    single => text(single).into_iter().collect::<Vec<_>>(),
                };
                let name = move |value: String| match (kind.as_str(), value.as_str()) {
                    (_, "*") => "EVERYBODY".to_owned(),
                    ("Service", _) => value,
                    ("AWS", _) => match value.strip_suffix(":root") {
                        Some(arn) => format!("account {}", arn.rsplit(':').next().unwrap_or(arn)),
                        None => arn::role_name(&value).map_or(value.clone(), str::to_owned),
                    },
                    _ => format!("{kind} {value}"),
                };
                values.into_iter().map(name).collect::<Vec<_>>()
            })
            .map(|name| format!("{mark}{name}"))
            .collect(),
        Json::String(text) if text == "*" => vec![format!("{mark}EVERYBODY")],
        _ => Vec::new(),
    }
}

fn condition(condition: &Json) -> Option<String> {
    let mut parts = BTreeSet::new();
    for (operator, keys) in condition.as_object()? {
        for (key, values) in keys.as_object()? {
            let values: Vec<String> = match values {
                Json::Array(items) => items.iter().filter_map(text).collect(),
                single => text(single).into_iter().collect(),
            };
            parts.insert(format!("{key} {operator} {}", values.join(" | ")));
        }
    }
    (!parts.is_empty()).then(|| {
        let parts: Vec<String> = parts.into_iter().collect();
        format!("if {}", parts.join(" and "))
    })
}
