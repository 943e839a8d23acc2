//! All browsers together: who is there, and the passes that bring every one of them the newest state.
//!
//! A few tasks, one to a core, go through the browsers and write to one after the other. Waking a task
//! per browser instead would cost about as much again as the writing itself.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::hub::Hub;
use crate::socket::Socket;

/// How often heartbeats and stalled browsers are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Browsers that are served before others have their turn on the core.
const BATCH: usize = 64;

/// The browsers, divided among the tasks.
#[derive(Debug)]
pub(crate) struct Audience {
    parts: Box<[Mutex<Part>]>,
    /// How long each part took to be served its last publication, in microseconds.
    passes: Box<[AtomicU64]>,
    next: AtomicUsize,
}

#[derive(Debug, Default)]
struct Part {
    seats: Vec<Option<Arc<Socket>>>,
    free: Vec<usize>,
    is_dismissed: bool,
}

/// A browser's seat, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    hub: Arc<Hub>,
    part: usize,
    index: usize,
}

impl Default for Audience {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            parts: (0..cores).map(|_| Mutex::default()).collect(),
            passes: (0..cores).map(|_| AtomicU64::default()).collect(),
            next: AtomicUsize::new(0),
        }
    }
}

impl Audience {
    fn part(&self, part: usize) -> MutexGuard<'_, Part> {
        self.parts[part]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tasks it takes, see [`attend`].
    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// How long it took to serve everybody, the last time.
    pub(crate) fn pass(&self) -> Duration {
        let passes = self.passes.iter().map(|pass| pass.load(Relaxed));
        Duration::from_micros(passes.max().unwrap_or(0))
    }

    /// Tells everybody, and whoever still comes, to go elsewhere.
    pub(crate) fn dismiss(&self) {
        for part in 0..self.parts() {
            let mut part = self.part(part);
            part.is_dismissed = true;
            for socket in part.seats.iter().flatten() {
                socket.dismiss();
            }
        }
    }

    /// Some browsers from an index on; none after the last one.
    fn batch(&self, part: usize, from: usize, batch: &mut Vec<Arc<Socket>>) -> Option<usize> {
        let part = self.part(part);
        let rest = part.seats.get(from..).filter(|rest| !rest.is_empty())?;
        let rest = &rest[..rest.len().min(BATCH)];
        batch.clear();
        batch.extend(rest.iter().flatten().cloned());
        Some(from + rest.len())
    }
}

/// Takes a seat for a browser that has its first frame.
pub(crate) fn seat(hub: &Arc<Hub>, socket: &Arc<Socket>) -> Seat {
    let audience = &hub.audience;
    let number = audience.next.fetch_add(1, Relaxed) % audience.parts();
    let mut part = audience.part(number);
    let index = part.free.pop().unwrap_or_else(|| {
        part.seats.push(None);
        part.seats.len() - 1
    });
    part.seats[index] = Some(Arc::clone(socket));
    if part.is_dismissed {
        socket.dismiss();
    }
    Seat {
        hub: Arc::clone(hub),
        part: number,
        index,
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut part = self.hub.audience.part(self.part);
        let socket = part.seats[self.index].take();
        part.free.push(self.index);
        // The last one may go with it, and closing takes a moment.
        drop(part);
        drop(socket);
    }
}

/// Serves one part of the audience, until dropped.
pub(crate) async fn attend(hub: Arc<Hub>, part: usize) {
    let mut newest = hub.subscribe();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let is_tick = tokio::select! {
            changed = newest.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
            _ = tick.tick() => true,
        };
        // What is published from here on asks for another pass, whoever gets it in this one already.
        newest.mark_unchanged();
        let now = Instant::now();
        let mut from = 0;
        while let Some(to) = hub.audience.batch(part, from, &mut batch) {
            from = to;
            // Whoever comes late in a long pass gets what is newest by then.
            let publication = hub.newest();
            let (mut frames, mut publications) = (0, 0);
            for socket in batch.drain(..) {
                if is_tick {
                    socket.tick(&hub, now);
                }
                if let Some(number) = socket.offer(&hub, &publication) {
                    frames += 1;
                    publications += number;
                }
            }
            hub.metrics.frames.add(frames);
            hub.metrics.merged.add(publications - frames);
            yield_now().await;
        }
        if !is_tick {
            let pass = u64::try_from(now.elapsed().as_micros()).unwrap_or(u64::MAX);
            hub.audience.passes[part].store(pass, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_audience_that_has_left_takes_no_time() {
        let hub = Hub::new(Duration::from_millis(50));
        hub.audience.passes[0].store(80_000, Relaxed);
        let attendant = tokio::spawn(attend(Arc::clone(&hub), 0));
        // Its first look, which is none at a publication.
        yield_now().await;
        assert_eq!(hub.audience.pass(), Duration::from_millis(80));
        assert!(hub.publish(), "that the cache is away is news");
        let served = async {
            while hub.audience.pass() == Duration::from_millis(80) {
                yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), served)
            .await
            .expect("the publication reaches a part without browsers, too");
        attendant.abort();
    }
}
