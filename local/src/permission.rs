//! Permissions: may this role do this here?
//!
//! Every hop asks the one evaluator, [`cfn::evaluate`], with the calls that [`cfn::integration`] derives
//! from the template. A decision is made once and kept, because policies do not change while a
//! template runs.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cfn::evaluate::Policies;
use cfn::integration::{Call, Caller};

use crate::status::Status;
use crate::template::Template;

/// Decisions kept, so that a caller with ever new resources cannot fill the memory.
const MAX_CACHED: usize = 4_096;

/// A call that a policy does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denied {
    /// Such as `kinesis:PutRecord`.
    pub action: String,
    /// ARN of what it should have been done to.
    pub resource: String,
    /// AWS's words, with role, action and resource.
    pub message: String,
}

type Decide = dyn Fn(&str, &str) -> Result<(), String> + Send + Sync;

/// What one role may do, called by one service; clones share their decisions.
#[derive(Clone)]
pub struct Authorizer {
    inner: Arc<Inner>,
}

struct Inner {
    caller: String,
    decide: Box<Decide>,
    status: Arc<Status>,
    decisions: Mutex<HashMap<(String, String), Decision>>,
}

struct Decision {
    result: Result<(), Denied>,
    denials: u64,
}

impl Authorizer {
    /// An authorizer of what the settings of one resource imply: `calls` are the
    /// [`cfn::integration`] calls from it. Another action is asked for as the first call's caller.
    pub fn of(
        logical_id: &str,
        calls: Vec<Call>,
        policies: Arc<Policies>,
        status: Arc<Status>,
    ) -> Authorizer {
        let session = logical_id.to_owned();
        Authorizer::new(logical_id, status, move |action, resource| {
            let same = calls
                .iter()
                .find(|call| call.action.eq_ignore_ascii_case(action));
            let Some(call) = same.or(calls.first()) else {
                return Err(format!(
                    "{session} is not authorized to perform: {action} on resource: {resource} because it has no role"
                ));
            };
            let call = Call {
                action: action.to_owned(),
                ..call.clone()
            };
            call.decide_on(&policies, &session, resource).map(drop)
        })
    }

    /// An authorizer for a caller; `decide` gets action and resource and says, in AWS's words, why not.
    pub fn new(
        caller: impl Into<String>,
        status: Arc<Status>,
        decide: impl Fn(&str, &str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Authorizer {
        Authorizer {
            inner: Arc::new(Inner {
                caller: caller.into(),
                decide: Box::new(decide),
                status,
                decisions: Mutex::default(),
            }),
        }
    }

    /// Whether the role may do this to that. Every denial is counted; the first, second,
    /// fourth, eighth … of the same call is logged with its number.
    ///
    /// # Errors
    /// The denial.
    pub fn authorize(&self, action: &str, resource: &str) -> Result<(), Denied> {
        self.decide(action, resource, |decision| {
            if let Err(denied) = &decision.result {
                decision.denials += 1;
                self.inner.status.denials.increment();
                // Every one would drown everything else.
                if decision.denials.is_power_of_two() {
                    let (caller, times) = (&self.inner.caller, decision.denials);
                    tracing::error!(caller, times, "AccessDenied: {denied}");
                }
            }
            decision.result.clone()
        })
    }

    /// Whether the role may do this to that, without counting it as a call.
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        self.decide(action, resource, |decision| decision.result.is_ok())
    }

    fn decide<T>(&self, action: &str, resource: &str, then: impl FnOnce(&mut Decision) -> T) -> T {
        let mut decisions = self
            .inner
            .decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (action.to_owned(), resource.to_owned());
        if decisions.len() >= MAX_CACHED && !decisions.contains_key(&key) {
            decisions.clear();
        }
        then(decisions.entry(key).or_insert_with(|| Decision {
            result: (self.inner.decide)(action, resource).map_err(|message| Denied {
                action: action.to_owned(),
                resource: resource.to_owned(),
                message,
            }),
            denials: 0,
        }))
    }

    /// Denials so far with their counts, for the end of a run.
    pub fn denials(&self) -> Vec<(Denied, u64)> {
        let decisions = self
            .inner
            .decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        decisions
            .values()
            .filter_map(|it| {
                it.result
                    .as_ref()
                    .err()
                    .map(|denied| (denied.clone(), it.denials))
            })
            .collect()
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer")
            .field("caller", &self.inner.caller)
            .finish_non_exhaustive()
    }
}

/// Calls that one hop makes for every message, decided once: allowed, a check costs nothing.
#[derive(Clone, Debug)]
pub struct Permission {
    authorizer: Authorizer,
    denied: Option<(String, String)>,
}

impl Permission {
    /// Decides about all calls, each an action and the ARN of its resource; the first that is
    /// denied is what [`check`](Self::check) tells.
    pub fn new(authorizer: Authorizer, calls: &[(String, String)]) -> Permission {
        let denied = calls
            .iter()
            .find(|(action, resource)| !authorizer.allows(action, resource))
            .cloned();
        Permission { authorizer, denied }
    }

    /// Whether all calls are allowed; counts a denial.
    ///
    /// # Errors
    /// The denial.
    pub fn check(&self) -> Result<(), Denied> {
        match &self.denied {
            None => Ok(()),
            Some((action, resource)) => self.authorizer.authorize(action, resource),
        }
    }
}

/// What signing in to a cache is called.
pub const CONNECT: &str = "elasticache:Connect";

/// The permissions that a template gives to the settings of its resources.
pub struct Permissions<'a> {
    template: &'a Template,
    status: &'a Arc<Status>,
}

impl<'a> Permissions<'a> {
    /// Those of a template; `status` counts denials.
    pub fn new(template: &'a Template, status: &'a Arc<Status>) -> Permissions<'a> {
        Permissions { template, status }
    }

    /// Decides about the calls of a resource, of its settings at or below a path.
    pub fn authorizer(&self, logical_id: &str, path: &str) -> Authorizer {
        let calls = self.template.calls_of(logical_id, path);
        let policies = Arc::clone(&self.template.policies);
        Authorizer::of(logical_id, calls, policies, Arc::clone(self.status))
    }

    /// Decides whether a program may sign in to caches, and with which role it asks; nothing when its
    /// settings lead to no cache with sign-in.
    pub fn sign_in(&self, logical_id: &str) -> (Authorizer, Option<&'a str>) {
        let mut calls = self.template.calls_of(logical_id, "");
        calls.retain(|call| call.action == CONNECT);
        let role = calls.iter().find_map(|call| match &call.caller {
            Caller::Role { role, .. } => self.template.resolved.resource(role),
            Caller::Service(_) => None,
        });
        let policies = Arc::clone(&self.template.policies);
        let status = Arc::clone(self.status);
        let authorizer = Authorizer::of(logical_id, calls, policies, status);
        (authorizer, role.map(|role| role.name.as_str()))
    }

    /// All that a setting needs, decided now.
    pub fn permission(&self, logical_id: &str, path: &str) -> Permission {
        self.decided(logical_id, path, Some)
    }

    /// All that a setting needs of one resource that a message may name.
    pub fn permission_on(&self, logical_id: &str, path: &str, arn: &str) -> Permission {
        self.decided(logical_id, path, |(action, _)| {
            Some((action, arn.to_owned()))
        })
    }

    /// All that a setting needs beside an action that depends on the message.
    pub fn permission_but(&self, logical_id: &str, path: &str, but: &str) -> Permission {
        self.decided(logical_id, path, |call| (call.0 != but).then_some(call))
    }

    fn decided(
        &self,
        logical_id: &str,
        path: &str,
        of: impl Fn((String, String)) -> Option<(String, String)>,
    ) -> Permission {
        let calls = self.template.calls_of(logical_id, path);
        let needed: Vec<(String, String)> = calls
            .into_iter()
            .filter(|call| call.required)
            .filter_map(|call| of((call.action, call.resource)))
            .collect();
        Permission::new(self.authorizer(logical_id, path), &needed)
    }
}
