//! Publication of the board to all browsers.
//!
//! A frame is created once and shared: browsers that are up to date are sent the same bytes without a copy.
//! The first change is published immediately and starts a window, so that a quiet system has no delay and
//! a busy one a bounded rate. At the end of a window, the changes wait briefly for the next one, so that a
//! frame is new when it is sent. The window is longer if serving all browsers takes long.
//! Browsers that lag get a merged frame, created once for all that have seen the same version.
//! There are no queues: a browser skips what it did not accept in time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::audience::Audience;
use crate::board::{Board, Clock};
use crate::metrics::Metrics;
use crate::websocket;

/// Serving all browsers may take one part in this many of the time; a larger audience gets fewer frames.
/// The rest is for reading announcements, and for nginx, which copies every frame again.
const SHARE: u32 = 3;

/// Longest window, for any size of the audience.
const LONGEST_WINDOW: Duration = Duration::from_secs(1);

/// A window that is stretched for a large audience ends after this time without announcements, so that the
/// last change does not wait for more.
const QUIET_PERIOD: Duration = Duration::from_millis(12);

/// Interval at which queued announcements are drained in a batch.
/// Waking for each of a thousand a second costs more than everything that is done with them.
const DRAIN_INTERVAL: Duration = Duration::from_millis(24);

/// Time to drain them: the resolution of tokio's timer.
const DRAIN_TIME: Duration = Duration::from_millis(1);

/// Interval at which falling rates are updated.
const SETTLE: Duration = Duration::from_secs(1);

/// Time for which a full frame is shared. Later changes follow in the next frame; only the frame's clock is
/// old.
const FULL_FRAME_AGE: Duration = Duration::from_millis(250);

/// The newest publication.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publication {
    /// Increases by one with each publication.
    pub(crate) version: u64,
    /// The version that the frame builds on; `None` if it is full.
    pub(crate) base: Option<u64>,
    /// A complete WebSocket frame.
    pub(crate) frame: Bytes,
}

/// The state and its audience.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) metrics: Metrics,
    pub(crate) audience: Audience,
    /// Minimum time between two publications; longer for a large audience.
    window: Duration,
    started: Instant,
    board: Mutex<Board>,
    changed: Notify,
    newest: watch::Sender<Publication>,
    full: Mutex<Option<(Instant, u64, Bytes)>>,
    /// Merged frames of the newest version, by the version that they build on.
    merged: Mutex<(u64, HashMap<u64, Bytes>)>,
}

/// Locks, ignoring poison: a panic leaves the state complete, or it is replaced next.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the follower read the queued announcements once per interval, until `end` or until `goes_on` is
/// false.
///
/// The thread sleeps, not a timer of the runtime: the runtime would wake for each announcement.
fn drain_until(
    follower: &Runtime,
    end: Instant,
    interval: Duration,
    mut goes_on: impl FnMut() -> bool,
) {
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        std::thread::sleep(rest.min(interval));
        follower.block_on(async { sleep(DRAIN_TIME).await });
        if !goes_on() {
            return;
        }
    }
}

/// The window after a pass of this duration.
fn stretched(window: Duration, pass: Duration) -> Duration {
    window.max((pass * SHARE).min(LONGEST_WINDOW))
}

impl Hub {
    pub(crate) fn new(window: Duration) -> Arc<Self> {
        let hub = Self {
            metrics: Metrics::default(),
            audience: Audience::default(),
            window,
            started: Instant::now(),
            board: Mutex::default(),
            changed: Notify::new(),
            newest: watch::Sender::default(),
            full: Mutex::default(),
            merged: Mutex::default(),
        };
        lock(&hub.board).set_unreachable(hub.clock().milliseconds);
        Arc::new(hub)
    }

    /// Both clocks.
    pub(crate) fn clock(&self) -> Clock {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Clock {
            seconds: self.started.elapsed().as_secs_f64(),
            milliseconds: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Reads the board.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Board) -> T) -> T {
        look(&lock(&self.board))
    }

    /// Changes the board; the change is published when the window allows it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Board, Clock) -> T) -> T {
        let result = change(&mut lock(&self.board), self.clock());
        self.changed.notify_one();
        result
    }

    /// Publishes changes until cancelled.
    ///
    /// Blocks its thread, which must be the one of `follower`, a current-thread runtime: whatever runs on
    /// that runtime stands still while this sleeps, see [`DRAIN_INTERVAL`].
    pub(crate) fn publish_until(&self, cancelled: &CancellationToken, follower: &Runtime) {
        let mut settle = Instant::now() + SETTLE;
        while !cancelled.is_cancelled() {
            if self.publish() {
                self.pause(follower);
            } else {
                follower.block_on(async {
                    tokio::select! {
                        () = cancelled.cancelled() => {}
                        () = self.changed.notified() => {}
                        () = sleep_until(settle.into()) => {}
                    }
                });
            }
            if Instant::now() >= settle {
                self.settle();
                settle = Instant::now() + SETTLE;
            }
        }
    }

    /// Waits until the next publication is due: a window, and then until the next change. At the end of a
    /// fixed time the newest change would already have waited for half of the time between two changes.
    fn pause(&self, follower: &Runtime) {
        let began = Instant::now();
        let window = stretched(self.window, self.audience.pass());
        if window == self.window {
            drain_until(follower, began + window, DRAIN_INTERVAL, || true);
            if self.read(Board::is_dirty) {
                self.has_news();
                let limit = (window / 5).min(QUIET_PERIOD);
                let _ = follower.block_on(async { timeout(limit, self.changed.notified()).await });
            }
        } else {
            let mut last = None;
            let goes_on = || {
                if self.has_news() {
                    last = Some(Instant::now());
                }
                let is_quiet = last.is_some_and(|last| last.elapsed() >= QUIET_PERIOD);
                !is_quiet || began.elapsed() < self.window
            };
            drain_until(follower, began + window, QUIET_PERIOD / 3, goes_on);
        }
    }

    /// Whether anything changed since this was last asked.
    fn has_news(&self) -> bool {
        self.changed.notified().now_or_never().is_some()
    }

    fn settle(&self) {
        lock(&self.board).settle(self.clock().seconds);
    }

    /// Publishes the changes. Returns whether there were any.
    pub(crate) fn publish(&self) -> bool {
        let mut board = lock(&self.board);
        let clock = self.clock();
        for at in board.changed_at() {
            self.metrics
                .lag
                .observe(clock.milliseconds.saturating_sub(at));
        }
        let Some((base, text)) = board.publish(clock) else {
            return false;
        };
        let version = board.version();
        drop(board);
        let frame = websocket::text(&text);
        self.newest.send_replace(Publication {
            version,
            base,
            frame,
        });
        true
    }

    /// Subscribes to publications.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Publication> {
        self.newest.subscribe()
    }

    /// The newest publication.
    pub(crate) fn newest(&self) -> Publication {
        self.newest.borrow().clone()
    }

    /// The full frame and its version.
    pub(crate) fn full(&self) -> (u64, Bytes) {
        let mut full = lock(&self.full);
        if let Some((made, version, frame)) = &*full
            && made.elapsed() < FULL_FRAME_AGE
        {
            return (*version, frame.clone());
        }
        let (version, text) =
            self.read(|board| (board.version(), board.full(self.clock().milliseconds)));
        let frame = websocket::text(&text);
        *full = Some((Instant::now(), version, frame.clone()));
        (version, frame)
    }

    /// The frame for browsers that have seen a version, and the version that it leads to.
    pub(crate) fn merged(&self, seen: u64) -> (u64, Bytes) {
        let mut merged = lock(&self.merged);
        let board = lock(&self.board);
        let version = board.version();
        if merged.0 != version {
            *merged = (version, HashMap::new());
        }
        let make = || websocket::text(&board.since(seen, self.clock().milliseconds));
        (version, merged.1.entry(seen).or_insert_with(make).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_stretched_for_a_slow_audience_up_to_a_limit() {
        let check = |window: u64, pass: u64, expected: u64| {
            let window = stretched(Duration::from_millis(window), Duration::from_millis(pass));
            assert_eq!(window.as_millis(), expected.into(), "a pass of {pass} ms");
        };
        check(50, 0, 50);
        check(50, 16, 50);
        check(50, 40, 120);
        check(50, 400, 1_000);
        check(10, 40, 120);
        // A window of a second is the limit already.
        check(1_000, 400, 1_000);
    }
}
