//! What whoever deploys must give, looked at before anything is built or made: CloudFormation would say it
//! last, and in the words of the template.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use cfn::document::{Document, Parameter};
use cfn::resolve::{Context, resolve};
use stack::{Stage, parameters};

use crate::arguments::Deploy;

/// Checks the flags that become parameters of the main stack.
///
/// `existing` are the parameters that the deployed stack has: what is not given stays as it is.
///
/// # Errors
/// All that is missing or wrong, at once, each by its flag.
pub(crate) fn check(
    arguments: &Deploy,
    template: &str,
    existing: Option<&BTreeMap<String, String>>,
    region: &str,
) -> anyhow::Result<()> {
    let document = Document::parse(template).context("read the template")?;
    let stage = arguments.stage;
    let flags = [
        (
            "--certificate",
            parameters::CERTIFICATE_ARN,
            &arguments.certificate,
        ),
        (
            "--alarm-email",
            parameters::ALARM_EMAIL,
            &arguments.alarm_email,
        ),
    ];
    let mut problems = Vec::new();
    for (flag, name, given) in flags {
        let Some(parameter) = document.parameters.get(name) else {
            continue;
        };
        let is_known = existing.is_some_and(|existing| existing.contains_key(name));
        let problem = match given {
            Some(value) => wrong(&document, name, parameter, value)
                .or_else(|| elsewhere(value, region))
                .map(|problem| format!("{flag}: {problem}")),
            None if parameter.default.is_none() && !is_known => {
                Some(missing(flag, parameter, stage, region))
            }
            None => None,
        };
        problems.extend(problem);
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!(
        "stage {stage} cannot be deployed like this:\n  {}",
        problems.join("\n  ")
    )
}

fn missing(flag: &str, parameter: &Parameter, stage: Stage, region: &str) -> String {
    let expected = expected(parameter);
    match flag {
        "--certificate" => format!(
            "--certificate is missing: stage {stage} takes HTTPS alone; give {expected} of region {region}, issued for the dashboard's name (`aws acm list-certificates` shows those that there are)"
        ),
        flag => format!("{flag} is missing: give {expected}"),
    }
}

/// Judged as CloudFormation judges it.
fn wrong(document: &Document, name: &str, parameter: &Parameter, value: &str) -> Option<String> {
    let mut context: Context = cfn::access::context();
    context.parameters.insert(name.to_owned(), value.to_owned());
    let problems = resolve(document, &context).err()?;
    let is_wrong = problems
        .iter()
        .any(|problem| problem.logical_id == "Parameters" && problem.path == name);
    let got = match value {
        "" => "nothing".to_owned(),
        value => format!("`{value}`"),
    };
    is_wrong.then(|| format!("got {got}, expected {}", expected(parameter)))
}

/// A balancer takes certificates of its own region alone.
fn elsewhere(value: &str, region: &str) -> Option<String> {
    let mut parts = value.split(':').skip(2);
    let (service, of) = (parts.next()?, parts.next()?);
    (service == "acm" && of != region)
        .then(|| format!("got a certificate of region {of}, expected one of {region}: a balancer takes certificates of its own region alone"))
}

fn expected(parameter: &Parameter) -> &str {
    let words = [&parameter.constraint_description, &parameter.description];
    words
        .into_iter()
        .find_map(Option::as_deref)
        .unwrap_or("a value")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        deploy: Deploy,
    }

    /// What is said to a line of flags; nothing: it may go on.
    fn said(flags: &str, existing: &[(&str, &str)]) -> String {
        let line = ["deploy"].into_iter().chain(flags.split_whitespace());
        let arguments = Line::parse_from(line).deploy;
        let stacks = stack::synth(arguments.stage).expect("a stage synthesises");
        let template = &stacks.last().expect("has stacks").template;
        let existing: BTreeMap<String, String> = existing
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let existing = (!existing.is_empty()).then_some(&existing);
        check(&arguments, template, existing, "eu-central-1")
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    const CERTIFICATE: &str = "arn:aws:acm:eu-central-1:123456789012:certificate/a-b";

    #[test]
    fn a_stage_that_takes_https_alone_asks_for_its_certificate_by_the_flag() {
        insta::assert_snapshot!(said("--stage prod", &[]), @r"
        stage prod cannot be deployed like this:
          --certificate is missing: stage prod takes HTTPS alone; give the ARN of a certificate in AWS Certificate Manager of region eu-central-1, issued for the dashboard's name (`aws acm list-certificates` shows those that there are)
        ");
        let wrong = "--stage prod --certificate mine --alarm-email nobody";
        insta::assert_snapshot!(said(wrong, &[]), @r"
        stage prod cannot be deployed like this:
          --certificate: got `mine`, expected the ARN of a certificate in AWS Certificate Manager
          --alarm-email: got `nobody`, expected an e-mail address, or empty
        ");
        let abroad = CERTIFICATE.replace("eu-central-1", "us-east-1");
        let abroad = format!("--stage prod --certificate {abroad}");
        insta::assert_snapshot!(said(&abroad, &[]), @r"
        stage prod cannot be deployed like this:
          --certificate: got a certificate of region us-east-1, expected one of eu-central-1: a balancer takes certificates of its own region alone
        ");
        insta::assert_snapshot!(said("--stage prod --certificate=", &[]), @r"
        stage prod cannot be deployed like this:
          --certificate: got nothing, expected the ARN of a certificate in AWS Certificate Manager
        ");
    }

    #[test]
    fn what_is_given_or_deployed_already_is_enough() {
        assert_eq!(said("--stage dev", &[]), "");
        assert_eq!(said("--stage dev --certificate= --alarm-email=", &[]), "");
        let given = format!("--stage prod --certificate {CERTIFICATE}");
        assert_eq!(said(&given, &[]), "");
        let deployed = [(parameters::CERTIFICATE_ARN, CERTIFICATE)];
        assert_eq!(said("--stage prod", &deployed), "");
    }
}
