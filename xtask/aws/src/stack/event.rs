//! Events of a stack, each once and in order.
//!
//! `DescribeStackEvents` returns the newest first, in pages, while new events arrive at the front. So
//! reading continues until the first known event, and an event that moves to the next page is recognised by
//! its ID.

use std::collections::HashSet;

use aws_sdk_cloudformation::types::StackEvent;

use crate::aws::{CallFailed, Cloud, failed};

/// An event of a resource or of the stack itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) logical_id: String,
    pub(crate) physical_id: String,
    pub(crate) r#type: String,
    /// Status, for example `CREATE_IN_PROGRESS`.
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    /// Seconds since the Unix epoch.
    pub(crate) at: f64,
    /// Whether it is an event of the stack itself.
    pub(crate) is_stack: bool,
    /// Token of the call that began its operation, if CloudFormation returns it.
    pub(crate) token: Option<String>,
}

impl From<&StackEvent> for Event {
    fn from(event: &StackEvent) -> Event {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Event {
            id: text(event.event_id()),
            logical_id: text(event.logical_resource_id()),
            physical_id: text(event.physical_resource_id()),
            r#type: text(event.resource_type()),
            status: text(event.resource_status().map(|status| status.as_str())),
            reason: event
                .resource_status_reason()
                .filter(|reason| !reason.is_empty())
                .map(str::to_owned),
            at: event.timestamp().map_or(0.0, |at| at.as_secs_f64()),
            is_stack: event.physical_resource_id() == event.stack_id(),
            token: event.client_request_token().map(str::to_owned),
        }
    }
}

impl Event {
    pub(crate) fn is_failure(&self) -> bool {
        self.status.ends_with("_FAILED")
    }
}

/// Reader of one stack's events, by stack ID: once the stack is deleted, its name may denote another one.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) stack_id: String,
    seen: HashSet<String>,
    /// Token of the call whose operation is followed; `None`: any operation under way.
    token: Option<String>,
}

impl Events {
    /// Reads events from now on; earlier ones count as known.
    pub(crate) async fn from_now(cloud: &Cloud, stack_id: &str) -> Result<Events, CallFailed> {
        let (page, _) = page(cloud, stack_id, None).await?;
        Ok(Events {
            stack_id: stack_id.to_owned(),
            seen: page.into_iter().map(|event| event.id).collect(),
            token: None,
        })
    }

    /// Follows the operation that the call with this token began.
    pub(crate) fn begun_by(self, token: String) -> Events {
        Events {
            token: Some(token),
            ..self
        }
    }

    /// Whether an event belongs to the followed operation, as far as CloudFormation tells.
    pub(crate) fn are_of(&self, event: &Event) -> bool {
        match (&self.token, &event.token) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        }
    }

    /// Whether the followed operation has a token, so that its beginning can be seen.
    pub(crate) fn have_token(&self) -> bool {
        self.token.is_some()
    }

    /// Reads all events of the stack.
    pub(crate) fn from_the_beginning(stack_id: &str) -> Events {
        Events {
            stack_id: stack_id.to_owned(),
            seen: HashSet::new(),
            token: None,
        }
    }

    /// Reads from the beginning of the operation that is under way.
    pub(crate) async fn of_running_operation(
        cloud: &Cloud,
        stack_id: &str,
    ) -> Result<Events, CallFailed> {
        let mut next = None;
        // The beginning may be the last event of its page: then the known events begin on the next one.
        let mut is_found = false;
        loop {
            let (events, token) = page(cloud, stack_id, next).await?;
            let mut seen = HashSet::new();
            for event in events {
                if is_found {
                    seen.insert(event.id);
                } else {
                    is_found = is_beginning(&event);
                }
            }
            if !seen.is_empty() || token.is_none() {
                return Ok(Events {
                    stack_id: stack_id.to_owned(),
                    seen,
                    token: None,
                });
            }
            next = token;
        }
    }

    /// Events since the last call, the oldest first.
    pub(crate) async fn read(&mut self, cloud: &Cloud) -> Result<Vec<Event>, CallFailed> {
        let mut new = Vec::new();
        let mut next = None;
        loop {
            let (events, token) = page(cloud, &self.stack_id, next).await?;
            let mut reached_known = false;
            for event in events {
                // An event that this call has read from an earlier page does not end it.
                if !self.seen.insert(event.id.clone()) {
                    reached_known |= !new.iter().any(|it: &Event| it.id == event.id);
                } else if !reached_known {
                    new.push(event);
                }
            }
            next = token;
            if reached_known || next.is_none() {
                break;
            }
        }
        new.reverse();
        Ok(new)
    }
}

/// Whether an operation on the stack begins with this event.
fn is_beginning(event: &Event) -> bool {
    event.is_stack
        && event.status.ends_with("_IN_PROGRESS")
        && event
            .reason
            .as_deref()
            .is_some_and(|reason| reason.contains("User Initiated"))
}

async fn page(
    cloud: &Cloud,
    stack_id: &str,
    next: Option<String>,
) -> Result<(Vec<Event>, Option<String>), CallFailed> {
    let page = cloud
        .cfn
        .describe_stack_events()
        .stack_name(stack_id)
        .set_next_token(next)
        .send()
        .await
        .map_err(|error| failed("read the stack's events", error))?;
    Ok((
        page.stack_events().iter().map(Event::from).collect(),
        page.next_token,
    ))
}

/// Failures of an operation that explain something, in order.
///
/// When one resource fails, CloudFormation cancels the others and fails the stack, each with an event
/// of its own; these are left out.
pub(crate) fn causes(events: &[Event]) -> Vec<&Event> {
    const ECHOES: [&str; 4] = [
        "Resource creation cancelled",
        "Resource update cancelled",
        "Resource deletion cancelled",
        "The following resource(s) failed to",
    ];
    let is_echo = |event: &Event| {
        let reason = event.reason.as_deref().unwrap_or_default();
        ECHOES.iter().any(|echo| reason.starts_with(echo))
    };
    let failures = || events.iter().filter(|event| event.is_failure());
    let real: Vec<&Event> = failures()
        .filter(|event| !event.is_stack && !is_echo(event))
        .collect();
    if real.is_empty() {
        // The stack itself may fail, for instance when a role may not be assumed.
        failures().collect()
    } else {
        real
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(logical_id: &str, status: &str, reason: &str) -> Event {
        Event {
            id: format!("{logical_id}-{status}"),
            logical_id: logical_id.to_owned(),
            physical_id: String::new(),
            r#type: String::new(),
            status: status.to_owned(),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            at: 0.0,
            is_stack: logical_id == "stack",
            token: None,
        }
    }

    #[test]
    fn echoes_of_a_failure_are_no_causes() {
        let events = [
            event("Cache", "CREATE_IN_PROGRESS", ""),
            event("Function", "CREATE_FAILED", "Resource creation cancelled"),
            event("Cache", "CREATE_FAILED", "insufficient capacity"),
            event(
                "stack",
                "ROLLBACK_FAILED",
                "The following resource(s) failed to create: [Cache]",
            ),
        ];
        let causes: Vec<&str> = causes(&events)
            .iter()
            .map(|event| event.logical_id.as_str())
            .collect();
        assert_eq!(causes, ["Cache"]);
    }

    #[test]
    fn failure_of_the_stack_alone_is_its_cause() {
        let events = [event("stack", "UPDATE_FAILED", "role cannot be assumed")];
        assert_eq!(causes(&events).len(), 1);
    }
}
