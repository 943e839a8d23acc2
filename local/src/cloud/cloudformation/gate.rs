//! Lets the parts of a starting pipeline wait for their resources, and resources for their parts.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::pipeline::Gate;

/// Types that are parts of a pipeline, in the order in which it starts them.
const PARTS: [&str; 7] = [
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::ElasticBeanstalk::Environment",
    "AWS::Lambda::Function",
    "AWS::Kinesis::Stream",
    "AWS::Lambda::EventSourceMapping",
    "AWS::KinesisFirehose::DeliveryStream",
    "AWS::IoT::TopicRule",
];

/// When a pipeline starts the resources of a type; `None` for a type that is no part of it.
pub(super) fn turn(r#type: &str) -> Option<usize> {
    PARTS.iter().position(|it| *it == r#type)
}

/// Why a part does not start: its logical ID, if that is known, and what happened.
pub(super) type Refusal = (Option<String>, String);

/// A part in the template.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) turn: usize,
    /// Everything that it needs, and what that needs in turn.
    pub(super) needs: BTreeSet<String>,
}

/// The gate of one start.
#[derive(Debug)]
pub(super) struct Turnstile {
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    parts: BTreeMap<String, Part>,
    /// Parts that may start.
    open: BTreeSet<String>,
    all_open: bool,
    started: BTreeSet<String>,
    /// The part at the gate, or past it and not started yet.
    current: Option<String>,
    /// Parts whose artifacts are not usable, and why.
    broken: BTreeMap<String, String>,
    ended: Option<Result<(), Refusal>>,
}

impl Turnstile {
    pub(super) fn new() -> Turnstile {
        Turnstile {
            state: watch::Sender::new(State::default()),
        }
    }

    /// Says which parts there are, and which of them cannot start.
    pub(super) fn introduce(
        &self,
        parts: BTreeMap<String, Part>,
        broken: BTreeMap<String, String>,
    ) {
        self.state.send_modify(|state| {
            state.parts = parts;
            state.broken = broken;
        });
    }

    /// Lets a part start.
    pub(super) fn open(&self, logical_id: &str) {
        self.state.send_modify(|state| {
            state.open.insert(logical_id.to_owned());
        });
    }

    /// Lets every part start.
    pub(super) fn open_all(&self) {
        self.state.send_modify(|state| state.all_open = true);
    }

    /// The start is over, well or not.
    pub(super) fn end(&self, result: Result<(), Refusal>) {
        self.state.send_modify(|state| {
            state.ended.get_or_insert(result);
        });
    }

    /// Which part was to start when the start failed.
    pub(super) fn current(&self) -> Option<String> {
        self.state.borrow().current.clone()
    }

    /// Returns when a broken part has had its turn.
    pub(super) async fn refused(&self) -> Refusal {
        let mut seen = self.state.subscribe();
        let state = seen.wait_for(|state| {
            let broken = state
                .current
                .as_ref()
                .filter(|it| state.broken.contains_key(*it));
            broken.is_some_and(|it| state.is_open(it))
        });
        let refusal = state.await.ok().map(|state| {
            let id = state.current.clone();
            let reason = id.as_ref().and_then(|it| state.broken.get(it)).cloned();
            (id, reason.unwrap_or_default())
        });
        match refusal {
            Some(refusal) => refusal,
            // The sender is ours, and still there.
            None => std::future::pending().await,
        }
    }

    /// Returns when a part runs.
    ///
    /// # Errors
    /// It did not start.
    pub(super) async fn runs(&self, logical_id: &str, turn: usize) -> Result<(), String> {
        let mut seen = self.state.subscribe();
        loop {
            {
                let state = seen.borrow_and_update();
                match &state.ended {
                    Some(Ok(())) => return Ok(()),
                    Some(Err((id, reason))) if id.as_deref().is_none_or(|it| it == logical_id) => {
                        return Err(reason.clone());
                    }
                    _ => {}
                }
                let current = state.current.as_ref().and_then(|it| state.parts.get(it));
                let is_past = current.is_some_and(|it| it.turn > turn);
                if state.started.contains(logical_id) || is_past {
                    return Ok(());
                }
            }
            if seen.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Returns when the start is over.
    pub(super) async fn ended(&self) -> Result<(), Refusal> {
        let mut seen = self.state.subscribe();
        match seen.wait_for(|state| state.ended.is_some()).await {
            Ok(state) => state.ended.clone().unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }
}

impl State {
    /// Whether a part may start: its resource's turn has come, or what has come needs it not to be
    /// waited for. A pipeline starts its parts in an order of its own; a part that another
    /// resource's part comes before is let through early.
    fn is_open(&self, logical_id: &str) -> bool {
        if self.all_open || self.open.contains(logical_id) {
            return true;
        }
        let Some(part) = self.parts.get(logical_id) else {
            return true;
        };
        let waits = |id: &&String| !self.started.contains(*id) && *id != logical_id;
        self.open.iter().filter(waits).any(|id| {
            let later = self.parts.get(id).is_some_and(|it| it.turn > part.turn);
            later && part.needs.contains(id)
        })
    }
}

impl Gate for Turnstile {
    fn wait<'a>(&'a self, logical_id: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.state
                .send_modify(|state| state.current = Some(logical_id.to_owned()));
            let mut seen = self.state.subscribe();
            let open = seen.wait_for(|state| {
                state.is_open(logical_id) && !state.broken.contains_key(logical_id)
            });
            let _ = open.await;
        })
    }

    fn started(&self, logical_id: &str) {
        self.state.send_modify(|state| {
            state.started.insert(logical_id.to_owned());
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn turnstile(parts: &[(&str, usize, &[&str])]) -> Arc<Turnstile> {
        let turnstile = Arc::new(Turnstile::new());
        let parts = parts.iter().map(|(id, turn, needs)| {
            let needs = needs.iter().map(|it| (*it).to_owned()).collect();
            ((*id).to_owned(), Part { turn: *turn, needs })
        });
        turnstile.introduce(parts.collect(), BTreeMap::new());
        turnstile
    }

    #[tokio::test]
    async fn part_waits_for_its_resource_and_resource_for_its_part() {
        let turnstile = turnstile(&[("Cache", 0, &[])]);
        let part = tokio::spawn({
            let turnstile = Arc::clone(&turnstile);
            async move {
                turnstile.wait("Cache").await;
                turnstile.started("Cache");
            }
        });
        tokio::task::yield_now().await;
        assert!(!part.is_finished());
        turnstile.open("Cache");
        assert_eq!(turnstile.runs("Cache", 0).await, Ok(()));
        part.await.unwrap();
    }

    #[tokio::test]
    async fn part_is_let_through_when_what_it_needs_comes_later_in_the_pipeline() {
        let turnstile = turnstile(&[("Environment", 1, &["Function"]), ("Function", 2, &[])]);
        turnstile.open("Function");
        turnstile.wait("Environment").await;
    }

    #[tokio::test]
    async fn broken_part_is_refused_in_its_turn() {
        let turnstile = turnstile(&[("Function", 2, &[])]);
        let broken = BTreeMap::from([("Function".to_owned(), "no zip".to_owned())]);
        let parts = turnstile.state.borrow().parts.clone();
        turnstile.introduce(parts, broken);
        turnstile.open("Function");
        let refusal = tokio::select! {
            () = turnstile.wait("Function") => panic!("it is broken"),
            refusal = turnstile.refused() => refusal,
        };
        assert_eq!(refusal, (Some("Function".to_owned()), "no zip".to_owned()));
        turnstile.end(Err(refusal));
        assert_eq!(
            turnstile.runs("Function", 2).await,
            Err("no zip".to_owned())
        );
    }
}
