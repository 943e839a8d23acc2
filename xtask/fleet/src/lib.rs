//! A fleet of simulated sensors, without a client: it says what is published next, and somebody else
//! publishes it.
//!
//! The same settings give the same publications on every machine, so that a run can be repeated.
//! What it deliberately is not: a clock. The caller decides when each publication is sent.
//!
//! Layout: [`Fleet`] here, one device in `sensor`, what can go wrong in [`fault`], chance in `random`.

pub mod fault;
mod random;
mod sensor;

use contract::topic;

pub use fault::{Fault, Faults};
use random::Random;
use sensor::Sensor;

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of devices, at least 1.
    pub devices: usize,
    /// What goes wrong now and then.
    pub faults: Faults,
    /// Decides every value; the same seed gives the same publications.
    pub seed: u64,
}

/// One message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The device's name.
    pub device: String,
    /// The device's topic.
    pub topic: String,
    /// What the device says: JSON, except for garbage.
    pub payload: Vec<u8>,
    /// What is wrong with it, if anything.
    pub fault: Option<Fault>,
}

/// The sensors, taking turns.
#[derive(Clone, Debug)]
pub struct Fleet {
    sensors: Vec<Sensor>,
    faults: Faults,
    random: Random,
    turn: usize,
    /// Sent once more by the next call, after [`Fault::Duplicates`] struck.
    again: Option<Publication>,
}

impl Fleet {
    /// A fleet at its start. No device is taken for one.
    pub fn new(settings: Settings) -> Fleet {
        let mut random = Random::new(settings.seed);
        let devices = settings.devices.max(1);
        let width = (devices - 1).max(1).ilog10() as usize + 1;
        let sensors = (0..devices)
            .map(|number| Sensor::new(format!("sensor-{number:0width$}"), &mut random))
            .collect();
        Fleet {
            sensors,
            faults: settings.faults,
            random,
            turn: 0,
            again: None,
        }
    }

    /// The next publication, sent at `at` milliseconds since the Unix epoch.
    ///
    /// Devices take turns. A silent one leaves its turn to the next, so the fleet as a whole keeps
    /// its rate; when all are silent at once, the one whose turn it is speaks after all.
    pub fn publish(&mut self, at: u64) -> Publication {
        if let Some(publication) = self.again.take() {
            return publication;
        }
        let sensor = self.next_sensor();
        let fault = self.faults.strike(&mut self.random);
        let sensor = &mut self.sensors[sensor];
        if fault == Some(Fault::Silence) {
            sensor.silent_for = 20 + self.random.below(80);
        }
        let reading = sensor.read(at, &mut self.random);
        let payload = match fault {
            Some(Fault::Spikes) => fault::spike(reading, &mut self.random)
                .to_string()
                .into_bytes(),
            Some(Fault::Garbage) => fault::garbage(&reading.to_string(), &mut self.random),
            Some(Fault::Silence | Fault::Duplicates) | None => reading.to_string().into_bytes(),
        };
        let publication = Publication {
            device: sensor.name.clone(),
            topic: topic::of_device(&sensor.name),
            payload,
            fault: fault.filter(|fault| *fault != Fault::Silence),
        };
        if fault == Some(Fault::Duplicates) {
            self.again = Some(publication.clone());
        }
        publication
    }

    fn next_sensor(&mut self) -> usize {
        let first = self.turn;
        for _ in 0..self.sensors.len() {
            let turn = self.turn;
            self.turn = (turn + 1) % self.sensors.len();
            match self.sensors[turn].silent_for {
                0 => return turn,
                _ => self.sensors[turn].silent_for -= 1,
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value as Json;

    use super::*;

    fn fleet(devices: usize, faults: &[Fault]) -> Fleet {
        let faults = faults.iter().copied().collect();
        Fleet::new(Settings {
            devices,
            faults,
            seed: 7,
        })
    }

    fn take(fleet: &mut Fleet, count: u64) -> Vec<Publication> {
        (0..count).map(|n| fleet.publish(1_000 * n)).collect()
    }

    #[test]
    fn devices_take_turns_on_their_own_topics() {
        let topics: Vec<_> = take(&mut fleet(3, &[]), 4)
            .into_iter()
            .map(|publication| publication.topic)
            .collect();
        assert_eq!(
            topics,
            [
                "topic/sensors/sensor-0",
                "topic/sensors/sensor-1",
                "topic/sensors/sensor-2",
                "topic/sensors/sensor-0"
            ]
        );
    }

    #[test]
    fn names_have_the_same_length_so_that_they_sort() {
        let names: BTreeSet<_> = take(&mut fleet(12, &[]), 12)
            .into_iter()
            .map(|publication| publication.device)
            .collect();
        assert_eq!(names.first().map(String::as_str), Some("sensor-00"));
        assert_eq!(names.last().map(String::as_str), Some("sensor-11"));
    }

    #[test]
    fn readings_stay_plausible_and_near_the_previous_one() {
        let publications = take(&mut fleet(1, &[]), 5_000);
        let mut previous: Option<f64> = None;
        for publication in publications {
            let reading: Json = serde_json::from_slice(&publication.payload).expect("JSON");
            let number = |name: &str| reading[name].as_f64().expect(name);
            assert!((-20.0..=50.0).contains(&number("temperature")), "{reading}");
            assert!((0.0..=100.0).contains(&number("humidity")), "{reading}");
            assert!((0.0..=100.0).contains(&number("battery")), "{reading}");
            let temperature = number("temperature");
            if let Some(previous) = previous {
                assert!((temperature - previous).abs() < 1.0, "{reading}");
            }
            previous = Some(temperature);
        }
    }

    #[test]
    fn same_seed_gives_the_same_publications() {
        let all = Fault::ALL;
        assert_eq!(
            take(&mut fleet(5, &all), 500),
            take(&mut fleet(5, &all), 500)
        );
    }

    #[test]
    fn every_fault_that_was_asked_for_strikes_and_no_other() {
        for fault in [Fault::Spikes, Fault::Garbage, Fault::Duplicates] {
            let struck: BTreeSet<_> = take(&mut fleet(5, &[fault]), 1_000)
                .into_iter()
                .filter_map(|publication| publication.fault)
                .collect();
            assert_eq!(struck, BTreeSet::from([fault]));
        }
    }

    #[test]
    fn garbage_is_not_json_and_everything_else_is() {
        for publication in take(&mut fleet(5, &Fault::ALL), 2_000) {
            let is_json = serde_json::from_slice::<Json>(&publication.payload).is_ok();
            assert_eq!(is_json, publication.fault != Some(Fault::Garbage));
        }
    }

    #[test]
    fn duplicate_follows_its_original_byte_for_byte() {
        let publications = take(&mut fleet(2, &[Fault::Duplicates]), 1_000);
        let mut duplicates = publications
            .iter()
            .enumerate()
            .filter(|(_, publication)| publication.fault == Some(Fault::Duplicates));
        while let Some((first, original)) = duplicates.next() {
            let Some((second, copy)) = duplicates.next() else {
                break;
            };
            assert_eq!((first + 1, original), (second, copy));
        }
    }

    #[test]
    fn silent_device_misses_turns_and_comes_back() {
        let devices: Vec<_> = take(&mut fleet(2, &[Fault::Silence]), 5_000)
            .into_iter()
            .map(|publication| publication.device)
            .collect();
        let longest = |name: &str| {
            devices
                .split(|device| device == name)
                .map(<[String]>::len)
                .max()
        };
        assert!(longest("sensor-0") >= Some(20), "{:?}", longest("sensor-0"));
        assert!(longest("sensor-0") < Some(500));
        assert!(longest("sensor-1") >= Some(20));
    }

    #[test]
    fn fleet_of_one_speaks_even_when_silent() {
        assert_eq!(take(&mut fleet(1, &[Fault::Silence]), 500).len(), 500);
    }
}
