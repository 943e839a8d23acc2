//! The sensors' announced state, and the changes since each version.
//!
//! Pure: announcements and reads go in, frames come out, and time is an argument.
//! Publications have versions, counted by this process; a client is the version that it has seen.

use std::collections::{BTreeMap, VecDeque};

use contract::message::{Announcement, Device, Message};
use serde::Serialize;

use crate::rate::Rate;

/// Number of evicted devices that are remembered for lagging clients; a client that lags more gets a full
/// frame.
const REMOVALS: usize = 4096;

/// The state read from the cache.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Empty if the cache is empty.
    pub(crate) epoch: String,
    /// Number of an announcement that the state includes; it may include later ones.
    pub(crate) seq: u64,
    /// Number of records ever counted.
    pub(crate) count: u64,
    /// Latest message of all devices.
    pub(crate) latest: Option<Message>,
    pub(crate) devices: Vec<Device>,
}

/// Result of an announcement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The board has it.
    Yes,
    /// The board was already newer.
    Old,
    /// Announcements before it are missing: read everything.
    Gap,
}

/// The sensors' state.
#[derive(Debug, Default)]
pub(crate) struct Board {
    epoch: String,
    seq: u64,
    count: u64,
    rate: Rate,
    shown_rate: f64,
    latest: Option<Message>,
    devices: BTreeMap<String, Entry>,
    unreachable_since: Option<u64>,
    loaded: bool,
    /// Whether the last publication was of a reachable cache.
    ready: bool,

    version: u64,
    /// Devices that changed since the last publication.
    changed: Vec<String>,
    /// Whether anything changed since the last publication, a device or not.
    dirty: bool,
    removed: VecDeque<(u64, String)>,
    /// Clients that have seen less than this version get a full frame.
    oldest: u64,
}

#[derive(Debug)]
struct Entry {
    count: u64,
    rate: Rate,
    shown_rate: f64,
    latest: Message,
    /// The first version with this state.
    version: u64,
}

/// [`contract::message::Frame`] with borrowed fields.
#[derive(Serialize)]
struct Frame<'a> {
    epoch: &'a str,
    seq: u64,
    count: u64,
    rate: f64,
    latest: Option<&'a Message>,
    devices: Vec<DeviceFrame<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<&'a str>,
    full: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable_since: Option<u64>,
    now: u64,
}

#[derive(Serialize)]
struct DeviceFrame<'a> {
    device: &'a str,
    count: u64,
    rate: f64,
    latest: &'a Message,
}

impl Board {
    /// Applies an announcement whose unsent parts were read.
    pub(crate) fn apply(&mut self, announcement: Announcement, now: Clock) -> Applied {
        if announcement.epoch != self.epoch || announcement.seq > self.seq + 1 {
            return Applied::Gap;
        }
        if announcement.seq <= self.seq {
            return Applied::Old;
        }
        self.seq = announcement.seq;
        self.count_to(announcement.count, now.seconds);
        self.latest = announcement.latest.or(self.latest.take());
        for device in announcement.removed {
            self.remove(device);
        }
        for device in announcement.devices {
            self.update(device, now);
        }
        self.dirty = true;
        Applied::Yes
    }

    /// Replaces the state by one read from the cache, which is therefore reachable.
    pub(crate) fn replace(&mut self, snapshot: Snapshot, now: Clock) {
        self.dirty = true;
        if snapshot.epoch != self.epoch || snapshot.seq < self.seq {
            // Another epoch, or an older state: all clients must forget the previous one.
            *self = Self {
                epoch: snapshot.epoch,
                version: self.version,
                oldest: self.version + 1,
                ready: self.ready,
                dirty: true,
                ..Self::default()
            };
        }
        self.seq = snapshot.seq;
        self.count_to(snapshot.count, now.seconds);
        self.latest = snapshot.latest;
        let mut gone: Vec<String> = {
            let kept: std::collections::HashSet<&str> = snapshot
                .devices
                .iter()
                .map(|device| device.device.as_str())
                .collect();
            let gone = self
                .devices
                .keys()
                .filter(|name| !kept.contains(name.as_str()));
            gone.cloned().collect()
        };
        for device in gone.drain(..) {
            self.remove(device);
        }
        for device in snapshot.devices {
            self.update(device, now);
        }
        self.loaded = true;
        self.unreachable_since = None;
    }

    /// Marks the cache as unreachable since a time in milliseconds since the Unix epoch.
    pub(crate) fn set_unreachable(&mut self, since: u64) {
        if self.unreachable_since.is_none() {
            self.unreachable_since = Some(since);
            self.dirty = true;
        }
    }

    /// Whether something changed since the last publication.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether the published state is the cache's.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Epoch and number of the state.
    pub(crate) fn position(&self) -> (&str, u64) {
        (&self.epoch, self.seq)
    }

    /// Number of records and of devices.
    pub(crate) fn totals(&self) -> (u64, usize) {
        (self.count, self.devices.len())
    }

    /// Lowers the rates of devices without records; a device whose rate halved counts as changed.
    pub(crate) fn settle(&mut self, now: f64) {
        let rate = self.rate.at(now);
        self.dirty |= rate < self.shown_rate;
        for (name, entry) in &mut self.devices {
            if entry.shown_rate > 0.0 && entry.rate.at(now) <= entry.shown_rate / 2.0 {
                entry.mark(name, self.version, &mut self.changed);
                self.dirty = true;
            }
        }
    }

    /// The newest published version.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Publishes the changes as a new version. Returns its frame and the version that it builds on (`None` for
    /// a full frame), or `None` if nothing changed.
    pub(crate) fn publish(&mut self, clock: Clock) -> Option<(Option<u64>, String)> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        self.ready = self.loaded && self.unreachable_since.is_none();
        let changed = std::mem::take(&mut self.changed);
        for name in &changed {
            if let Some(entry) = self.devices.get_mut(name) {
                entry.shown_rate = entry.rate.at(clock.seconds);
            }
        }
        self.shown_rate = self.rate.at(clock.seconds);
        let seen = self.version;
        self.version += 1;
        if seen < self.oldest {
            return Some((None, self.full(clock.milliseconds)));
        }
        let devices = changed.iter().filter_map(|name| {
            let (name, entry) = self.devices.get_key_value(name)?;
            Some(entry.frame(name))
        });
        let frame = self.frame(devices.collect(), Some(seen), clock.milliseconds);
        Some((Some(seen), frame))
    }

    /// Arrivals of the changed devices' latest messages, in milliseconds since the Unix epoch.
    pub(crate) fn changed_at(&self) -> impl Iterator<Item = u64> {
        let changed = self.changed.iter();
        changed.filter_map(|name| self.devices.get(name).map(|entry| entry.latest.at))
    }

    /// A full frame.
    pub(crate) fn full(&self, now: u64) -> String {
        let devices = self.devices.iter().map(|(name, entry)| entry.frame(name));
        self.frame(devices.collect(), None, now)
    }

    /// The frame with the changes since a version.
    pub(crate) fn since(&self, seen: u64, now: u64) -> String {
        if seen < self.oldest {
            return self.full(now);
        }
        let later = self
            .devices
            .iter()
            .filter(|(_, entry)| entry.version > seen);
        let devices = later.map(|(name, entry)| entry.frame(name)).collect();
        self.frame(devices, Some(seen), now)
    }

    fn frame(&self, devices: Vec<DeviceFrame>, seen: Option<u64>, now: u64) -> String {
        let removed = seen.map_or_else(Vec::new, |seen| {
            let later = self
                .removed
                .iter()
                .rev()
                .take_while(|(version, _)| *version > seen);
            let mut names: Vec<&str> = later
                .map(|(_, name)| name.as_str())
                // Devices that came back are in `devices`.
                .filter(|name| !self.devices.contains_key(*name))
                .collect();
            names.sort_unstable();
            names.dedup();
            names
        });
        let frame = Frame {
            epoch: &self.epoch,
            seq: self.seq,
            count: self.count,
            rate: self.shown_rate,
            latest: self.latest.as_ref(),
            devices,
            removed,
            full: seen.is_none(),
            unreachable_since: self.unreachable_since,
            now,
        };
        serde_json::to_string(&frame).expect("strings, numbers and JSON are JSON")
    }

    fn count_to(&mut self, count: u64, now: f64) {
        // The first count is of the past and not a rate.
        let new = if self.loaded {
            count.saturating_sub(self.count)
        } else {
            0
        };
        self.rate.add(now, new);
        self.count = count;
    }

    fn update(&mut self, device: Device, now: Clock) {
        // Records may be late: the rate is by their arrival at the stream.
        let now = now.of(device.latest.at);
        let Some(entry) = self.devices.get_mut(&device.device) else {
            let mut rate = Rate::default();
            rate.add(now, 0);
            let entry = Entry {
                count: device.count,
                rate,
                shown_rate: 0.0,
                latest: device.latest,
                version: self.version + 1,
            };
            self.changed.push(device.device.clone());
            self.devices.insert(device.device, entry);
            return;
        };
        // A device that was read may be newer than a queued announcement.
        let Some(new) = device.count.checked_sub(entry.count).filter(|new| *new > 0) else {
            return;
        };
        entry.rate.add(now, new);
        entry.count = device.count;
        entry.latest = device.latest;
        entry.mark(&device.device, self.version, &mut self.changed);
    }

    fn remove(&mut self, device: String) {
        // Unknown if it was added and evicted in one batch.
        if self.devices.remove(&device).is_some() {
            self.removed.push_back((self.version + 1, device));
        }
        while self.removed.len() > REMOVALS {
            if let Some((version, _)) = self.removed.pop_front() {
                self.oldest = self.oldest.max(version);
            }
        }
    }
}

/// The current time of both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Seconds of a monotonic clock, for rates.
    pub(crate) seconds: f64,
    /// Milliseconds since the Unix epoch.
    pub(crate) milliseconds: u64,
}

impl Clock {
    /// Converts milliseconds since the Unix epoch to the monotonic clock; a future time becomes now.
    fn of(self, milliseconds: u64) -> f64 {
        self.seconds - self.milliseconds.saturating_sub(milliseconds) as f64 / 1000.0
    }
}

impl Entry {
    /// Marks it as changed since a version.
    fn mark(&mut self, name: &str, version: u64, changed: &mut Vec<String>) {
        if self.version != version + 1 {
            self.version = version + 1;
            changed.push(name.to_owned());
        }
    }

    fn frame<'a>(&'a self, device: &'a str) -> DeviceFrame<'a> {
        DeviceFrame {
            device,
            count: self.count,
            rate: self.shown_rate,
            latest: &self.latest,
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::message::{Encoding, Frame};
    use serde_json::value::to_raw_value;

    use super::*;

    fn message(device: &str, at: u64) -> Message {
        Message {
            device: device.to_owned(),
            payload: to_raw_value(&at).unwrap(),
            encoding: Encoding::Json,
            at,
        }
    }

    fn device(name: &str, count: u64) -> Device {
        Device {
            device: name.to_owned(),
            count,
            latest: message(name, count),
        }
    }

    fn announcement(seq: u64, devices: &[(&str, u64)], removed: &[&str]) -> Announcement {
        Announcement {
            epoch: "e".to_owned(),
            seq,
            count: seq,
            latest: Some(message("x", seq)),
            devices: devices
                .iter()
                .map(|(name, count)| device(name, *count))
                .collect(),
            unsent: Vec::new(),
            removed: removed.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn board(devices: &[(&str, u64)]) -> Board {
        let mut board = Board::default();
        let snapshot = Snapshot {
            epoch: "e".to_owned(),
            seq: 1,
            count: 1,
            devices: devices
                .iter()
                .map(|(name, count)| device(name, *count))
                .collect(),
            ..Snapshot::default()
        };
        board.replace(snapshot, at(0.0));
        board
    }

    /// Messages are in the future, so they count as current.
    fn at(seconds: f64) -> Clock {
        Clock {
            seconds,
            milliseconds: 0,
        }
    }

    fn publish(board: &mut Board) -> Frame {
        let (_, text) = board.publish(Clock::default()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn names(frame: &Frame) -> Vec<&str> {
        frame
            .devices
            .iter()
            .map(|device| device.device.as_str())
            .collect()
    }

    #[test]
    fn the_first_publication_is_full_and_later_ones_have_the_changes() {
        let mut board = board(&[("a", 1), ("b", 1)]);
        let first = publish(&mut board);
        assert!(first.full);
        assert_eq!(names(&first), ["a", "b"]);
        assert_eq!(
            board.apply(announcement(2, &[("b", 2)], &[]), at(1.0)),
            Applied::Yes
        );
        let second = publish(&mut board);
        assert!(!second.full);
        assert_eq!((second.seq, names(&second)), (2, vec!["b"]));
        assert!(board.publish(Clock::default()).is_none());
    }

    #[test]
    fn gaps_and_repetitions_are_distinguished() {
        let mut board = board(&[]);
        assert_eq!(
            board.apply(announcement(3, &[], &[]), at(0.0)),
            Applied::Gap
        );
        assert_eq!(
            board.apply(announcement(1, &[], &[]), at(0.0)),
            Applied::Old
        );
        assert_eq!(
            board.apply(announcement(2, &[], &[]), at(0.0)),
            Applied::Yes
        );
        let other = Announcement {
            epoch: "f".to_owned(),
            ..announcement(3, &[], &[])
        };
        assert_eq!(board.apply(other, at(0.0)), Applied::Gap);
    }

    #[test]
    fn a_lagging_client_gets_one_merged_frame() {
        let mut board = board(&[("a", 1), ("b", 1), ("c", 1)]);
        publish(&mut board);
        let seen = board.version();
        board.apply(announcement(2, &[("a", 2)], &[]), at(0.0));
        publish(&mut board);
        board.apply(announcement(3, &[("b", 2)], &["c"]), at(0.0));
        publish(&mut board);
        let merged: Frame = serde_json::from_str(&board.since(seen, 0)).unwrap();
        assert_eq!(names(&merged), ["a", "b"]);
        assert_eq!(merged.removed, ["c"]);
        assert!(!merged.full);
        let newest: Frame = serde_json::from_str(&board.since(board.version() - 1, 0)).unwrap();
        assert_eq!(names(&newest), ["b"]);
    }

    #[test]
    fn a_new_epoch_is_a_full_frame_for_everybody() {
        let mut board = board(&[("a", 9)]);
        publish(&mut board);
        let seen = board.version();
        let snapshot = Snapshot {
            epoch: "f".to_owned(),
            devices: vec![device("b", 1)],
            ..Snapshot::default()
        };
        board.replace(snapshot, at(0.0));
        let (base, text) = board.publish(Clock::default()).unwrap();
        assert_eq!(base, None);
        let frame: Frame = serde_json::from_str(&text).unwrap();
        assert_eq!(names(&frame), ["b"]);
        let late: Frame = serde_json::from_str(&board.since(seen, 0)).unwrap();
        assert!(late.full);
    }

    #[test]
    fn a_device_never_goes_back() {
        let mut board = board(&[("a", 9)]);
        publish(&mut board);
        board.apply(announcement(2, &[("a", 8)], &[]), at(0.0));
        assert!(names(&publish(&mut board)).is_empty());
    }

    #[test]
    fn a_fallen_rate_is_published_without_a_message() {
        let mut board = board(&[("a", 1)]);
        for second in 2..20 {
            board.apply(
                announcement(second, &[("a", second)], &[]),
                at(second as f64),
            );
            board.publish(at(second as f64));
        }
        board.settle(19.5);
        assert!(board.publish(Clock::default()).is_none());
        board.settle(80.0);
        let (_, text) = board.publish(at(80.0)).unwrap();
        let frame: Frame = serde_json::from_str(&text).unwrap();
        assert_eq!((frame.rate, frame.devices[0].rate), (0.0, 0.0));
    }

    #[test]
    fn late_records_do_not_count_to_the_current_rate() {
        // They arrived one, two and three milliseconds after 1970, an hour ago.
        let hour = Clock {
            seconds: 10.0,
            milliseconds: 3_600_000,
        };
        let mut board = Board::default();
        let snapshot = Snapshot {
            epoch: "e".to_owned(),
            seq: 1,
            devices: vec![device("a", 1)],
            ..Snapshot::default()
        };
        board.replace(snapshot, hour);
        board.apply(announcement(2, &[("a", 2)], &[]), hour);
        board.apply(announcement(3, &[("a", 3)], &[]), hour);
        let (_, text) = board.publish(hour).unwrap();
        let frame: Frame = serde_json::from_str(&text).unwrap();
        assert_eq!((frame.devices[0].count, frame.devices[0].rate), (3, 0.0));
    }
}
