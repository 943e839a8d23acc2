//! What only a rehearsal may do: programs of another architecture than the stage's, and a property that
//! is not as the stack's code has it. Both would be a mistake on AWS, so they are refused there.

use anyhow::{Context, bail};
use serde_json::Value as Json;

use crate::arguments::Deploy;

/// Refuses what is for a rehearsal unless AWS's APIs are answered by this machine.
///
/// # Errors
/// A flag of the rehearsal, and an endpoint elsewhere or none.
pub(crate) fn check(arguments: &Deploy) -> anyhow::Result<()> {
    let flag = match (arguments.any_architecture, arguments.set.as_slice()) {
        (true, _) => "--any-architecture",
        (_, [_, ..]) => "--set",
        _ => return Ok(()),
    };
    let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap_or_default();
    if is_here(&endpoint) {
        return Ok(());
    }
    bail!(
        "{flag} is for rehearsals on this machine (`cargo xtask rehearse`): AWS_ENDPOINT_URL is `{endpoint}`, expected an address of this machine such as http://127.0.0.1:4566"
    )
}

/// Whether a URL leads to this very machine.
fn is_here(endpoint: &str) -> bool {
    let rest = endpoint
        .strip_prefix("http://")
        .or(endpoint.strip_prefix("https://"));
    let host = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    host.is_some_and(|host| {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
            _ => host,
        };
        name == "localhost"
            || name
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    })
}

/// A template with properties replaced: each is `LOGICAL_ID.PROPERTY=VALUE`, the property a path of
/// names, the value JSON or else text.
///
/// # Errors
/// One without that form, and a property that the template does not have.
pub(crate) fn set(template: &str, changes: &[String]) -> anyhow::Result<String> {
    if changes.is_empty() {
        return Ok(template.to_owned());
    }
    let mut document: Json = serde_json::from_str(template).context("read the template")?;
    for change in changes {
        let (path, value) = change.split_once('=').with_context(|| wrong(change))?;
        let (logical_id, property) = path.split_once('.').with_context(|| wrong(change))?;
        let mut place = &mut document["Resources"][logical_id]["Properties"];
        if place.is_null() {
            bail!("--set: the template has no resource `{logical_id}`");
        }
        for name in property.split('.') {
            place = place
                .get_mut(name)
                .with_context(|| format!("--set: `{logical_id}` has no property `{property}`"))?;
        }
        *place = serde_json::from_str(value).unwrap_or_else(|_| Json::from(value));
    }
    let mut text = serde_json::to_string_pretty(&document).context("write the template")?;
    text.push('\n');
    Ok(text)
}

fn wrong(change: &str) -> String {
    format!("--set: got `{change}`, expected LOGICAL_ID.PROPERTY=VALUE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_from_others() {
        let rows = [
            ("http://127.0.0.1:4566", true),
            ("http://127.0.0.1", true),
            ("http://localhost:4566/", true),
            ("http://[::1]:4566", true),
            ("https://cloudformation.eu-central-1.amazonaws.com", false),
            ("http://127.0.0.1.example.com:80", false),
            ("http://192.0.2.1:4566", false),
            ("", false),
        ];
        for (endpoint, expected) in rows {
            assert_eq!(is_here(endpoint), expected, "{endpoint}");
        }
    }

    #[test]
    fn properties_are_set_and_what_is_not_there_is_named() {
        let template = r#"{"Resources": {"F": {"Properties": {"Size": 1, "In": {"Name": "a"}}}}}"#;
        let changes = ["F.Size=2", "F.In.Name=b"].map(str::to_owned);
        let document: Json = serde_json::from_str(&set(template, &changes).unwrap()).unwrap();
        let properties = &document["Resources"]["F"]["Properties"];
        assert_eq!(properties["Size"], 2);
        assert_eq!(properties["In"]["Name"], "b");
        let rows = [
            ("G.Size=2", "--set: the template has no resource `G`"),
            ("F.Weight=2", "--set: `F` has no property `Weight`"),
            (
                "F.Size",
                "--set: got `F.Size`, expected LOGICAL_ID.PROPERTY=VALUE",
            ),
        ];
        for (change, expected) in rows {
            let error = set(template, &[change.to_owned()]).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
