//! Evaluations a second on one thread: `cargo bench -p iot-sql`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use iot_sql::{Context, Message, Outcome, Rule, SqlVersion};

struct Fixed;

impl Context for Fixed {
    fn random(&self) -> f64 {
        0.5
    }

    fn new_uuid(&self) -> String {
        "123e4567-e89b-42d3-a456-426614174000".into()
    }

    fn account_id(&self) -> &str {
        "123456789012"
    }
}

const PAYLOAD: &[u8] = br#"{"device":"sensor-17","temperature":21.47,"humidity":48.2,"battery":3.71,"status":"OK","position":{"lat":47.61,"lon":-122.33},"readings":[20.9,21.1,21.3,21.47]}"#;

const STATEMENTS: &[(&str, &str)] = &[
    ("SELECT *", "SELECT * FROM 'topic/sensors/+'"),
    (
        "five functions",
        "SELECT upper(device) AS device, round(temperature) AS t, topic(3) AS level, timestamp() AS at, \
         substring(status, 0, 1) AS s FROM 'topic/sensors/+'",
    ),
    (
        "WHERE that fails",
        "SELECT * FROM 'topic/sensors/+' WHERE temperature > 50",
    ),
];

fn main() {
    /// How long each statement is measured.
    const SPAN: Duration = Duration::from_secs(2);
    /// Evaluations between two looks at the clock.
    const BATCH: u32 = 1_000;
    let message = Message {
        topic: "topic/sensors/17",
        payload: PAYLOAD,
        timestamp_ms: 1,
        ..Message::default()
    };
    let mut out = String::new();
    for (name, sql) in STATEMENTS {
        let rule = Rule::compile(sql, SqlVersion::V20160323).expect("the statement is valid");
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < SPAN {
            for _ in 0..BATCH {
                let outcome = rule.evaluate(black_box(&message), &Fixed);
                assert!(!matches!(black_box(outcome), Outcome::Failed(_)));
            }
            count += BATCH;
        }
        let rate = f64::from(count) / start.elapsed().as_secs_f64();
        out += &format!(
            "{name:<18} {rate:>12.0} evaluations/s, {:>8.0} ns each\n",
            1e9 / rate
        );
    }
    print!("{out}");
}
