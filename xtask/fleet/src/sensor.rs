//! One device.

use serde_json::{Value as Json, json};

use crate::random::Random;

/// A sensor for room climate on a battery. Its values wander; each starts somewhere of its own.
#[derive(Clone, Debug)]
pub(crate) struct Sensor {
    pub(crate) name: String,
    /// Turns left until it speaks again.
    pub(crate) silent_for: u64,
    /// °C
    temperature: Walk,
    /// Percent
    humidity: Walk,
    /// Percent, only ever falling until it is changed.
    battery: f64,
    readings: u64,
}

impl Sensor {
    pub(crate) fn new(name: String, random: &mut Random) -> Sensor {
        Sensor {
            name,
            silent_for: 0,
            temperature: Walk::new(random.between(5.0, 35.0), 0.15),
            humidity: Walk::new(random.between(25.0, 75.0), 0.4),
            battery: random.between(40.0, 100.0),
            readings: 0,
        }
    }

    pub(crate) fn read(&mut self, at: u64, random: &mut Random) -> Json {
        self.readings += 1;
        self.battery -= random.between(0.0, 0.004);
        if self.battery < 1.0 {
            self.battery = 100.0;
        }
        json!({
            "temperature": rounded(self.temperature.step(random), 2),
            "humidity": rounded(self.humidity.step(random), 1),
            "battery": rounded(self.battery, 1),
            "reading": self.readings,
            "at": at,
        })
    }
}

/// A random walk that is drawn back to where it came from, so that it never runs away.
#[derive(Clone, Debug)]
struct Walk {
    home: f64,
    value: f64,
    step: f64,
}

impl Walk {
    fn new(home: f64, step: f64) -> Walk {
        Walk {
            home,
            value: home,
            step,
        }
    }

    fn step(&mut self, random: &mut Random) -> f64 {
        self.value += random.between(-self.step, self.step) + (self.home - self.value) * 0.01;
        self.value
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
