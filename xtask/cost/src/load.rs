//! The devices, and how much they publish.

/// Hours of a month, as AWS's own calculator counts them.
pub const HOURS_PER_MONTH: f64 = 730.0;

/// Devices that each publish messages of one size at one interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Number of devices, at least 1.
    pub devices: u64,
    /// Seconds between two messages of one device, above 0.
    pub every: f64,
    /// Bytes of a payload, 1 to 131,072.
    pub bytes: u64,
}

impl Default for Load {
    /// 100 devices that send 300 bytes every 10 seconds.
    fn default() -> Load {
        Load {
            devices: 100,
            every: 10.0,
            bytes: 300,
        }
    }
}

impl Load {
    /// Bytes of a payload at most: AWS IoT Core quotas, "Maximum publish payload".
    pub const MAX_BYTES: u64 = 128 * 1024;

    /// Messages a second of all devices.
    pub fn messages_per_second(&self) -> f64 {
        self.devices as f64 / self.every
    }

    /// Messages a month of all devices.
    pub fn messages_per_month(&self) -> f64 {
        self.messages_per_second() * HOURS_PER_MONTH * 3_600.0
    }

    /// What costs so many USD a month at this load, for a million messages.
    pub(crate) fn per_million(&self, usd_per_month: f64) -> f64 {
        usd_per_month / (self.messages_per_month() / 1e6)
    }

    /// What is wrong with it, as a message that names the flag.
    pub fn problem(&self) -> Option<String> {
        if self.devices == 0 {
            Some("invalid --devices 0: expected at least 1".to_owned())
        } else if !(self.every.is_finite() && self.every > 0.0) {
            Some(format!(
                "invalid --every {}: expected seconds above 0",
                self.every
            ))
        } else if !(1..=Load::MAX_BYTES).contains(&self.bytes) {
            Some(format!(
                "invalid --bytes {}: expected 1 to {}",
                self.bytes,
                Load::MAX_BYTES
            ))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_counts_messages_of_a_month() {
        let load = Load::default();
        assert!((load.messages_per_second() - 10.0).abs() < 1e-9);
        assert!((load.messages_per_month() - 26_280_000.0).abs() < 1e-3);
    }

    #[test]
    fn impossible_loads_name_their_flag() {
        for (load, flag) in [
            (
                Load {
                    devices: 0,
                    ..Load::default()
                },
                "--devices",
            ),
            (
                Load {
                    every: 0.0,
                    ..Load::default()
                },
                "--every",
            ),
            (
                Load {
                    every: f64::NAN,
                    ..Load::default()
                },
                "--every",
            ),
            (
                Load {
                    bytes: 0,
                    ..Load::default()
                },
                "--bytes",
            ),
            (
                Load {
                    bytes: 131_073,
                    ..Load::default()
                },
                "--bytes",
            ),
        ] {
            let problem = load.problem().unwrap_or_default();
            assert!(problem.contains(flag), "{load:?}: {problem}");
        }
        assert_eq!(Load::default().problem(), None);
    }
}
