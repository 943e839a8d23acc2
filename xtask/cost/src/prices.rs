//! The committed price list.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::Error;

static COMMITTED: LazyLock<PriceList> = LazyLock::new(|| {
    // The file is part of the program, and a test reads it.
    serde_json::from_str(include_str!("../prices.json")).expect("prices.json is readable")
});

/// Prices of some regions at one date.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceList {
    /// Date on which they were collected, such as `2026-11-28`.
    pub collected: String,
    /// Always `USD`.
    pub currency: String,
    /// Prices by name, such as `kinesis-shard-hour` or `instance t4g.micro`.
    pub prices: BTreeMap<String, Item>,
}

/// One price in each region.
#[derive(Clone, Debug, Deserialize)]
pub struct Item {
    /// What the price is for, such as "hour of a shard".
    pub unit: String,
    /// What to know about it.
    pub note: Option<String>,
    /// Prices by region.
    #[serde(flatten)]
    pub regions: BTreeMap<String, Price>,
}

/// A price in one region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// USD for a unit.
    pub usd: f64,
    /// Whether it is unverified or second-hand.
    pub estimate: bool,
    /// Where it is from.
    pub source: String,
}

/// The prices of one region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regional<'a> {
    list: &'a PriceList,
    region: &'a str,
}

impl PriceList {
    /// The list that is part of the program.
    pub fn committed() -> &'static PriceList {
        &COMMITTED
    }

    /// Regions that every price is known for.
    pub fn regions(&self) -> Vec<String> {
        let mut items = self.prices.values();
        let first = items
            .next()
            .map(|item| item.regions.keys().cloned().collect());
        let mut regions: Vec<String> = first.unwrap_or_default();
        for item in items {
            regions.retain(|region| item.regions.contains_key(region));
        }
        regions
    }

    /// The region whose prices stand in for those of a region that the list does not have: one on the same
    /// side of the Atlantic. A region that it has stands for itself.
    pub fn stand_in<'a>(&self, region: &'a str) -> &'a str {
        let is_known = self.regions().iter().any(|known| known == region);
        let is_american = ["us-", "ca-", "sa-", "mx-"]
            .iter()
            .any(|prefix| region.starts_with(prefix));
        match (is_known, is_american) {
            (true, _) => region,
            (false, true) => "us-east-1",
            (false, false) => "eu-central-1",
        }
    }

    pub(crate) fn region<'a>(&'a self, region: &'a str) -> Result<Regional<'a>, Error> {
        let expected = self.regions();
        if expected.iter().any(|known| known == region) {
            return Ok(Regional { list: self, region });
        }
        Err(Error::Region {
            got: region.to_owned(),
            expected,
        })
    }
}

impl<'a> Regional<'a> {
    /// The price of this name; none if the list does not have it.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Price> {
        self.list.prices.get(name)?.regions.get(self.region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_price_has_a_unit_and_a_source_in_every_region() {
        let list = PriceList::committed();
        assert_eq!(list.currency, "USD");
        let regions = list.regions();
        assert_eq!(regions, ["eu-central-1", "us-east-1"]);
        for (name, item) in &list.prices {
            assert!(!item.unit.is_empty(), "{name}");
            assert_eq!(item.regions.len(), regions.len(), "{name}");
            for (region, price) in &item.regions {
                assert!(price.usd > 0.0, "{name} in {region}");
                assert!(price.source.len() > 10, "{name} in {region}");
            }
        }
    }

    #[test]
    fn stand_in_is_a_region_with_prices() {
        let list = PriceList::committed();
        for (region, expected) in [
            ("eu-central-1", "eu-central-1"),
            ("us-east-1", "us-east-1"),
            ("us-west-2", "us-east-1"),
            ("eu-west-1", "eu-central-1"),
            ("ap-south-1", "eu-central-1"),
        ] {
            assert_eq!(list.stand_in(region), expected);
            assert!(list.regions().iter().any(|known| known == expected));
        }
    }

    #[test]
    fn unknown_region_is_told_with_the_known_ones() {
        let error = PriceList::committed().region("mars-1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no prices for region \"mars-1\": expected eu-central-1 or us-east-1"
        );
    }
}
