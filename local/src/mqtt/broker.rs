//! Who is connected, who subscribed to what, and which messages are retained.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use iot_sql::{BasicIngest, TopicFilter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::codec::QoS;
use super::device::Device;
use crate::iot::{Publish, RuleEngine};
use crate::status::Status;

/// Deliveries that may wait for a slow subscriber; more are dropped and counted.
const SUBSCRIBER_QUEUE: usize = 1_024;
/// Retained messages of an account (AWS IoT Core quotas).
const MAX_RETAINED: usize = 500_000;
/// Bytes of retained payloads kept at most, so that the memory stays bounded.
const MAX_RETAINED_BYTES: usize = 256 * 1024 * 1024;

/// A message on its way to one subscriber.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) message: Arc<Publish>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

/// The message broker; shared by `Arc`.
#[derive(Debug)]
pub struct Broker {
    /// Read as long as a message is with the rules.
    rules: tokio::sync::RwLock<Arc<RuleEngine>>,
    status: Arc<Status>,
    next: AtomicU64,
    connections: Mutex<HashMap<String, Connected>>,
    subscribers: RwLock<HashMap<u64, Subscriber>>,
    retained: RwLock<Retained>,
}

#[derive(Debug)]
struct Connected {
    number: u64,
    cancel: CancellationToken,
}

#[derive(Debug)]
struct Subscriber {
    /// Who may not receive everything.
    device: Option<Arc<Device>>,
    deliveries: mpsc::Sender<Delivery>,
    subscriptions: Vec<Subscription>,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) filter: TopicFilter,
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
}

#[derive(Debug, Default)]
struct Retained {
    messages: BTreeMap<String, (Arc<Publish>, QoS)>,
    bytes: usize,
}

/// A client's place in the broker; leaving it is dropping it.
pub(super) struct Seat {
    broker: Arc<Broker>,
    client_id: String,
    pub(super) number: u64,
    /// Ends when another connection takes the client ID, or the broker stops.
    pub(super) cancel: CancellationToken,
    device: Option<Arc<Device>>,
    deliveries: mpsc::Sender<Delivery>,
}

impl Broker {
    /// A broker that hands every message to these rules.
    pub fn new(rules: Arc<RuleEngine>, status: Arc<Status>) -> Arc<Broker> {
        Arc::new(Broker {
            rules: tokio::sync::RwLock::new(rules),
            status,
            next: AtomicU64::new(1),
            connections: Mutex::default(),
            subscribers: RwLock::default(),
            retained: RwLock::default(),
        })
    }

    /// Holds messages up, once those at hand are through, until the guard is dropped; it may put other
    /// rules in place.
    pub async fn hold(&self) -> tokio::sync::RwLockWriteGuard<'_, Arc<RuleEngine>> {
        self.rules.write().await
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// Gives a client its place, and ends the connection that had its ID.
    pub(super) fn enter(
        self: &Arc<Broker>,
        client_id: &str,
        device: Option<Arc<Device>>,
        stopping: &CancellationToken,
    ) -> (Seat, mpsc::Receiver<Delivery>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let cancel = stopping.child_token();
        let connected = Connected {
            number,
            cancel: cancel.clone(),
        };
        let previous = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(client_id.to_owned(), connected);
        if let Some(previous) = previous {
            previous.cancel.cancel();
        }
        let (deliveries, receiver) = mpsc::channel(SUBSCRIBER_QUEUE);
        let seat = Seat {
            broker: Arc::clone(self),
            client_id: client_id.to_owned(),
            number,
            cancel,
            device,
            deliveries,
        };
        (seat, receiver)
    }

    /// Takes a message: subscribers get it, and this returns when the rules have accepted it.
    /// `publisher` is the number of the connection that it came from. False if no rule takes the topic.
    pub(super) async fn publish(
        &self,
        publish: Publish,
        qos: QoS,
        retain: bool,
        publisher: u64,
    ) -> bool {
        self.status.messages.increment();
        let message = Arc::new(publish);
        if BasicIngest::parse(&message.topic).is_none() {
            if retain {
                self.retain(&message, qos);
            }
            self.deliver(&message, qos, retain, publisher);
        }
        self.rules.read().await.accept(&message).await
    }

    /// Takes a message that came by HTTP; `is_confirmed` is QoS 1.
    pub async fn publish_by_http(&self, publish: Publish, is_confirmed: bool, is_retained: bool) {
        let qos = if is_confirmed {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        };
        // No connection has this number: they begin at one.
        self.publish(publish, qos, is_retained, 0).await;
    }

    fn deliver(&self, message: &Arc<Publish>, qos: QoS, retain: bool, publisher: u64) {
        let subscribers = self
            .subscribers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for (number, subscriber) in subscribers.iter() {
            let matching = subscriber.subscriptions.iter().filter(|it| {
                !(it.no_local && *number == publisher) && it.filter.matches(&message.topic)
            });
            // One copy however many filters match, at the best of their qualities of service.
            let Some(best) = matching.max_by_key(|it| it.qos) else {
                continue;
            };
            if !may_receive(subscriber.device.as_deref(), &message.topic) {
                continue;
            }
            let delivery = Delivery {
                message: Arc::clone(message),
                qos: qos.min(best.qos),
                retain: retain && best.retain_as_published,
            };
            if subscriber.deliveries.try_send(delivery).is_err() {
                let dropped = self.status.deliveries_dropped.increment();
                if dropped.is_power_of_two() {
                    tracing::warn!(
                        dropped,
                        "a subscriber reads too slowly: a message to it was dropped"
                    );
                }
            }
        }
    }

    fn retain(&self, message: &Arc<Publish>, qos: QoS) {
        let mut retained = self
            .retained
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((old, _)) = retained.messages.remove(&message.topic) {
            retained.bytes -= old.payload.len();
        }
        if message.payload.is_empty() {
            return;
        }
        if retained.messages.len() >= MAX_RETAINED
            || retained.bytes + message.payload.len() > MAX_RETAINED_BYTES
        {
            tracing::warn!(
                topic = message.topic,
                "too many retained messages: not retained"
            );
            return;
        }
        retained.bytes += message.payload.len();
        retained
            .messages
            .insert(message.topic.clone(), (Arc::clone(message), qos));
    }

    fn retained(&self, filter: &TopicFilter, granted: QoS) -> Vec<Delivery> {
        let retained = self.retained.read().unwrap_or_else(PoisonError::into_inner);
        retained
            .messages
            .iter()
            .filter(|(topic, _)| filter.matches(topic))
            .map(|(_, (message, qos))| Delivery {
                message: Arc::clone(message),
                qos: granted.min(*qos),
                retain: true,
            })
            .collect()
    }
}

impl Seat {
    /// Adds a subscription, or replaces the one with the same filter. Says whether it is new.
    /// Nothing when the connection has as many as AWS allows.
    pub(super) fn subscribe(&self, subscription: Subscription) -> Option<bool> {
        let mut subscribers = self
            .broker
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let subscriptions = &mut subscribers
            .entry(self.number)
            .or_insert_with(|| Subscriber {
                device: self.device.clone(),
                deliveries: self.deliveries.clone(),
                subscriptions: Vec::new(),
            })
            .subscriptions;
        if let Some(old) = subscriptions
            .iter_mut()
            .find(|it| it.filter == subscription.filter)
        {
            *old = subscription;
            return Some(false);
        }
        if subscriptions.len() >= super::MAX_SUBSCRIPTIONS {
            return None;
        }
        subscriptions.push(subscription);
        Some(true)
    }

    /// Whether there was such a subscription.
    pub(super) fn unsubscribe(&self, filter: &str) -> bool {
        let mut subscribers = self
            .broker
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(subscriber) = subscribers.get_mut(&self.number) else {
            return false;
        };
        let before = subscriber.subscriptions.len();
        subscriber
            .subscriptions
            .retain(|it| it.filter.as_str() != filter);
        let existed = subscriber.subscriptions.len() < before;
        if subscriber.subscriptions.is_empty() {
            subscribers.remove(&self.number);
        }
        existed
    }

    /// The retained messages that a filter matches.
    pub(super) fn retained(&self, filter: &TopicFilter, granted: QoS) -> Vec<Delivery> {
        let mut retained = self.broker.retained(filter, granted);
        retained.retain(|it| may_receive(self.device.as_deref(), &it.message.topic));
        retained
    }
}

/// Whether the policies let a subscriber have messages of a topic; nobody is told when they do not.
fn may_receive(device: Option<&Device>, topic: &str) -> bool {
    device.is_none_or(|it| it.may("iot:Receive", format!("topic/{topic}")).is_ok())
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.broker
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
        let mut connections = self
            .broker
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if connections
            .get(&self.client_id)
            .is_some_and(|it| it.number == self.number)
        {
            connections.remove(&self.client_id);
        }
    }
}
