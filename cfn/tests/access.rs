//! The plain-text summaries: exact, sorted, free of accounts and machines.

mod pipeline;

use cfn::access::{context, permissions, reachability};
use cfn::resolve::{Resolved, resolve};
use serde_json::json;

fn resolved(edit: impl FnOnce(&mut serde_json::Value)) -> Resolved {
    resolve(&pipeline::document(edit), &context()).unwrap_or_else(|it| panic!("{it:#?}"))
}

#[test]
fn permissions_are_one_line_each() {
    let text = permissions(&resolved(|_| {}));
    insta::assert_snapshot!("permissions", text);
}

#[test]
fn reachability_is_one_line_each() {
    let text = reachability(&resolved(|_| {}));
    insta::assert_snapshot!("reachability", text);
    assert!(text.contains("ANYWHERE"), "default egress is loud");
}

#[test]
fn a_widened_grant_changes_its_line_only() {
    let before = permissions(&resolved(|_| {}));
    let after = permissions(&resolved(|it| {
        it.pointer_mut("/Resources/RuleRole/Properties/Policies/0/PolicyDocument/Statement/0")
            .unwrap()["Action"] = json!("kinesis:*");
    }));
    let changed: Vec<&str> = after
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").leak() as &str)
        .filter(|line| {
            !before
                .lines()
                .any(|it| it.split_whitespace().collect::<Vec<_>>().join(" ") == *line)
        })
        .collect();
    assert_eq!(
        changed,
        ["RuleRole allow kinesis:* arn:aws:kinesis:{region}:{account}:stream/Stream"]
    );
}
