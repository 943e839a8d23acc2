//! An estimate for people, and for machines.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use crate::{Estimate, Line, Quota};

/// What marks a figure with a price that is an estimate.
const ABOUT: &str = "≈";

impl Estimate {
    /// Whether any price is an estimate.
    pub fn is_estimate(&self) -> bool {
        self.lines.iter().any(|line| line.is_estimate)
    }

    /// The sums as one line, such as for a plan.
    pub fn summary(&self) -> String {
        format!(
            "USD {} a month without messages, {} for a million messages",
            money(self.fixed(), self.is_estimate()),
            money(self.per_million(), self.is_estimate()),
        )
    }

    /// A table, the sums, the first quota, and what is not counted.
    pub fn text(&self, title: &str) -> String {
        let mut rows = vec![[
            "resource".to_owned(),
            "what".to_owned(),
            "USD a month".to_owned(),
            "USD a million messages".to_owned(),
        ]];
        let (costing, others): (Vec<&Line>, Vec<&Line>) = self
            .lines
            .iter()
            .partition(|line| line.fixed != 0.0 || line.per_million != 0.0);
        for line in costing {
            let name = match &line.logical_id {
                Some(id) => format!("{id} ({})", line.r#type),
                None => line.r#type.clone(),
            };
            let shown = |usd: f64| match usd {
                0.0 => String::new(),
                usd => money(usd, line.is_estimate),
            };
            rows.push([
                name,
                line.what.clone(),
                shown(line.fixed),
                shown(line.per_million),
            ]);
        }
        rows.push([
            "sum".to_owned(),
            String::new(),
            money(self.fixed(), self.is_estimate()),
            money(self.per_million(), self.is_estimate()),
        ]);
        // Writing to a string cannot fail.
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{title} in {}, prices of {}, without tax and free tier\n",
            self.region, self.collected
        );
        text += &table(&rows);
        let others: Vec<&str> = others
            .iter()
            .filter_map(|line| line.logical_id.as_deref())
            .collect();
        if !others.is_empty() {
            let _ = writeln!(text, "\nNothing at this load: {}", others.join(", "));
        }
        let load = self.load;
        let _ = writeln!(
            text,
            "\n{} devices, each a message of {} bytes every {} s: {:.1} million messages a month, USD {} a month",
            load.devices,
            load.bytes,
            load.every,
            load.messages_per_month() / 1e6,
            money(self.monthly(), self.is_estimate()),
        );
        if let Some(first) = self.quotas.first() {
            let _ = writeln!(
                text,
                "First limit: {}",
                first.in_words(load.devices, load.every)
            );
        }
        for quota in self
            .quotas
            .iter()
            .skip(1)
            .take_while(|quota| quota.share() >= 0.5)
        {
            let _ = writeln!(text, "Then: {}", quota.in_words(load.devices, load.every));
        }
        for unpriced in &self.unpriced {
            let _ = writeln!(
                text,
                "Not priced: {} ({}): the price list lacks {}",
                unpriced.logical_id, unpriced.r#type, unpriced.missing
            );
        }
        let _ = writeln!(
            text,
            "Not counted: data out to browsers, between zones and through NAT gateways. Assumed: xtask/cost/src/assumed.rs"
        );
        if self.is_estimate() {
            let _ = writeln!(
                text,
                "{ABOUT} is an estimate: a price in it is unverified; xtask/cost/prices.json has the source of each. Check AWS's pages before relying on it."
            );
        }
        text
    }

    /// Everything, the free types included, as JSON.
    pub fn json(&self) -> Json {
        let lines: Vec<Json> = self
            .lines
            .iter()
            .map(|line| {
                json!({
                    "logicalId": line.logical_id, "type": line.r#type, "what": line.what,
                    "fixed": line.fixed, "perMillion": line.per_million,
                    "isEstimate": line.is_estimate,
                })
            })
            .collect();
        let free: Vec<Json> = self
            .free
            .iter()
            .map(|free| json!({ "type": free.r#type, "count": free.count, "reason": free.reason }))
            .collect();
        let unpriced: Vec<Json> = self
            .unpriced
            .iter()
            .map(|it| json!({ "logicalId": it.logical_id, "type": it.r#type, "missing": it.missing }))
            .collect();
        let quotas: Vec<Json> = self
            .quotas
            .iter()
            .map(|it| {
                json!({
                    "what": it.what, "limit": it.limit, "load": it.load, "unit": it.unit,
                    "share": it.share(), "change": it.change,
                })
            })
            .collect();
        json!({
            "region": self.region, "pricesOf": self.collected, "currency": "USD",
            "devices": self.load.devices, "everySeconds": self.load.every, "bytes": self.load.bytes,
            "messagesPerMonth": self.load.messages_per_month(),
            "fixed": self.fixed(), "perMillion": self.per_million(), "monthly": self.monthly(),
            "isEstimate": self.is_estimate(),
            "lines": lines, "free": free, "notPriced": unpriced, "quotas": quotas,
        })
    }
}

impl Quota {
    /// The limit, how near it is, where it is reached, and what to change.
    fn in_words(&self, devices: u64, every: f64) -> String {
        let share = self.share();
        let reached = match (share >= 1.0, self.by_devices) {
            (true, _) => "exceeded".to_owned(),
            (false, true) => format!("reached with {:.0} such devices", devices as f64 / share),
            (false, false) if self.unit == "messages/s" => {
                format!("reached with a message every {:.2} s", every * share)
            }
            (false, false) => "not by messages".to_owned(),
        };
        format!(
            "{}, {:.0} {}: {:.1} % used, {reached}; {}",
            self.what,
            self.limit,
            self.unit,
            share * 100.0,
            self.change
        )
    }
}

fn money(usd: f64, is_estimate: bool) -> String {
    let about = if is_estimate { ABOUT } else { "" };
    format!("{about}{usd:.2}")
}

/// Columns; the last two are figures, to the right.
fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths = [0, 1, 2, 3].map(width);
    let mut text = String::new();
    for [name, what, fixed, usage] in rows {
        let line = format!(
            "{name:a$}  {what:b$}  {fixed:>c$}  {usage:>d$}",
            a = widths[0],
            b = widths[1],
            c = widths[2],
            d = widths[3]
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}
