//! Remaining steps of an operation, and its critical path.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_cloudformation::types::{Change, ChangeAction, Replacement};
use cfn::document::Document;

use crate::screen::typical;

/// Maximum seconds of a change in place: those are not measured, and most are short.
const IN_PLACE: u32 = 60;

/// The steps of one operation, by the change set that it executes.
#[derive(Debug)]
pub(crate) struct Forecast {
    document: Document,
    /// Logical ID → seconds that it usually takes.
    steps: BTreeMap<String, Step>,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    seconds: u32,
    /// Whether the seconds are those of a creation, which are measured.
    is_measured: bool,
}

/// Remaining steps.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    /// The critical path: each waits for the one before; the first is under way or next.
    pub(crate) chain: Vec<String>,
    pub(crate) seconds: u32,
}

impl Forecast {
    /// The steps that `changes` announces for `template`; none for a template that cannot be parsed, which
    /// only leaves out the forecast.
    pub(crate) fn new(template: &str, changes: &[Change]) -> Forecast {
        let document = Document::parse(template).unwrap_or_default();
        let steps = changes
            .iter()
            .filter_map(|change| {
                let change = change.resource_change()?;
                let usual = typical::seconds(change.resource_type().unwrap_or_default());
                let is_made = match change.action()? {
                    ChangeAction::Add => true,
                    ChangeAction::Modify => change.replacement() == Some(&Replacement::True),
                    // Deletions come last, and the stack's success does not wait for them.
                    _ => return None,
                };
                let step = Step {
                    seconds: if is_made { usual } else { usual.min(IN_PLACE) },
                    is_measured: is_made,
                };
                Some((change.logical_resource_id()?.to_owned(), step))
            })
            .collect();
        Forecast { document, steps }
    }

    /// Number of resources that change.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Number of resources in `done` that belong to the operation.
    pub(crate) fn done(&self, done: &BTreeSet<String>) -> usize {
        let done = done.iter();
        done.filter(|id| self.steps.contains_key(*id)).count()
    }

    /// Seconds that a resource usually takes, if measured.
    pub(crate) fn usually(&self, id: &str) -> Option<u32> {
        let step = self.steps.get(id)?;
        step.is_measured.then_some(step.seconds)
    }

    /// Remaining steps when `done` is done and `open` has been under way for these seconds.
    pub(crate) fn rest(&self, done: &BTreeSet<String>, open: &BTreeMap<&str, u32>) -> Rest {
        let left = |id: &str, _: &str| {
            let step = self.steps.get(id).filter(|_| !done.contains(id))?;
            let elapsed = open.get(id).copied().unwrap_or_default();
            // A resource that takes longer than usual is not done until its event says so.
            Some(step.seconds.saturating_sub(elapsed).max(1))
        };
        let (chain, seconds) = typical::longest_chain_by(&self.document, &left);
        Rest { chain, seconds }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::ResourceChange;

    use super::*;

    const TEMPLATE: &str = r#"{"Resources": {
        "Net": {"Type": "AWS::EC2::VPC"},
        "Cache": {"Type": "AWS::ElastiCache::ReplicationGroup", "DependsOn": ["Net"]},
        "Site": {"Type": "AWS::ElasticBeanstalk::Environment", "DependsOn": ["Cache"]},
        "Topic": {"Type": "AWS::SNS::Topic"}
    }}"#;

    fn change(id: &str, r#type: &str, action: ChangeAction) -> Change {
        let change = ResourceChange::builder()
            .logical_resource_id(id)
            .resource_type(r#type)
            .action(action);
        Change::builder().resource_change(change.build()).build()
    }

    fn rest(forecast: &Forecast, done: &[&str], open: &[(&'static str, u32)]) -> (String, u32) {
        let done = done.iter().map(|id| (*id).to_owned()).collect();
        let rest = forecast.rest(&done, &open.iter().copied().collect());
        (rest.chain.join(" "), rest.seconds)
    }

    #[test]
    fn rest_is_the_longest_chain_of_what_is_not_done() {
        let add = |id, r#type| change(id, r#type, ChangeAction::Add);
        let changes = [
            add("Net", "AWS::EC2::VPC"),
            add("Cache", "AWS::ElastiCache::ReplicationGroup"),
            add("Site", "AWS::ElasticBeanstalk::Environment"),
            add("Topic", "AWS::SNS::Topic"),
        ];
        let forecast = Forecast::new(TEMPLATE, &changes);
        assert_eq!(
            rest(&forecast, &[], &[]),
            ("Net Cache Site".into(), 15 + 712 + 252)
        );
        assert_eq!(
            rest(&forecast, &["Net", "Topic"], &[("Cache", 700)]),
            ("Cache Site".into(), 12 + 252)
        );
        // Longer than usual: always one second more.
        assert_eq!(
            rest(&forecast, &["Net", "Topic"], &[("Cache", 7000)]),
            ("Cache Site".into(), 1 + 252)
        );
        assert_eq!(
            rest(&forecast, &["Net", "Topic", "Cache", "Site"], &[]),
            (String::new(), 0)
        );
    }

    #[test]
    fn what_does_not_change_is_not_waited_for() {
        let changes = [
            change(
                "Site",
                "AWS::ElasticBeanstalk::Environment",
                ChangeAction::Modify,
            ),
            change("Old", "AWS::SNS::Topic", ChangeAction::Remove),
        ];
        let forecast = Forecast::new(TEMPLATE, &changes);
        assert_eq!(forecast.len(), 1);
        assert_eq!(rest(&forecast, &[], &[]), ("Site".into(), IN_PLACE));
        assert_eq!(forecast.usually("Site"), None);
    }
}
