//! From the board to all browsers.
//!
//! A frame is made once and shared: its bytes stand ready for the wire, and a browser that is up to
//! date is written them without a copy. The first change is published at once and only then does the
//! window begin, so a calm system is immediate and a busy one is bounded. After it, what has
//! gathered waits a little for the next change, so that a frame is new when it is sent. The window is
//! stretched for an audience that takes long to serve.
//! Browsers that lag get one merged frame, made once for all that lag equally.
//! There is no queue anywhere: what a browser has not taken does not exist for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::audience::Audience;
use crate::board::{Board, Clock};
use crate::metrics::Metrics;
use crate::wire;

/// Serving everybody may take one part in so many of the time; what a larger audience needs, it gets less
/// often. The rest is for reading what is new, and for the proxy in front, which copies every frame again.
const SHARE: u32 = 3;

/// However large the audience is, it sees something new after this.
const LONGEST_WINDOW: Duration = Duration::from_secs(1);

/// A window that was stretched for a large audience ends as soon as nothing has come for so long: what
/// came last is not to wait for more.
const LULL: Duration = Duration::from_millis(12);

/// For so long at a time announcements are left lying within the window, and read together then.
/// Waking up for each of a thousand a second costs more than all that is done with them.
const GULP: Duration = Duration::from_millis(24);

/// Time to read what lies there: the least that a timer knows.
const SWALLOW: Duration = Duration::from_millis(1);

/// How often falling rates are looked at.
const SETTLE: Duration = Duration::from_secs(1);

/// A full frame is shared by all that ask within this time. It only ages the frame's clock: what
/// changed since follows as a later frame.
const FULL_FRAME_AGE: Duration = Duration::from_millis(250);

/// The newest publication.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publication {
    /// Counts up.
    pub(crate) version: u64,
    /// The version that the frame builds on; `None` if it is full.
    pub(crate) base: Option<u64>,
    /// A whole WebSocket frame.
    pub(crate) frame: Bytes,
}

/// The state and who watches it.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) metrics: Metrics,
    pub(crate) audience: Audience,
    /// Least time between two publications; more for a large audience.
    window: Duration,
    started: Instant,
    board: Mutex<Board>,
    changed: Notify,
    newest: watch::Sender<Publication>,
    full: Mutex<Option<(Instant, u64, Bytes)>>,
    /// Merged frames of one version, by the version that they build on.
    merged: Mutex<(u64, HashMap<u64, Bytes>)>,
}

/// A poisoned lock is only a panic elsewhere; the state behind it is whole or about to be replaced.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The window for an audience that took so long to serve.
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

    /// Looks at the board.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Board) -> T) -> T {
        look(&lock(&self.board))
    }

    /// Changes the board; the change is published in its time.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Board, Clock) -> T) -> T {
        let result = change(&mut lock(&self.board), self.clock());
        self.changed.notify_one();
        result
    }

    /// Publishes whatever changes, until dropped. Shares its thread with who follows the cache and with
    /// nobody else, because it stops that thread, see [`GULP`].
    pub(crate) async fn publish_forever(&self) {
        let mut settle = interval(SETTLE);
        settle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.publish() {
                self.pause().await;
                if settle.tick().now_or_never().is_some() {
                    self.settle();
                }
            } else {
                tokio::select! {
                    () = self.changed.notified() => {}
                    _ = settle.tick() => self.settle(),
                }
            }
        }
    }

    /// Waits until the next publication may be.
    ///
    /// That is a window from now, and then with the first change: at the end of a fixed time the newest
    /// change would already have waited for half of the time between two.
    async fn pause(&self) {
        let began = Instant::now();
        let window = stretched(self.window, self.audience.pass());
        if window == self.window {
            self.read_until(began + window, GULP, || true).await;
            if self.read(Board::is_dirty) {
                self.has_news();
                let _ = timeout((window / 5).min(LULL), self.changed.notified()).await;
            }
        } else {
            let mut last = None;
            let goes_on = || {
                if self.has_news() {
                    last = Some(Instant::now());
                }
                let is_quiet = last.is_some_and(|last| last.elapsed() >= LULL);
                !is_quiet || began.elapsed() < self.window
            };
            self.read_until(began + window, LULL / 3, goes_on).await;
        }
    }

    /// Reads what the cache announces from time to time, until then or until told to end.
    async fn read_until(&self, end: Instant, gulp: Duration, mut goes_on: impl FnMut() -> bool) {
        while let Some(rest) = end.checked_duration_since(Instant::now()) {
            std::thread::sleep(rest.min(gulp));
            sleep(SWALLOW).await;
            if !goes_on() {
                return;
            }
        }
    }

    /// Whether anything changed since this was last asked.
    fn has_news(&self) -> bool {
        self.changed.notified().now_or_never().is_some()
    }

    fn settle(&self) {
        lock(&self.board).settle(self.clock().seconds);
    }

    /// Publishes what has changed; answers whether anything has.
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
        let frame = wire::text(&text);
        self.newest.send_replace(Publication {
            version,
            base,
            frame,
        });
        true
    }

    /// Follows the publications.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Publication> {
        self.newest.subscribe()
    }

    /// The newest publication.
    pub(crate) fn newest(&self) -> Publication {
        self.newest.borrow().clone()
    }

    /// The full frame with the version that it holds.
    pub(crate) fn full(&self) -> (u64, Bytes) {
        let mut full = lock(&self.full);
        if let Some((made, version, frame)) = &*full
            && made.elapsed() < FULL_FRAME_AGE
        {
            return (*version, frame.clone());
        }
        let (version, text) =
            self.read(|board| (board.version(), board.full(self.clock().milliseconds)));
        let frame = wire::text(&text);
        *full = Some((Instant::now(), version, frame.clone()));
        (version, frame)
    }

    /// One frame for whoever has seen a version, with the version that it leads to.
    pub(crate) fn merged(&self, seen: u64) -> (u64, Bytes) {
        let mut merged = lock(&self.merged);
        let board = lock(&self.board);
        let version = board.version();
        if merged.0 != version {
            *merged = (version, HashMap::new());
        }
        let make = || wire::text(&board.since(seen, self.clock().milliseconds));
        (version, merged.1.entry(seen).or_insert_with(make).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_stretched_for_those_who_take_long_and_never_without_end() {
        let check = |window: u64, pass: u64, expected: u64| {
            let window = stretched(Duration::from_millis(window), Duration::from_millis(pass));
            assert_eq!(window.as_millis(), expected.into(), "a pass of {pass} ms");
        };
        check(50, 0, 50);
        check(50, 16, 50);
        check(50, 40, 120);
        check(50, 400, 1_000);
        check(10, 40, 120);
        // Somebody asked for a frame a second, and gets no more.
        check(1_000, 400, 1_000);
    }
}
