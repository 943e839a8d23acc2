//! Every record is counted once and nothing goes backwards, however Lambda delivers.
//!
//! A model of the event source mapping distributes a shard's records over lanes by key (parallelization
//! factor). A lane delivers batches in order; a delivery may fail before or after the function ran, be
//! split in two, be retried from the lowest failure, or be repeated late. The function, its script and the
//! server are real.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use functions::handler::Function;
use functions::sequence;
use proptest::collection::vec;
use proptest::prelude::*;
use redis::aio::MultiplexedConnection;

use crate::events::{Record, STREAM, invoke, record};
use crate::server::{Listener, Server, State};

/// Deliveries of a batch with rejected records before it goes to the failure bucket.
const ATTEMPTS: u32 = 3;

/// Outcome of a delivery.
#[derive(Clone, Copy, Debug)]
enum Disposition {
    /// Lambda gets the response.
    Answered,
    /// The function counts, then Lambda sees an error and sends the batch again.
    AnswerLost,
    /// The same, and the batch is split in two.
    AnswerLostAndBisected,
    /// The same, and another poller takes over, whose batches have other limits.
    AnswerLostAndMerged,
    /// The function does not run, and Lambda sends the batch again.
    NeverStarted,
    /// Lambda gets the response, and a copy of the batch is delivered later.
    CopyUnderWay,
}

fn disposition() -> impl Strategy<Value = Disposition> {
    prop_oneof![
        4 => Just(Disposition::Answered),
        1 => Just(Disposition::AnswerLost),
        1 => Just(Disposition::AnswerLostAndBisected),
        1 => Just(Disposition::AnswerLostAndMerged),
        1 => Just(Disposition::NeverStarted),
        1 => Just(Disposition::CopyUnderWay),
    ]
}

/// A random record.
#[derive(Clone, Debug)]
struct Draw {
    key: usize,
    good: bool,
    /// Difference from the previous sequence number.
    step: u64,
    /// Milliseconds by which its arrival is out of order.
    jitter: u64,
}

fn draw() -> impl Strategy<Value = Draw> {
    let step = prop_oneof![3 => 1..4_u64, 1 => 1..100_000_u64];
    (0..6_usize, prop::bool::weighted(0.9), step, 0..4_u64).prop_map(|(key, good, step, jitter)| {
        Draw {
            key,
            good,
            step,
            jitter,
        }
    })
}

/// A random run.
#[derive(Clone, Debug)]
struct Plan {
    records: Vec<Draw>,
    /// Common prefix of all sequence numbers, too long for a machine integer.
    prefix: String,
    /// Index of the first record after the shards are split.
    split: usize,
    lanes: usize,
    /// Next lane, size of its batch, and outcome.
    turns: Vec<(usize, usize, Disposition)>,
    /// Turn after which a copy arrives.
    delays: Vec<usize>,
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        vec(draw(), 1..40),
        prop_oneof![Just(String::new()), Just("4959".repeat(13))],
        0..40_usize,
        1..4_usize,
        vec((0..16_usize, 1..9_usize, disposition()), 1..40),
        vec(0..30_usize, 1..10),
    )
        .prop_map(|(records, prefix, split, lanes, turns, delays)| Plan {
            records,
            prefix,
            split,
            lanes,
            turns,
            delays,
        })
}

/// Includes two keys of one device, and one of another stream.
fn keyed(key: usize) -> (&'static str, Record) {
    let (device, stream, partition_key) = match key {
        0 => ("a", STREAM.to_owned(), "topic/sensors/a".to_owned()),
        1 => ("a", STREAM.to_owned(), "a".to_owned()),
        2 => ("b", STREAM.to_owned(), "topic/sensors/b".to_owned()),
        3 => ("b", format!("{STREAM}-2"), "topic/sensors/b".to_owned()),
        4 => ("c", STREAM.to_owned(), "topic/sensors/c".to_owned()),
        _ => (
            "topic/sensors",
            STREAM.to_owned(),
            "topic/sensors".to_owned(),
        ),
    };
    (
        device,
        Record {
            stream,
            key: partition_key,
            ..record(device, 0, 0, "")
        },
    )
}

/// Arrival and sequence number of a record, which are its payload.
type Stamp = (u64, String);

fn stamp(message: &contract::message::Message) -> Stamp {
    let payload: (u64, String) = serde_json::from_str(message.payload.get()).unwrap();
    assert_eq!(message.at, payload.0);
    payload
}

fn not_before(new: &Stamp, old: &Stamp) -> bool {
    new.0
        .cmp(&old.0)
        .then_with(|| sequence::compare(&new.1, &old.1))
        .is_ge()
}

/// Records of a lane in order, in the pieces that splitting made.
#[derive(Debug, Default)]
struct Lane {
    pieces: VecDeque<Vec<Record>>,
    /// Deliveries of the current piece that the function processed.
    worked: u32,
}

struct World {
    function: Function,
    other: Function,
    reader: MultiplexedConnection,
    seen: BTreeMap<String, Stamp>,
    count: u64,
    seq: u64,
}

impl World {
    /// Invokes one of two functions and checks that nothing went backwards.
    async fn invoke(&mut self, records: &[Record], copy: bool) -> Vec<String> {
        let function = if copy { &self.other } else { &self.function };
        let failures = invoke(function, records).await;
        let state = State::read(&mut self.reader).await;
        assert!(
            state.count >= self.count && state.seq >= self.seq,
            "{state:?}"
        );
        assert_eq!(
            state.seq > self.seq,
            state.count > self.count,
            "a new state has a new number"
        );
        (self.count, self.seq) = (state.count, state.seq);
        let latest = state
            .latest
            .iter()
            .map(|latest| (String::new(), stamp(latest)));
        let devices = state
            .devices
            .iter()
            .map(|device| (device.device.clone(), stamp(&device.latest)));
        for (name, new) in latest.chain(devices) {
            if let Some(old) = self.seen.insert(name.clone(), new.clone()) {
                assert!(
                    not_before(&new, &old),
                    "{name:?} went back from {old:?} to {new:?}"
                );
            }
        }
        failures
    }
}

async fn play(plan: Plan, server: &Server) {
    let mut admin = server.connection().await;
    let _: () = redis::cmd("FLUSHALL")
        .query_async(&mut admin)
        .await
        .unwrap();
    let mut listener = server.listen().await;

    // Sequence numbers grow over both generations of shards.
    let mut number = 7_u64;
    let mut good: BTreeMap<&str, Vec<Stamp>> = BTreeMap::new();
    let mut generations: [Vec<Lane>; 2] = Default::default();
    for lanes in &mut generations {
        lanes.resize_with(plan.lanes, Lane::default);
    }
    for (n, draw) in plan.records.iter().enumerate() {
        number += draw.step;
        let (device, mut record) = keyed(draw.key);
        record.sequence = format!("{}{number}", plan.prefix);
        record.at = 1_000_000 + 2 * n as u64 + draw.jitter;
        if draw.good {
            let stamp = (record.at, record.sequence.clone());
            record.data = encoded(&stamp);
            good.entry(device).or_default().push(stamp);
        } else {
            record.data = "no base64".to_owned();
        }
        // Parents and children distribute keys differently; a key has one lane.
        let generation = usize::from(n >= plan.split);
        let lane = (draw.key * (generation + 2) + generation) % plan.lanes;
        let pieces = &mut generations[generation][lane].pieces;
        match pieces.back_mut() {
            Some(piece) => piece.push(record),
            None => pieces.push_back(vec![record]),
        }
    }

    let mut world = World {
        function: server.function(),
        other: server.function(),
        reader: admin,
        seen: BTreeMap::new(),
        count: 0,
        seq: 0,
    };
    let mut under_way: Vec<(usize, Vec<Record>)> = Vec::new();
    let mut delays = plan.delays.iter().cycle();
    let mut turn = 0;
    // Children are read when their parents are complete.
    for mut lanes in generations {
        while lanes.iter().any(|lane| !lane.pieces.is_empty()) {
            let (choice, size, mut fate) = plan.turns[turn % plan.turns.len()];
            if turn > 10 * plan.turns.len() {
                fate = Disposition::Answered;
            }
            turn += 1;
            while let Some(due) = under_way.iter().position(|(due, _)| *due <= turn) {
                let (_, copy) = under_way.swap_remove(due);
                world.invoke(&copy, true).await;
            }
            let waiting: Vec<usize> = (0..lanes.len())
                .filter(|lane| !lanes[*lane].pieces.is_empty())
                .collect();
            let lane = &mut lanes[waiting[choice % waiting.len()]];
            deliver(&mut world, lane, size, fate, |copy| {
                under_way.push((turn + delays.next().unwrap(), copy));
            })
            .await;
        }
    }
    for (_, copy) in under_way {
        world.invoke(&copy, true).await;
    }

    check(&server.state().await, &good);
    follow(&mut listener, server, &world).await;
}

async fn deliver(
    world: &mut World,
    lane: &mut Lane,
    size: usize,
    fate: Disposition,
    copy: impl FnOnce(Vec<Record>),
) {
    let mut piece = lane.pieces.pop_front().unwrap();
    if lane.worked == 0 && piece.len() > size {
        let rest = piece.split_off(size);
        lane.pieces.push_front(rest);
    }
    if matches!(fate, Disposition::NeverStarted) {
        lane.pieces.push_front(piece);
        return;
    }
    let failures = world.invoke(&piece, false).await;
    lane.worked += 1;
    match fate {
        Disposition::AnswerLost => lane.pieces.push_front(piece),
        Disposition::AnswerLostAndBisected => {
            let rest = piece.split_off(piece.len() / 2);
            lane.pieces.push_front(rest);
            if !piece.is_empty() {
                lane.pieces.push_front(piece);
            }
            lane.worked = 0;
        }
        Disposition::AnswerLostAndMerged => {
            piece.extend(lane.pieces.pop_front().unwrap_or_default());
            lane.pieces.push_front(piece);
            lane.worked = 0;
        }
        Disposition::Answered | Disposition::CopyUnderWay | Disposition::NeverStarted => {
            if matches!(fate, Disposition::CopyUnderWay) {
                copy(piece.clone());
            }
            let lowest = piece
                .iter()
                .position(|record| failures.contains(&record.sequence));
            match lowest {
                // From the lowest failure on.
                Some(lowest) if lane.worked < ATTEMPTS => {
                    lane.pieces.push_front(piece.split_off(lowest));
                }
                // Complete, or sent to the failure bucket.
                _ => lane.worked = 0,
            }
        }
    }
}

fn encoded(stamp: &Stamp) -> String {
    record("", 0, 0, serde_json::to_string(stamp).unwrap()).data
}

fn check(state: &State, good: &BTreeMap<&str, Vec<Stamp>>) {
    assert_eq!(
        state.count,
        good.values().map(|stamps| stamps.len() as u64).sum::<u64>()
    );
    assert_eq!(state.devices.len(), good.len());
    let newest = |stamps: &mut dyn Iterator<Item = &Stamp>| {
        stamps
            .reduce(|a, b| if not_before(b, a) { b } else { a })
            .cloned()
    };
    for device in &state.devices {
        let stamps = &good[device.device.as_str()];
        assert_eq!(device.count, stamps.len() as u64, "{}", device.device);
        assert_eq!(
            Some(stamp(&device.latest)),
            newest(&mut stamps.iter()),
            "{}",
            device.device
        );
    }
    assert_eq!(
        state.latest.as_ref().map(stamp),
        newest(&mut good.values().flatten())
    );
}

/// A subscriber ends with the same state.
async fn follow(listener: &mut Listener, server: &Server, world: &World) {
    let announcements = listener.announcements(server).await;
    let mut devices = BTreeMap::new();
    for (announcement, seq) in announcements.iter().zip(1..) {
        assert_eq!(announcement.seq, seq);
        assert_eq!(announcement.epoch, announcements[0].epoch);
        for device in &announcement.devices {
            devices.insert(&device.device, (device.count, stamp(&device.latest)));
        }
    }
    assert_eq!(announcements.len() as u64, world.seq);
    let state = server.state().await;
    let stored: BTreeMap<_, _> = state
        .devices
        .iter()
        .map(|d| (&d.device, (d.count, stamp(&d.latest))))
        .collect();
    assert_eq!(devices, stored);
    let last = announcements.last();
    assert_eq!(last.map_or(0, |last| last.count), state.count);
    assert_eq!(
        last.and_then(|last| last.latest.as_ref()).map(stamp),
        state.latest.as_ref().map(stamp)
    );
}

#[test]
fn every_record_is_counted_once_however_it_is_delivered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = Server::start();
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() },
        |(plan in plan())| {
            runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(60), play(plan, &server)).await.unwrap();
            });
        }
    );
}
