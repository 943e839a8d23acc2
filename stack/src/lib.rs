//! The sensor backend's infrastructure as constructs.
//!
//! A construct is `Props` (handles from others, explicit) → `define(template, props)` → a struct of the
//! handles that others may need. None reaches into a sibling, and nothing here calls AWS.
//!
//! Layout, in reading order: [`config`] holds what differs between the stages, [`parameters`] what the
//! deployment fills in; then the constructs from the network inwards:
//! [`encryption`], [`network`], [`cache`], [`archive`], [`processing`], [`dashboard`], [`ingest`], [`alarms`]; and
//! [`artifacts`], the stack that comes first, and [`bootstrap`], which says who may deploy. [`state`] says what is
//! lost with a resource, [`declared`] what is
//! called that no template says, [`choices`] what no stage takes.

mod accepted;
pub mod alarms;
pub mod archive;
pub mod artifacts;
pub mod bootstrap;
mod bucket;
pub mod budget;
pub mod cache;
pub mod choices;
pub mod config;
pub mod dashboard;
pub mod declared;
pub mod encryption;
mod health_rules;
pub mod ingest;
pub mod network;
pub mod parameters;
pub mod processing;
pub mod state;

use cfn::document::Document;
use cfn::evaluate::known_policies;
use cfn::integration::Declared;
use cfn::{Problem, Problems, Template};
pub use config::{Arch, Config, Stage};

/// Key of the tag that `deploy` gives to a stage's stacks, and so to everything in them.
pub const STAGE_TAG: &str = "sensors:stage";

/// An emitted stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synthesized {
    /// The stack's name in the account and region.
    pub name: String,
    /// The template in JSON, ending in a newline.
    pub template: String,
    /// Logical ID → file and line that defined it, in JSON.
    pub sources: String,
}

/// Emits both stacks of a stage, in the order of their deployment.
///
/// # Errors
/// Everything that is wrong with the configuration, a value, or a permission.
pub fn synth(stage: Stage) -> Result<Vec<Synthesized>, Problems> {
    synth_with(&stage.config())
}

/// The same for a configuration other than the stage's own.
///
/// # Errors
/// As [`synth`].
pub fn synth_with(config: &Config) -> Result<Vec<Synthesized>, Problems> {
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let stage = config.stage;
    let stacks = [
        (
            artifacts_stack_name(stage),
            artifacts_template(stage),
            Declared::default(),
        ),
        (stack_name(stage), template(config), declared::main(config)),
    ];
    stacks
        .into_iter()
        .map(|(name, template, declared)| {
            if let Some(problem) = bootstrap::name_problem(&name) {
                return Err(Problems(vec![problem]));
            }
            let cfn::Synthesized { template, sources } = template.synth()?;
            let problems = permission_problems(&template, &declared);
            if !problems.is_empty() {
                return Err(Problems(problems));
            }
            Ok(Synthesized {
                name,
                template,
                sources,
            })
        })
        .collect()
}

/// What is wrong with the permissions of a template: a call that its settings imply and nothing
/// admits, a permission that nothing needs, a wildcard that reaches too far.
///
/// Public, so that a test can ask for a template that was changed by hand.
pub fn permission_problems(template: &str, declared: &Declared) -> Vec<Problem> {
    let document = match Document::parse(template) {
        Ok(document) => document,
        Err(error) => {
            return vec![Problem::new(
                "template",
                format!("is not readable: {error}"),
            )];
        }
    };
    match cfn::resolve::resolve(&document, &cfn::access::context()) {
        Ok(resolved) => cfn::integration::check(&resolved, &known_policies("aws"), declared)
            .into_iter()
            .map(|finding| Problem::of(&finding.logical_id, finding.message))
            .collect(),
        Err(problems) => problems,
    }
}

/// Name of the stack that holds the artifacts.
pub fn artifacts_stack_name(stage: Stage) -> String {
    format!("sensors-{stage}-artifacts")
}

/// Name of the stack that holds everything else.
pub fn stack_name(stage: Stage) -> String {
    format!("sensors-{stage}")
}

fn artifacts_template(stage: Stage) -> Template {
    let mut template = Template::new(format!(
        "Sensors, stage {stage}: artifacts of the deployment"
    ));
    artifacts::define(&mut template);
    accepted::annotate(&mut template, config::Encryption::AwsManaged);
    template
}

/// The main stack of a configuration. Public, so that a test or another team can emit its own.
pub fn template(config: &Config) -> Template {
    let mut template = Template::new(format!(
        "Sensors, stage {}: MQTT to dashboard, and the archive",
        config.stage
    ));
    let parameters = parameters::define(&mut template, config.dashboard.transport);
    let encryption = encryption::define(&mut template, config.encryption);
    let network = network::define(
        &mut template,
        &network::Props {
            config: &config.network,
            encryption,
            sign_in: config.dashboard.sign_in.as_ref(),
            log_retention: config.log_retention,
        },
    );
    let cache = cache::define(
        &mut template,
        &cache::Props {
            config: &config.cache,
            encryption,
            network: &network,
            parameters: &parameters,
        },
    );
    let archive = archive::define(
        &mut template,
        &archive::Props {
            config: &config.archive,
            encryption,
            log_retention: config.log_retention,
            cache: cache.replication_group,
        },
    );
    let stream = ingest::define_stream(
        &mut template,
        &ingest::StreamProps {
            config: &config.stream,
            encryption,
        },
    );
    let processing = processing::define(
        &mut template,
        &processing::Props {
            config: &config.processing,
            encryption,
            arch: config.arch,
            network: &network,
            cache: &cache,
            stream,
            parameters: &parameters,
            log_retention: config.log_retention,
        },
    );
    let dashboard = dashboard::define(
        &mut template,
        &dashboard::Props {
            config: &config.dashboard,
            arch: config.arch,
            network: &network,
            cache: &cache,
            parameters: &parameters,
            log_retention: config.log_retention,
        },
    );
    let ingest = ingest::define(
        &mut template,
        &ingest::Props {
            encryption,
            stream,
            event_source: processing.event_source,
            environment: dashboard.environment,
            delivery_stream: archive.delivery_stream,
            log_retention: config.log_retention,
        },
    );
    alarms::define(
        &mut template,
        &alarms::Props {
            encryption,
            cache: cache.replication_group,
            nodes: config.cache.nodes,
            node_type: config.cache.node_type,
            stream,
            rule_errors: ingest.errors,
            delivery_stream: archive.delivery_stream,
            function: processing.function,
            environment: dashboard.environment,
            parameters: &parameters,
        },
    );
    bootstrap::bind_roles(&mut template, &parameters);
    if let Some(budget) = &config.budget {
        let props = budget::Props {
            config: budget,
            stage: config.stage.to_string(),
            parameters: &parameters,
        };
        budget::define(&mut template, &props);
    }
    accepted::annotate(&mut template, config.encryption);
    template
}
