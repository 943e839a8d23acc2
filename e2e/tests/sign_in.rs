//! The cache asks who comes in, and the template says who may.

use anyhow::{Context, ensure};
use contract::http;
use e2e::dashboard::{View, get};
use e2e::programs::Programs;
use e2e::publish::publish_one;
use e2e::run::{Ended, Run, Settings};
use e2e::template;
use serde_json::{Value as Json, json};

/// Removes the grant from a role.
fn without_grant(template: &mut Json, role: &str) -> anyhow::Result<()> {
    let policies = template["Resources"][role]["Properties"]["Policies"].as_array_mut();
    let policies = policies.with_context(|| format!("{role} has no policies"))?;
    let before = policies.len();
    policies.retain(|policy| policy["PolicyName"] != "CacheConnect");
    ensure!(policies.len() + 1 == before, "{role} has no CacheConnect");
    Ok(())
}

/// No token is in the log, nor anything that makes one.
fn tells_no_secret(ended: &Ended) -> anyhow::Result<()> {
    for secret in ["X-Amz-Signature", "X-Amz-Security-Token", "local+"] {
        ensure!(
            !ended.log.contains(secret),
            "{secret} is in the log:\n{}",
            ended.log
        );
    }
    Ok(())
}

#[tokio::test]
async fn function_without_its_grant_keeps_the_record_and_the_reason_is_told() -> anyhow::Result<()>
{
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    without_grant(&mut template, "FunctionRole")?;
    // It gives a batch back shortly before its time is over.
    template["Resources"]["Function"]["Properties"]["Timeout"] = json!(4);
    let run = Run::start(Settings::new(&programs).template(&template)).await?;
    publish_one(&run.mqtt, "topic/sensors/kitchen", "{}").await?;
    run.wait_for_log("batch returned for a retry").await?;
    let denial = "FunctionRole/Function is not authorized to perform: elasticache:Connect on resource: arn:aws:elasticache:";
    for said in [
        "will fail: ",
        denial,
        "-function\" refused",
        "cannot sign in to cache",
    ] {
        run.wait_for_log(said).await?;
    }
    ensure!(View::open(&run.dashboard).await?.count == 0);
    tells_no_secret(&run.stop().await?)
}

#[tokio::test]
async fn web_ui_without_its_grant_says_that_the_cache_is_away() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    without_grant(&mut template, "WebInstanceRole")?;
    let run = Run::start(Settings::new(&programs).template(&template)).await?;
    for said in [
        "elasticache:Connect on resource",
        "-webui\" refused",
        "cannot sign in to cache",
    ] {
        run.wait_for_log(said).await?;
    }
    ensure!(get(&run.dashboard, http::READY).await?.0 == 503);
    ensure!(get(&run.dashboard, http::HEALTH).await?.0 == 200);
    tells_no_secret(&run.stop().await?)
}

#[tokio::test]
async fn web_ui_is_held_to_its_access_string() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    for (logical_id, user) in template::resources_of(&mut template, "AWS::ElastiCache::User") {
        if logical_id == "WebCacheUser" {
            let rules = user["AccessString"].as_str().context("AccessString")?;
            user["AccessString"] = json!(rules.replace(" +zrange", ""));
        }
    }
    let run = Run::start(Settings::new(&programs).template(&template)).await?;
    run.wait_for_log("zrange").await?;
    ensure!(get(&run.dashboard, http::READY).await?.0 == 503);
    tells_no_secret(&run.stop().await?)
}
