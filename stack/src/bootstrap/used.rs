//! What the templates of some stages use, read from what is emitted: types, services that take roles, policies.

use std::collections::{BTreeMap, BTreeSet};

use cfn::document::Document;
use cfn::resolve::{Resolved, resolve};
use serde_json::Value as Json;

use crate::{Config, Stage, choices};

/// What templates use.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    /// Actions of the handlers of every type, with the types; only those that exist.
    pub(super) handlers: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// Services that a role of the templates trusts.
    pub(super) trusted: BTreeSet<String>,
    /// Names of AWS's own policies that a role of the templates holds.
    pub(super) managed: BTreeSet<String>,
    /// Actions that the inline policies of the roles allow.
    pub(super) allowed: BTreeSet<String>,
}

impl Used {
    /// Of the stages' own templates and of every choice that no stage takes.
    pub(super) fn of(stages: &[Stage]) -> Used {
        let mut used = Used::default();
        for stage in stages {
            used.add(&crate::artifacts_template(*stage));
            used.add(&crate::template(&stage.config()));
        }
        for config in choices_of(stages) {
            used.add(&crate::template(&config));
        }
        used
    }

    fn add(&mut self, template: &cfn::Template) {
        // A template that has problems is reported where it is emitted.
        let Ok(synthesized) = template.synth() else {
            return;
        };
        let Some(resolved) = resolved(&synthesized.template) else {
            return;
        };
        for resource in resolved.resources.values() {
            self.handlers(&resource.r#type);
            if resource.r#type == "AWS::IAM::Role" {
                self.role(resource);
            }
        }
    }

    fn handlers(&mut self, r#type: &str) {
        let Some(shape) = cfn::resources::metadata(r#type) else {
            return;
        };
        let permissions = shape.permissions;
        let handlers = [
            permissions.create,
            permissions.read,
            permissions.update,
            permissions.delete,
        ];
        for action in handlers.into_iter().flatten() {
            if cfn::actions::exists(action) {
                let types = self.handlers.entry(action).or_default();
                types.insert(shape.type_name);
            }
        }
    }

    fn role(&mut self, role: &cfn::resolve::ResolvedResource) {
        let texts = |value: &Json| -> Vec<String> {
            match value {
                Json::String(text) => vec![text.clone()],
                Json::Array(items) => items
                    .iter()
                    .filter_map(|it| it.as_str().map(str::to_owned))
                    .collect(),
                _ => Vec::new(),
            }
        };
        for statement in role.items("/AssumeRolePolicyDocument/Statement") {
            self.trusted
                .extend(texts(&statement["Principal"]["Service"]));
        }
        for arn in role.texts("/ManagedPolicyArns") {
            if let Some((_, name)) = arn.split_once(":iam::aws:policy/") {
                self.managed.insert(name.to_owned());
            }
        }
        for policy in role.items("/Policies") {
            let statements = policy["PolicyDocument"]["Statement"].as_array();
            for statement in statements.into_iter().flatten() {
                if statement["Effect"] == "Allow" {
                    self.allowed.extend(texts(&statement["Action"]));
                }
            }
        }
    }
}

/// The choices that no stage takes, of the given stages.
pub(super) fn choices_of(stages: &[Stage]) -> Vec<Config> {
    let all = choices::all().into_iter().map(|(_, config)| config);
    all.filter(|config| stages.contains(&config.stage))
        .collect()
}

/// A template with placeholders for what is known at deployment only.
pub(super) fn resolved(template: &str) -> Option<Resolved> {
    let document = Document::parse(template).ok()?;
    let mut context = cfn::access::context();
    context.partition = "aws".to_owned();
    resolve(&document, &context).ok()
}
