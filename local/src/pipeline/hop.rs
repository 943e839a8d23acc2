//! One service handing something to the next: permissions and adapters.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use cfn::integration::Caller;
use futures_util::future::BoxFuture;

use crate::firehose::{DeliveryStream, PutRecordError};
use crate::iot::{Sink, SinkError};
use crate::logs::{LogStream, Logs};
use crate::permission::{Authorizer, Permission};
use crate::plan::Plan;
use crate::status::Status;

/// What signing in to a cache is called.
const CONNECT: &str = "elasticache:Connect";

/// Permissions of the hops of a plan.
pub(super) struct Hops<'a> {
    plan: &'a Plan,
    status: &'a Arc<Status>,
}

impl<'a> Hops<'a> {
    pub(super) fn new(plan: &'a Plan, status: &'a Arc<Status>) -> Hops<'a> {
        Hops { plan, status }
    }

    /// Says at start what will be denied, since it may take a while until somebody tries.
    pub(super) fn warn_of_denials(&self) {
        let plan = self.plan;
        let hops: BTreeSet<&str> = plan
            .rules
            .iter()
            .map(|it| &*it.logical_id)
            .chain(plan.mappings.iter().map(|it| &*it.config.logical_id))
            .chain(plan.functions.iter().map(|it| &*it.logical_id))
            .chain(
                plan.delivery_streams
                    .iter()
                    .map(|it| &*it.config.logical_id),
            )
            .collect();
        let mut told = BTreeSet::new();
        for call in &plan.calls {
            // Of what instances do, signing in to the cache is all that happens here.
            let hop = hops.contains(&*call.from) || call.action == CONNECT;
            if !call.required || !hop {
                continue;
            }
            if let Err(denial) = call.decide(&plan.policies, &call.from)
                && told.insert((call.caller.to_string(), &call.action, &call.resource))
            {
                tracing::warn!(
                    resource = call.from,
                    setting = call.path,
                    "will fail: {denial}"
                );
            }
        }
    }

    /// Decides about the calls of a resource, of its settings at or below a path.
    pub(super) fn authorizer(&self, logical_id: &str, path: &str) -> Authorizer {
        let calls = self.plan.calls_of(logical_id, path);
        let policies = Arc::clone(&self.plan.policies);
        Authorizer::of(logical_id, calls, policies, Arc::clone(self.status))
    }

    /// Decides whether a program may sign in to caches, and with which role it asks; nothing when its
    /// settings lead to no cache with sign-in.
    pub(super) fn sign_in(&self, logical_id: &str) -> (Authorizer, Option<&'a str>) {
        let mut calls = self.plan.calls_of(logical_id, "");
        calls.retain(|call| call.action == CONNECT);
        let role = calls.iter().find_map(|call| match &call.caller {
            Caller::Role { role, .. } => self.plan.resolved.resource(role),
            Caller::Service(_) => None,
        });
        let policies = Arc::clone(&self.plan.policies);
        let status = Arc::clone(self.status);
        let authorizer = Authorizer::of(logical_id, calls, policies, status);
        (authorizer, role.map(|role| role.name.as_str()))
    }

    /// All that a setting needs, decided now.
    pub(super) fn permission(&self, logical_id: &str, path: &str) -> Permission {
        self.decided(logical_id, path, Some)
    }

    /// All that a setting needs of one resource that a message may name.
    pub(super) fn permission_on(&self, logical_id: &str, path: &str, arn: &str) -> Permission {
        self.decided(logical_id, path, |(action, _)| {
            Some((action, arn.to_owned()))
        })
    }

    /// All that a setting needs beside an action that depends on the message.
    pub(super) fn permission_but(&self, logical_id: &str, path: &str, but: &str) -> Permission {
        self.decided(logical_id, path, |call| (call.0 != but).then_some(call))
    }

    fn decided(
        &self,
        logical_id: &str,
        path: &str,
        of: impl Fn((String, String)) -> Option<(String, String)>,
    ) -> Permission {
        let calls = self.plan.calls_of(logical_id, path);
        let needed: Vec<(String, String)> = calls
            .into_iter()
            .filter(|call| call.required)
            .filter_map(|call| of((call.action, call.resource)))
            .collect();
        Permission::new(self.authorizer(logical_id, path), &needed)
    }
}

/// A delivery stream as the target of a rule's action.
#[derive(Debug)]
pub(super) struct Delivery(pub(super) DeliveryStream);

impl Sink for Delivery {
    fn name(&self) -> &str {
        &self.0.config().name
    }

    fn put(&self, mut records: Vec<Bytes>) -> BoxFuture<'_, Result<(), SinkError>> {
        let failed = |error: PutRecordError| SinkError {
            is_transient: error.is_transient(),
            message: error.to_string(),
        };
        Box::pin(async move {
            if records.len() > 1 {
                let results = self.0.put_record_batch(records).await.map_err(failed)?;
                return results
                    .into_iter()
                    .collect::<Result<(), _>>()
                    .map_err(failed);
            }
            match records.pop() {
                Some(record) => self.0.put_record(record).await.map_err(failed),
                // `BatchMode` with an empty array.
                None => Ok(()),
            }
        })
    }
}

/// A log group as the target of a rule's action: each rule writes its own stream.
#[derive(Debug)]
pub(super) struct LogGroup {
    name: String,
    stream: LogStream,
}

impl LogGroup {
    pub(super) fn new(logs: &Logs, name: &str, rule: &str) -> LogGroup {
        LogGroup {
            name: name.to_owned(),
            stream: logs.stream(name, rule),
        }
    }
}

impl Sink for LogGroup {
    fn name(&self) -> &str {
        &self.name
    }

    fn put(&self, records: Vec<Bytes>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            for record in records {
                // The rules engine has told the terminal already.
                self.stream.put_quietly(&String::from_utf8_lossy(&record));
            }
            Ok(())
        })
    }
}
