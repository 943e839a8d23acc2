//! A stack as it should become: compared with what is deployed, and made a change set of.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::artifact;
use crate::artifact::upload;
use crate::deploy::plan::{self, Version};
use crate::screen::progress::Output;
use crate::stack::call::{self, ChangeSet, Proposal, Source, Stack};
use crate::stack::operation::Operator;

/// A stack as it should become.
pub(crate) struct Change<'a> {
    pub(crate) operator: &'a Operator,
    /// The stack as it is, with its template.
    pub(crate) existing: Option<(&'a Stack, &'a str)>,
    pub(crate) template: &'a str,
    pub(crate) parameters: Vec<(&'static str, Option<String>)>,
    /// Bucket for the template; `None`: the template goes with the call.
    pub(crate) store: Option<&'a str>,
}

/// A change set, and what it means.
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) change_set: ChangeSet,
    after: Version,
    changes: cfn::diff::Changes,
}

impl Change<'_> {
    /// Compares, and makes a change set if there is anything to change.
    pub(crate) async fn prepare(&self) -> anyhow::Result<Option<Planned>> {
        let Operator {
            cloud,
            output,
            owner,
            stack,
            role_arn,
            ..
        } = self.operator;
        let previous = self.existing.map(|(stack, _)| &stack.parameters);
        let before = match self.existing {
            None => None,
            Some((existing, template)) => {
                let is_same = is_same_json(template, self.template)
                    && self.parameters.iter().all(|(name, value)| {
                        value.is_none() || existing.parameters.get(*name) == value.as_ref()
                    });
                if is_same {
                    return Ok(None);
                }
                Some(Version::new(template, existing.parameters.clone())?)
            }
        };
        let after = Version::new(self.template, self.values(previous))?;
        let source = match self.store {
            None => Source::Body(self.template.to_owned()),
            Some(bucket) => {
                let artifact = artifact::template(self.template);
                upload::all(cloud, *output, bucket, std::slice::from_ref(&artifact)).await?;
                Source::Url(cloud.object_url(bucket, &artifact.key))
            }
        };
        let name = call::token("deploy");
        let proposal = Proposal {
            stack: stack.clone(),
            stage: owner.to_string(),
            name: name.clone(),
            is_new: self.existing.is_none(),
            source,
            parameters: self
                .parameters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            role_arn: role_arn.clone(),
        };
        let Some(change_set) = call::propose(cloud, &proposal).await? else {
            return Ok(None);
        };
        let changes = match &before {
            Some(before) => plan::compare(before, &after)?,
            None => plan::compare(&Version::nothing()?, &after)?,
        };
        Ok(Some(Planned {
            name,
            change_set,
            after,
            changes,
        }))
    }

    fn values(&self, previous: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
        self.parameters
            .iter()
            .filter_map(|(name, value)| {
                let value = value.as_ref().or_else(|| previous?.get(*name))?;
                Some(((*name).to_owned(), value.clone()))
            })
            .collect()
    }
}

impl Planned {
    pub(crate) fn show(&self, output: Output, stack: &str, is_new: bool) {
        let lines = if is_new {
            output.say(format!("`{stack}` is new:"));
            plan::lines_of_new(&self.after, &self.changes)
        } else {
            output.say(format!("`{stack}` changes:"));
            plan::lines(&self.changes, &self.change_set.changes)
        };
        plan::say(output, &lines);
        output.tell(&json!({
            "stack": stack, "plan": self.name, "changes": plan::as_json(&self.changes),
        }));
    }

    /// Leaves nothing behind of a plan that nobody wants.
    pub(crate) async fn discard(&self, operator: &Operator, is_new: bool) -> anyhow::Result<()> {
        let ChangeSet { id, stack_id, .. } = &self.change_set;
        call::discard(&operator.cloud, stack_id, id).await?;
        if is_new {
            // The shell that the change set made, with nothing in it.
            let role_arn = operator.role_arn.as_deref();
            call::delete(&operator.cloud, stack_id, &[], role_arn).await?;
        }
        Ok(())
    }
}

/// Whether two texts are the same JSON: CloudFormation keeps the text, others only its meaning.
pub(crate) fn is_same_json(left: &str, right: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Json>(text).ok();
    left == right || matches!((read(left), read(right)), (Some(left), Some(right)) if left == right)
}
