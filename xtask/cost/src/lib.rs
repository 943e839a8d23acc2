//! Monthly cost of a stage, computed from its templates before it is deployed.
//!
//! Text in, figures out: this package reads templates and the committed price list (`prices.json`), and asks
//! AWS nothing. A figure follows from resource types and their properties, never from a stage's name, so a
//! changed configuration changes the sum.
//!
//! Not counted, because no template says it: data out to the internet and between zones, requests of people,
//! free tiers, taxes, and what [`assumed`] says is assumed.
//!
//! Layout, in reading order: [`estimate`]; [`Load`]; `prices` (the list); `messages` (which rules take the
//! devices' messages, and what they emit); `resource` (one function for each type that costs); `free` (types
//! that cost nothing, each with its reason); `quota` (which limit is reached first); `render`.

pub mod assumed;
mod free;
mod load;
mod messages;
mod prices;
mod quota;
mod render;
mod resource;

use cfn::document::Document;
use cfn::resolve::{Context, MissingParameters, Resolved, resolve};

pub use load::{HOURS_PER_MONTH, Load};
pub use prices::{Price, PriceList};
pub use quota::Quota;

/// What a stage costs at a load.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Region of the prices, such as `eu-central-1`.
    pub region: String,
    /// Date of the prices.
    pub collected: String,
    /// The load.
    pub load: Load,
    /// What costs, in the templates' order; the devices' own messages come first.
    pub lines: Vec<Line>,
    /// Types that cost nothing.
    pub free: Vec<Free>,
    /// Resources whose price is not known.
    pub unpriced: Vec<Unpriced>,
    /// Limits at this load; the one that is reached first comes first.
    pub quotas: Vec<Quota>,
}

/// One thing that costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Logical ID; none for what no resource stands for, such as the devices' connections.
    pub logical_id: Option<String>,
    /// Resource type, or the service's name.
    pub r#type: String,
    /// What is paid for, such as "1 shard".
    pub what: String,
    /// USD a month without any message.
    pub fixed: f64,
    /// USD for a million messages, at the estimate's load.
    pub per_million: f64,
    /// Whether a price in it is an estimate.
    pub is_estimate: bool,
}

/// A type that costs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Free {
    /// Type.
    pub r#type: String,
    /// Number of such resources.
    pub count: usize,
    /// Why it costs nothing.
    pub reason: &'static str,
}

/// A resource whose price is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpriced {
    /// Logical ID.
    pub logical_id: String,
    /// Type.
    pub r#type: String,
    /// What is missing in the price list.
    pub missing: String,
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The price list has no prices of the region; those that it has.
    Region {
        /// The region that was asked for.
        got: String,
        /// Regions of the price list.
        expected: Vec<String>,
    },
    /// A template cannot be read or resolved.
    Template(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Region { got, expected } => write!(
                f,
                "no prices for region \"{got}\": expected {}",
                expected.join(" or ")
            ),
            Error::Template(why) => write!(f, "cannot read the template: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl Estimate {
    /// USD a month without any message.
    pub fn fixed(&self) -> f64 {
        self.lines.iter().map(|line| line.fixed).sum()
    }

    /// USD for a million messages.
    pub fn per_million(&self) -> f64 {
        self.lines.iter().map(|line| line.per_million).sum()
    }

    /// USD a month at the load.
    pub fn monthly(&self) -> f64 {
        self.fixed() + self.per_million() * self.load.messages_per_month() / 1e6
    }
}

/// Computes what stacks cost together at a load.
///
/// # Errors
/// The price list does not have the region, or a template cannot be read.
pub fn estimate(templates: &[&str], region: &str, load: Load) -> Result<Estimate, Error> {
    let prices = PriceList::committed();
    let regional = prices.region(region)?;
    let stacks = templates
        .iter()
        .map(|template| resolved(template, region))
        .collect::<Result<Vec<Resolved>, Error>>()?;
    let mut estimate = Estimate {
        region: region.to_owned(),
        collected: prices.collected.clone(),
        load,
        lines: Vec::new(),
        free: Vec::new(),
        unpriced: Vec::new(),
        quotas: Vec::new(),
    };
    for stack in &stacks {
        let traffic = messages::traffic(stack, load);
        resource::price(stack, &traffic, &regional, &mut estimate);
        estimate
            .quotas
            .extend(quota::quotas(stack, &traffic, region));
    }
    estimate
        .quotas
        .sort_by(|a, b| b.share().total_cmp(&a.share()));
    Ok(estimate)
}

fn resolved(template: &str, region: &str) -> Result<Resolved, Error> {
    let document = Document::parse(template).map_err(|error| Error::Template(error.to_string()))?;
    // Prices do not depend on the account, nor on what a deployment fills in.
    let context = Context {
        missing_parameters: MissingParameters::Placeholder,
        ..Context::new("123456789012", region, "stack")
    };
    resolve(&document, &context).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Error::Template(problems.join("; "))
    })
}
