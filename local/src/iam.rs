//! Permissions: may this role do this here?

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::status::Status;

/// Decisions kept, so that a caller with ever new resources cannot fill the memory.
const MAX_CACHED: usize = 4_096;

/// A call that a policy does not allow, in AWS's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "User: {principal} is not authorized to perform: {action} on resource: {resource} {reason}"
)]
pub struct Denied {
    /// ARN of the role's session.
    pub principal: String,
    /// Such as `kinesis:PutRecord`.
    pub action: String,
    /// ARN of what it should have been done to.
    pub resource: String,
    /// "because …"
    pub reason: String,
}

type Decide = dyn Fn(&str, &str) -> Result<(), String> + Send + Sync;

/// What one role may do, called by one service; clones share their decisions.
#[derive(Clone)]
pub struct Authorizer {
    inner: Arc<Inner>,
}

struct Inner {
    principal: String,
    decide: Box<Decide>,
    status: Arc<Status>,
    decisions: Mutex<HashMap<(String, String), Decision>>,
}

struct Decision {
    result: Result<(), Denied>,
    denials: u64,
}

impl Authorizer {
    /// An authorizer of a principal (the ARN of an assumed role); `decide` gets action and resource
    /// and says why not.
    pub fn new(
        principal: impl Into<String>,
        status: Arc<Status>,
        decide: impl Fn(&str, &str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Authorizer {
        Authorizer {
            inner: Arc::new(Inner {
                principal: principal.into(),
                decide: Box::new(decide),
                status,
                decisions: Mutex::default(),
            }),
        }
    }

    /// Whether the role may do this to that. A denial is logged the first time and counted always.
    ///
    /// # Errors
    /// The denial.
    pub fn authorize(&self, action: &str, resource: &str) -> Result<(), Denied> {
        let mut decisions = self
            .inner
            .decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (action.to_owned(), resource.to_owned());
        if decisions.len() >= MAX_CACHED && !decisions.contains_key(&key) {
            decisions.clear();
        }
        let decision = decisions.entry(key).or_insert_with(|| Decision {
            result: (self.inner.decide)(action, resource).map_err(|reason| Denied {
                principal: self.inner.principal.clone(),
                action: action.to_owned(),
                resource: resource.to_owned(),
                reason,
            }),
            denials: 0,
        });
        if let Err(denied) = &decision.result {
            decision.denials += 1;
            self.inner.status.denials.increment();
            if decision.denials == 1 {
                tracing::error!("{denied}");
            }
        }
        decision.result.clone()
    }

    /// ARN of the role's session.
    pub fn principal(&self) -> &str {
        &self.inner.principal
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
            .field("principal", &self.inner.principal)
            .finish_non_exhaustive()
    }
}
