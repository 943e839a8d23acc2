//! From a template to what must run.
//!
//! Resolves parameters, conditions and intrinsics, reads every resource that is emulated into the
//! struct generated for its type, finds what refers to what, and gathers policies and calls.
//! Everything that is wrong is reported at once; nothing has been started by then.

use std::collections::BTreeMap;
use std::sync::Arc;

use cfn::document::Document;
use cfn::evaluate::ManagedPolicies;
use cfn::resolve::{Context, MissingParameters};

use crate::event_source_mapping::plan::MappingPlan;
use crate::firehose::plan::DeliveryStreamPlan;
use crate::iot::plan::RulePlan;
use crate::template::{ACCOUNT_ID, NotEmulated, Template, Unplannable};
use crate::{
    beanstalk, elasticache, event_source_mapping, firehose, iot, kinesis, lambda, service, sqs,
};

/// What must run.
#[derive(Debug)]
pub struct Plan {
    /// The template with what follows from it for every part.
    pub template: Arc<Template>,
    /// Streams by logical ID, in the template's order.
    pub streams: Vec<kinesis::Config>,
    /// Functions; binary, folder and certificate are not known yet.
    pub functions: Vec<lambda::Config>,
    /// Event source mappings.
    pub mappings: Vec<MappingPlan>,
    /// Queues.
    pub queues: Vec<sqs::Config>,
    /// Delivery streams.
    pub delivery_streams: Vec<DeliveryStreamPlan>,
    /// Caches; server and folder are not known yet.
    pub caches: Vec<elasticache::Config>,
    /// Beanstalk environments; bundle, address and certificate are not known yet.
    pub environments: Vec<beanstalk::Config>,
    /// Rules, in the template's order.
    pub rules: Vec<RulePlan>,
    /// What does nothing here.
    pub not_emulated: Vec<NotEmulated>,
}

impl Plan {
    /// Plans a template.
    ///
    /// Parameters without value or default are given `{Name}`: on AWS they say where the artifacts
    /// are and which platform runs them, and neither matters here.
    ///
    /// # Errors
    /// Everything that is wrong with it or not understood, by logical ID.
    pub fn new(
        document: Document,
        region: &str,
        stack_name: &str,
        parameters: BTreeMap<String, String>,
    ) -> Result<Plan, Unplannable> {
        let mut context = Context::new(ACCOUNT_ID, region, stack_name);
        context.parameters = parameters;
        context.missing_parameters = MissingParameters::Placeholder;
        Plan::of(document, context, &ManagedPolicies::new())
    }

    /// Plans a template for a caller who knows all that it depends on, managed policies of the account included.
    ///
    /// # Errors
    /// Everything that is wrong with it or not understood, by logical ID.
    pub fn of(
        document: Document,
        context: Context,
        account: &ManagedPolicies,
    ) -> Result<Plan, Unplannable> {
        let mut problems = Vec::new();
        let template = Template::new(document, &context, account, &mut problems)?;
        let resolved = &template.resolved;
        let mut not_emulated: Vec<NotEmulated> = resolved
            .resources
            .values()
            .filter(|it| !service::concerns(&it.r#type))
            .map(|it| NotEmulated {
                logical_id: it.logical_id.clone(),
                what: it.r#type.clone(),
            })
            .collect();
        let streams = kinesis::plan::plan(resolved, &mut problems);
        let functions = lambda::plan::plan(resolved, &mut problems, &mut not_emulated);
        let mappings = event_source_mapping::plan::plan(resolved, &mut problems);
        let queues = sqs::plan::plan(resolved);
        let delivery_streams = firehose::plan::plan(resolved, &mut problems, &mut not_emulated);
        let caches = elasticache::plan::plan(resolved, &mut problems, &mut not_emulated);
        let environments = beanstalk::plan::plan(resolved, &mut problems);
        let rules = iot::plan::plan(resolved, &mut problems, &mut not_emulated);
        if !problems.is_empty() {
            return Err(Unplannable(problems));
        }
        Ok(Plan {
            template: Arc::new(template),
            streams,
            functions,
            mappings,
            queues,
            delivery_streams,
            caches,
            environments,
            rules,
            not_emulated,
        })
    }
}
