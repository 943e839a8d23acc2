//! Starting the parts of a plan, each among those that are there already.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::addresses::Addresses;
use super::hop::{self, Hops};
use super::{Gate, Options, Stops};
use crate::beanstalk::instance_metadata::{Instance, Metadata};
use crate::beanstalk::plan::environment_properties;
use crate::beanstalk::{self, Environment};
use crate::cli::{ForResource, path_for};
use crate::elasticache::{self, Cache};
use crate::event_source_mapping::plan::{MappingPlan, OnFailure};
use crate::event_source_mapping::{Destination, Mapping};
use crate::events::{Event, Reporter};
use crate::fault::Chances;
use crate::firehose::DeliveryStream;
use crate::firehose::plan::DeliveryStreamPlan;
use crate::iot::plan::{ActionPlan, Reference, Target};
use crate::iot::{Action, Choice, RuleConfig, RuleEngine, Sink};
use crate::kinesis::Stream;
use crate::lambda::plan::environment;
use crate::lambda::{self, Function, Invoke};
use crate::logs::Logs;
use crate::plan::Plan;
use crate::s3::Store;
use crate::sessions::Sessions;
use crate::sqs::Queue;
use crate::status::Status;
use crate::tls::Authority;

/// What the command line gives for functions and environments, by logical ID.
pub(super) struct Programs {
    binaries: HashMap<String, PathBuf>,
    bundles: HashMap<String, PathBuf>,
}

impl Programs {
    /// Finds them.
    ///
    /// # Errors
    /// One is missing, or is not there.
    pub(super) fn find(plan: &Plan, options: &Options) -> anyhow::Result<Programs> {
        Ok(Programs {
            bundles: paths(
                &plan.environments,
                |it| &it.logical_id,
                &options.bundles,
                "--bundle",
                "unpacked bundle",
            )?,
            binaries: paths(
                &plan.functions,
                |it| &it.logical_id,
                &options.functions,
                "--function",
                "binary",
            )?,
        })
    }
}

/// The whole path of every resource's program or folder.
fn paths<T>(
    resources: &[T],
    logical_id: impl Fn(&T) -> &str,
    given: &[ForResource],
    flag: &str,
    what: &str,
) -> anyhow::Result<HashMap<String, PathBuf>> {
    let mut found = HashMap::new();
    for resource in resources {
        let logical_id = logical_id(resource);
        let path = path_for(given, logical_id)
            .ok_or_else(|| anyhow!("{logical_id} needs its {what}: pass {flag}"))?;
        // Programs have working directories of their own.
        let path = std::fs::canonicalize(path)
            .with_context(|| format!("{logical_id}: cannot use {flag} {}", path.display()))?;
        found.insert(logical_id.to_owned(), path);
    }
    Ok(found)
}

/// What every start needs.
pub(super) struct Starter<'a> {
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) programs: &'a Programs,
    pub(super) reporter: Reporter,
    pub(super) data: &'a Path,
    pub(super) status: &'a Arc<Status>,
    pub(super) logs: &'a Logs,
    pub(super) hops: &'a Hops<'a>,
    pub(super) sessions: &'a Arc<Sessions>,
    pub(super) authority: &'a Authority,
    pub(super) store: &'a Arc<Store>,
    pub(super) queues: &'a BTreeMap<String, Queue>,
    pub(super) stops: &'a Stops,
    pub(super) chances: Option<&'a Arc<Chances>>,
    pub(super) gate: Option<&'a dyn Gate>,
}

impl Starter<'_> {
    /// Returns when a part may start.
    async fn may_start(&self, logical_id: &str) {
        if let Some(gate) = self.gate {
            gate.wait(logical_id).await;
        }
    }

    fn started(&self, logical_id: &str, what: impl Into<String>) {
        if let Some(gate) = self.gate {
            gate.started(logical_id);
        }
        let (logical_id, what) = (logical_id.to_owned(), what.into());
        self.reporter.tell(&Event::Started { logical_id, what });
    }

    pub(super) async fn streams(
        &self,
        mut kept: BTreeMap<String, Arc<Stream>>,
    ) -> anyhow::Result<BTreeMap<String, Arc<Stream>>> {
        let mut streams = BTreeMap::new();
        for config in &self.plan.streams {
            let logical_id = &config.logical_id;
            self.may_start(logical_id).await;
            let kept = kept.remove(logical_id);
            let stream = match kept.filter(|it| it.config() == config) {
                Some(stream) => stream,
                None => {
                    let folder = self.data.join("kinesis").join(logical_id);
                    Stream::open(config.clone(), &folder)?
                }
            };
            if let Some(gate) = self.gate {
                gate.started(logical_id);
            }
            streams.insert(logical_id.clone(), stream);
        }
        Ok(streams)
    }

    pub(super) async fn caches(
        &self,
        mut kept: BTreeMap<String, (elasticache::Config, Arc<Cache>)>,
    ) -> anyhow::Result<BTreeMap<String, (elasticache::Config, Arc<Cache>)>> {
        let mut caches = BTreeMap::new();
        for planned in &self.plan.caches {
            let mut config = planned.clone();
            let logical_id = config.logical_id.clone();
            self.may_start(&logical_id).await;
            if let Some((old, cache)) = kept.remove(&logical_id) {
                if old == *planned && cache.is_running() {
                    if let Some(gate) = self.gate {
                        gate.started(&logical_id);
                    }
                    caches.insert(logical_id, (old, cache));
                    continue;
                }
                cache.stop().await;
            }
            config.url = self.options.redis.clone();
            config.folder = self.data.join("cache").join(&logical_id);
            let tls = if config.tls {
                "with TLS"
            } else {
                "without TLS"
            };
            let cache = Cache::start(config, self.authority, self.sessions).await?;
            self.started(&logical_id, format!("cache at {} {tls}", cache.endpoint()));
            caches.insert(logical_id, (planned.clone(), Arc::new(cache)));
        }
        Ok(caches)
    }

    /// The metadata service of an environment's instances.
    pub(super) async fn metadata(&self, logical_id: &str) -> anyhow::Result<Metadata> {
        let (authorizer, role) = self.hops.sign_in(logical_id);
        let role = role.map(|role| (role.to_owned(), self.sessions.open(authorizer)));
        let region = self.plan.resolved.context.region.clone();
        Metadata::start(Instance { region, role }).await
    }

    pub(super) async fn environment(
        &self,
        config: &beanstalk::Config,
        address: SocketAddr,
        addresses: &Addresses,
        metadata: &Metadata,
    ) -> anyhow::Result<Environment> {
        let mut config = config.clone();
        let logical_id = config.logical_id.clone();
        self.may_start(&logical_id).await;
        let view = addresses.view(self.plan, &logical_id)?;
        if let Some(resource) = view.resource(&logical_id) {
            config.environment = environment_properties(resource).map_err(|it| anyhow!("{it}"))?;
        }
        let name = contract::environment::AWS_EC2_METADATA_SERVICE_ENDPOINT;
        config
            .environment
            .insert(name.to_owned(), metadata.endpoint());
        let bundle = self.programs.bundles.get(&logical_id);
        config.bundle = bundle.cloned().unwrap_or_default();
        config.address = address;
        config.ca_file = Some(self.authority.ca_file().to_owned());
        let environment = Environment::start(config, self.logs).await?;
        self.started(
            &logical_id,
            format!("web UI at http://{}/", environment.address()),
        );
        Ok(environment)
    }

    pub(super) async fn function(
        &self,
        config: &lambda::Config,
        addresses: &Addresses,
    ) -> anyhow::Result<Function> {
        let mut config = config.clone();
        let logical_id = config.logical_id.clone();
        self.may_start(&logical_id).await;
        let view = addresses.view(self.plan, &logical_id)?;
        if let Some(resource) = view.resource(&logical_id) {
            config.environment = environment(resource).map_err(|it| anyhow!("{it}"))?;
        }
        let binary = self.programs.binaries.get(&logical_id);
        config.bootstrap = binary.cloned().unwrap_or_default();
        config.folder = self.data.join("functions").join(&logical_id);
        config.ca_file = Some(self.authority.ca_file().to_owned());
        let (sign_in, _) = self.hops.sign_in(&logical_id);
        config.credentials = Some(self.sessions.open(sign_in));
        let authorizer = self.hops.authorizer(&logical_id, "");
        let status = Arc::clone(self.status);
        let stop = self.stops.functions.child_token();
        let function = Function::start(config, self.logs, &authorizer, status, stop)?;
        if let Some(chances) = self.chances {
            function.inject(Arc::clone(chances));
        }
        self.started(&logical_id, "function ready");
        Ok(function)
    }

    /// None: its stream or its function is not there.
    pub(super) async fn mapping(
        &self,
        plan: &MappingPlan,
        streams: &BTreeMap<String, Arc<Stream>>,
        functions: &BTreeMap<String, Function>,
    ) -> anyhow::Result<Option<Mapping>> {
        let logical_id = &plan.config.logical_id;
        let (Some(stream), Some(function)) =
            (streams.get(&plan.stream), functions.get(&plan.function))
        else {
            return Ok(None);
        };
        self.may_start(logical_id).await;
        let function: Arc<dyn Invoke> = Arc::new(function.clone());
        let destination = match &plan.on_failure {
            None => None,
            Some(OnFailure::Bucket { name, arn }) => Some(Destination::Bucket {
                bucket: name.clone(),
                arn: arn.clone(),
                store: Arc::clone(self.store),
            }),
            Some(OnFailure::Queue(id)) => self.queues.get(id).cloned().map(Destination::Queue),
        };
        let mapping = Mapping::start(
            plan.config.clone(),
            Arc::clone(stream),
            function,
            destination,
            // Its key included, where the stream is under one of one's own.
            self.hops.permission(logical_id, "EventSourceArn"),
            self.hops.authorizer(logical_id, ""),
            Arc::clone(self.status),
            &self.data.join("mappings"),
            self.stops.mappings.child_token(),
        )?;
        if let Some(chances) = self.chances {
            mapping.inject(Arc::clone(chances));
        }
        let state = mapping.state();
        self.started(
            logical_id,
            format!(
                "{} → {}, batches of {}, {state}",
                plan.stream, plan.function, plan.config.batch_size
            ),
        );
        Ok(Some(mapping))
    }

    pub(super) async fn delivery_stream(
        &self,
        plan: &DeliveryStreamPlan,
    ) -> anyhow::Result<DeliveryStream> {
        let DeliveryStreamPlan { config, log } = plan;
        let logical_id = &config.logical_id;
        self.may_start(logical_id).await;
        let delivery_stream = DeliveryStream::start(
            config.clone(),
            Arc::clone(self.store),
            self.hops.authorizer(logical_id, ""),
            log.as_ref()
                .map(|(group, stream)| self.logs.stream(group, stream)),
            Arc::clone(self.status),
            &self.data.join("firehose"),
            self.stops.delivery_streams.child_token(),
        )?;
        let what = format!(
            "delivers to {} every {} s or {} MB",
            config.bucket,
            config.interval.as_secs(),
            config.size_in_mbs
        );
        self.started(logical_id, what);
        Ok(delivery_stream)
    }

    pub(super) async fn rules(
        &self,
        streams: &BTreeMap<String, Arc<Stream>>,
        delivery_streams: &BTreeMap<String, DeliveryStream>,
    ) -> anyhow::Result<Arc<RuleEngine>> {
        let action =
            |rule: &str, action: &ActionPlan| self.action(rule, action, streams, delivery_streams);
        for rule in &self.plan.rules {
            self.may_start(&rule.logical_id).await;
        }
        let rules = self.plan.rules.iter().map(|rule| RuleConfig {
            logical_id: rule.logical_id.clone(),
            name: rule.name.clone(),
            sql: rule.sql.clone(),
            version: rule.version,
            disabled: rule.disabled,
            actions: rule
                .actions
                .iter()
                .filter_map(|it| Some((it.index, action(&rule.logical_id, it)?)))
                .collect(),
            error_action: rule
                .error_action
                .as_ref()
                .and_then(|it| action(&rule.logical_id, it)),
            error_action_not_emulated: rule.error_action_not_emulated.clone(),
        });
        let account_id = &self.plan.resolved.context.account_id;
        let rules = RuleEngine::new(rules.collect(), account_id, Arc::clone(self.status));
        let engine = rules.map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow!("the template cannot run here\n{}", errors.join("\n"))
        })?;
        for rule in &self.plan.rules {
            let disabled = if rule.disabled { "disabled: " } else { "" };
            self.started(&rule.logical_id, format!("{disabled}{}", rule.sql));
        }
        Ok(engine)
    }

    /// What an action goes to among what is there, with the role's permission for each; `of` gives name,
    /// ARN and what takes the records. None: it is not there.
    fn choice<'t, T, U>(
        &self,
        rule: &str,
        action: &ActionPlan,
        reference: &Reference,
        all: &'t BTreeMap<String, T>,
        of: impl Fn(&'t T) -> (&'t str, &'t str, U),
    ) -> Option<Choice<U>> {
        Some(match reference {
            Reference::Resource(id) => {
                let (_, _, resource) = of(all.get(id)?);
                Choice::One(resource, self.hops.permission(rule, &action.path))
            }
            Reference::Template(template) => {
                let resources = all.values().map(|it| {
                    let (name, arn, resource) = of(it);
                    let permission = self.hops.permission_on(rule, &action.path, arn);
                    (name.to_owned(), (resource, permission))
                });
                Choice::Named {
                    template: template.clone(),
                    resources: resources.collect(),
                }
            }
        })
    }

    /// None: its target is not there.
    fn action(
        &self,
        rule: &str,
        action: &ActionPlan,
        streams: &BTreeMap<String, Arc<Stream>>,
        delivery_streams: &BTreeMap<String, DeliveryStream>,
    ) -> Option<Action> {
        let permission = || self.hops.permission(rule, &action.path);
        Some(match &action.target {
            Target::Stream {
                stream,
                partition_key,
            } => Action::Kinesis {
                stream: self.choice(rule, action, stream, streams, |it| {
                    (&it.config().name, it.arn(), Arc::clone(it))
                })?,
                partition_key: partition_key.clone(),
            },
            Target::DeliveryStream {
                delivery_stream,
                separator,
                batch_mode,
            } => Action::Firehose {
                delivery_stream: self.choice(
                    rule,
                    action,
                    delivery_stream,
                    delivery_streams,
                    |it| {
                        let sink: Arc<dyn Sink> = Arc::new(hop::Delivery(it.clone()));
                        (&it.config().name, &it.config().arn, sink)
                    },
                )?,
                separator: separator.clone(),
                batch_mode: *batch_mode,
            },
            Target::LogGroup {
                log_group,
                batch_mode,
            } => {
                let name = &self.plan.resolved.resource(log_group)?.name;
                Action::CloudwatchLogs {
                    log_group: Arc::new(hop::LogGroup::new(self.logs, name, rule)),
                    permission: permission(),
                    batch_mode: *batch_mode,
                }
            }
            Target::Queue { queue, use_base64 } => Action::Sqs {
                queue: self.queues.get(queue)?.clone(),
                permission: permission(),
                use_base64: *use_base64,
            },
            Target::Object { bucket, key } => {
                let bucket = self.plan.resolved.resource(bucket)?;
                Action::S3 {
                    bucket: bucket.name.clone(),
                    arn: bucket.arn().unwrap_or_default().to_owned(),
                    key: key.clone(),
                    store: Arc::clone(self.store),
                    authorizer: self.hops.authorizer(rule, &action.path),
                    encryption: self.hops.permission_but(rule, &action.path, "s3:PutObject"),
                }
            }
        })
    }
}
