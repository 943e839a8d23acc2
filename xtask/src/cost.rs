//! `cargo xtask cost`: what a stage costs a month, before it is deployed.

use ::cost::{Load, PriceList};
use anyhow::bail;
use clap::Args;
use stack::Stage;

use crate::Exit;

/// Where prices are taken from when nothing names a region: where the local run is, too.
const REGION: &str = "eu-central-1";

#[derive(Args)]
#[command(
    after_help = "Everything is computed from the stage's templates and xtask/cost/prices.json; nothing is asked of AWS"
)]
pub(crate) struct Arguments {
    /// Stage to price: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    stage: Stage,
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = Load::default().devices)]
    devices: u64,
    /// Seconds between two messages of one device
    #[arg(long, value_name = "SECONDS", default_value_t = Load::default().every)]
    every: f64,
    /// Bytes of a message
    #[arg(long, value_name = "B", default_value_t = Load::default().bytes)]
    bytes: u64,
    /// Region whose prices hold [default: AWS_REGION, AWS_DEFAULT_REGION, else eu-central-1]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        stage,
        devices,
        every,
        bytes,
        region,
        json,
    } = arguments;
    let load = Load {
        devices,
        every,
        bytes,
    };
    if let Some(problem) = load.problem() {
        bail!("{problem}");
    }
    let named = region.is_some();
    let region = region.unwrap_or_else(|| region_of(|name| std::env::var(name).ok()));
    // The environment's region is where things run, not a question about its prices.
    let priced = match named {
        true => &region,
        false => PriceList::committed().stand_in(&region),
    };
    if priced != region {
        eprintln!("note: the price list lacks {region}; these are the prices of {priced}");
    }
    let stacks = stack::synth(stage)
        .map_err(|problems| anyhow::anyhow!("stage {stage} does not synthesise:\n{problems}"))?;
    let templates: Vec<&str> = stacks.iter().map(|stack| &*stack.template).collect();
    let estimate = ::cost::estimate(&templates, priced, load)?;
    if json {
        let mut json = estimate.json();
        json["stage"] = stage.to_string().into();
        println!("{json:#}");
    } else {
        print!("{}", estimate.text(&format!("Stage {stage}")));
    }
    Ok(Exit::Done)
}

/// The region that the environment names; an empty variable counts as absent.
fn region_of(variable: impl Fn(&str) -> Option<String>) -> String {
    ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .iter()
        .filter_map(|name| variable(name))
        .find(|value| !value.is_empty())
        .unwrap_or_else(|| REGION.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_is_the_first_that_the_environment_names() {
        let region = |set: &[(&str, &str)]| {
            region_of(|name| {
                let mut set = set.iter();
                let found = set.find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(region(&[]), REGION);
        assert_eq!(region(&[("AWS_REGION", "")]), REGION);
        assert_eq!(region(&[("AWS_DEFAULT_REGION", "us-east-1")]), "us-east-1");
        let both = [("AWS_REGION", "a"), ("AWS_DEFAULT_REGION", "b")];
        assert_eq!(region(&both), "a");
    }
}
