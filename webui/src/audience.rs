//! All browsers, and the passes that send them the newest state.
//!
//! One task per core writes to its part of the browsers, one after the other. Waking a task per browser
//! would double the cost of writing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::hub::Hub;
use crate::socket::Socket;

/// Interval at which heartbeats and stalled browsers are checked.
const TICK: Duration = Duration::from_secs(1);

/// Number of browsers served before other tasks can run.
const BATCH: usize = 64;

/// The browsers, divided into one part per task.
#[derive(Debug)]
pub(crate) struct Audience {
    parts: Box<[Mutex<Part>]>,
    /// Duration of each part's last pass, in microseconds.
    passes: Box<[AtomicU64]>,
    next: AtomicUsize,
}

#[derive(Debug, Default)]
struct Part {
    sockets: Vec<Option<Arc<Socket>>>,
    free: Vec<usize>,
    is_dismissed: bool,
}

/// Membership of a browser in the audience, ended on drop.
#[derive(Debug)]
pub(crate) struct Membership {
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

    /// Number of parts, each served by [`attend`].
    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Duration of the last pass over all browsers.
    pub(crate) fn pass(&self) -> Duration {
        let passes = self.passes.iter().map(|pass| pass.load(Relaxed));
        Duration::from_micros(passes.max().unwrap_or(0))
    }

    /// Closes all browsers' sockets, and those of browsers that still join.
    pub(crate) fn dismiss(&self) {
        for part in 0..self.parts() {
            let mut part = self.part(part);
            part.is_dismissed = true;
            for socket in part.sockets.iter().flatten() {
                socket.dismiss();
            }
        }
    }

    /// Collects browsers from an index on. Returns the next index; `None` after the last one.
    fn batch(&self, part: usize, from: usize, batch: &mut Vec<Arc<Socket>>) -> Option<usize> {
        let part = self.part(part);
        let rest = part.sockets.get(from..).filter(|rest| !rest.is_empty())?;
        let rest = &rest[..rest.len().min(BATCH)];
        batch.clear();
        batch.extend(rest.iter().flatten().cloned());
        Some(from + rest.len())
    }
}

/// Adds a browser that has its first frame.
pub(crate) fn join(hub: &Arc<Hub>, socket: &Arc<Socket>) -> Membership {
    let audience = &hub.audience;
    let number = audience.next.fetch_add(1, Relaxed) % audience.parts();
    let mut part = audience.part(number);
    let index = part.free.pop().unwrap_or_else(|| {
        part.sockets.push(None);
        part.sockets.len() - 1
    });
    part.sockets[index] = Some(Arc::clone(socket));
    if part.is_dismissed {
        socket.dismiss();
    }
    Membership {
        hub: Arc::clone(hub),
        part: number,
        index,
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut part = self.hub.audience.part(self.part);
        let socket = part.sockets[self.index].take();
        part.free.push(self.index);
        // Outside the lock: the last reference closes the connection, which takes time.
        drop(part);
        drop(socket);
    }
}

/// Serves one part of the audience until dropped.
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
        // A later publication starts another pass, although browsers at the end of this one get it already.
        newest.mark_unchanged();
        let now = Instant::now();
        let mut from = 0;
        while let Some(to) = hub.audience.batch(part, from, &mut batch) {
            from = to;
            // The end of a long pass gets the newest publication.
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
    async fn an_empty_audience_takes_no_time() {
        let hub = Hub::new(Duration::from_millis(50));
        hub.audience.passes[0].store(80_000, Relaxed);
        let attendant = tokio::spawn(attend(Arc::clone(&hub), 0));
        // Its first pass, without a publication.
        yield_now().await;
        assert_eq!(hub.audience.pass(), Duration::from_millis(80));
        assert!(hub.publish(), "the unreachable cache is a change");
        let served = async {
            while hub.audience.pass() == Duration::from_millis(80) {
                yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), served)
            .await
            .expect("a part without browsers gets the publication");
        attendant.abort();
    }
}
