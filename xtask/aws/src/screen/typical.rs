//! Which chain of resources decides when a stack is done, by the times of [`cfn::typical`]; they are
//! shown as "usually", and nothing else depends on them.

use std::collections::BTreeMap;

use cfn::document::Document;
pub(crate) use cfn::typical::seconds;
use serde_json::Value as Json;

/// The chain of resources, each needing the one before, that takes longest; and its seconds.
pub(crate) fn longest_chain(document: &Document) -> (Vec<String>, u32) {
    longest_chain_by(document, &|_, r#type| Some(seconds(r#type)))
}

/// The same by what each resource, told by logical ID and type, still takes. One that takes nothing any
/// more is in no chain, and hands on the order between those before and after it.
pub(crate) fn longest_chain_by(
    document: &Document,
    seconds: &dyn Fn(&str, &str) -> Option<u32>,
) -> (Vec<String>, u32) {
    let mut known = BTreeMap::new();
    let mut longest = (Vec::new(), 0);
    for id in document.resources.keys() {
        let chain = chain(document, seconds, id, &mut known, &mut Vec::new());
        if chain.1 > longest.1 {
            longest = chain;
        }
    }
    longest
}

type Chain = (Vec<String>, u32);

fn chain(
    document: &Document,
    seconds: &dyn Fn(&str, &str) -> Option<u32>,
    id: &str,
    known: &mut BTreeMap<String, Chain>,
    open: &mut Vec<String>,
) -> Chain {
    if let Some(chain) = known.get(id) {
        return chain.clone();
    }
    let Some(resource) = document.resources.get(id) else {
        return Chain::default();
    };
    // A circle is CloudFormation's to refuse; here it must only end.
    if open.iter().any(|it| it == id) {
        return Chain::default();
    }
    open.push(id.to_owned());
    let mut needed = resource.depends_on.clone();
    references(&resource.properties, &mut needed);
    let mut longest = needed
        .iter()
        .map(|needed| chain(document, seconds, needed, known, open))
        .max_by_key(|(_, seconds)| *seconds)
        .unwrap_or_default();
    open.pop();
    if let Some(seconds) = seconds(id, &resource.r#type) {
        longest.0.push(id.to_owned());
        longest.1 += seconds;
    }
    known.insert(id.to_owned(), longest.clone());
    longest
}

/// Logical IDs that a value refers to; names of parameters may be among them.
fn references(value: &Json, found: &mut Vec<String>) {
    match value {
        Json::Array(items) => items.iter().for_each(|item| references(item, found)),
        Json::Object(members) => {
            for (key, member) in members {
                match (key.as_str(), member) {
                    ("Ref", Json::String(id)) => found.push(id.clone()),
                    ("Fn::GetAtt", Json::Array(parts)) => {
                        found.extend(parts.first().and_then(Json::as_str).map(str::to_owned));
                    }
                    ("Fn::GetAtt", Json::String(dotted)) => {
                        found.extend(dotted.split('.').next().map(str::to_owned));
                    }
                    ("Fn::Sub", Json::String(text)) => substituted(text, found),
                    ("Fn::Sub", Json::Array(parts)) => {
                        for part in parts {
                            match part {
                                Json::String(text) => substituted(text, found),
                                other => references(other, found),
                            }
                        }
                    }
                    _ => references(member, found),
                }
            }
        }
        _ => {}
    }
}

fn substituted(text: &str, found: &mut Vec<String>) {
    for part in text.split("${").skip(1) {
        let name = part.split(['}', '.']).next().unwrap_or_default();
        found.push(name.to_owned());
    }
}

/// Seconds as a person says them.
pub(crate) fn in_words(seconds: u32) -> String {
    match seconds {
        0..=99 => format!("{seconds} s"),
        _ => format!("{} min", (seconds + 30) / 60),
    }
}

#[cfg(test)]
mod tests {
    use stack::Stage;

    use super::*;

    #[test]
    fn cache_decides_when_the_stack_is_done() -> Result<(), Box<dyn std::error::Error>> {
        let stacks = stack::synth(Stage::Dev).map_err(|problems| problems.to_string())?;
        let main = stacks.last().ok_or("no stack")?;
        let (chain, seconds) = longest_chain(&Document::parse(&main.template)?);
        assert!(chain.iter().any(|id| id == "Cache"), "{chain:?}");
        // What only waits for its roles to be known to IAM is in parallel with the web UI.
        assert!(!chain.iter().any(|id| id == "ArchiveStream"), "{chain:?}");
        assert!((712..2000).contains(&seconds), "{seconds}");
        Ok(())
    }

    #[test]
    fn circle_ends() -> Result<(), serde_json::Error> {
        let document = Document::parse(
            r#"{"Resources": {
                "A": {"Type": "AWS::SNS::Topic", "DependsOn": ["B"]},
                "B": {"Type": "AWS::SNS::Topic", "DependsOn": ["A"]}
            }}"#,
        )?;
        assert_eq!(longest_chain(&document).1, 6);
        Ok(())
    }
}
