//! What goes wrong with real sensors.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::{Value as Json, json};

use crate::random::Random;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A device says nothing for a while.
    Silence,
    /// A value far away from what is plausible.
    Spikes,
    /// Bytes that are no JSON: cut off, text, binary, nothing.
    Garbage,
    /// The same message twice.
    Duplicates,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] = [
        Fault::Silence,
        Fault::Spikes,
        Fault::Garbage,
        Fault::Duplicates,
    ];

    fn name(self) -> &'static str {
        match self {
            Fault::Silence => "silence",
            Fault::Spikes => "spikes",
            Fault::Garbage => "garbage",
            Fault::Duplicates => "duplicates",
        }
    }

    /// Publications until it strikes, on average.
    fn every(self) -> u64 {
        match self {
            Fault::Silence => 200,
            Fault::Spikes | Fault::Garbage | Fault::Duplicates => 40,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        Fault::ALL
            .into_iter()
            .find(|fault| fault.name() == text)
            .ok_or_else(|| {
                let names = Fault::ALL.map(Fault::name).join(", ");
                format!("got `{text}`, expected one of {names}")
            })
    }
}

/// The kinds of trouble that a fleet has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeSet<Fault>);

impl FromIterator<Fault> for Faults {
    fn from_iter<T: IntoIterator<Item = Fault>>(faults: T) -> Faults {
        Faults(faults.into_iter().collect())
    }
}

impl Faults {
    /// The fault that strikes now, if any.
    pub(crate) fn strike(&self, random: &mut Random) -> Option<Fault> {
        self.0
            .iter()
            .copied()
            .find(|fault| random.below(fault.every()) == 0)
    }
}

/// A reading with one value far off.
pub(crate) fn spike(mut reading: Json, random: &mut Random) -> Json {
    let (name, value) = match random.below(3) {
        0 => ("temperature", json!(327.67)),
        1 => ("temperature", json!(-127.0)),
        _ => ("humidity", json!(655.35)),
    };
    reading[name] = value;
    reading
}

/// Bytes that are no JSON.
pub(crate) fn garbage(reading: &str, random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => reading.as_bytes()[..reading.len() / 2].to_vec(),
        1 => b"ERR sensor bus timeout".to_vec(),
        2 => {
            let mut bytes = vec![0xff];
            bytes.extend((0..31).map(|_| random.below(256) as u8));
            bytes
        }
        _ => Vec::new(),
    }
}
