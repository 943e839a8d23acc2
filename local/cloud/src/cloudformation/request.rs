//! What several calls read from their requests, and what they refuse.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::Engine;
use super::stack::{Stack, Version};
use super::store::StackCell;
use crate::call::Failure;
use crate::form::Form;

/// Bytes of a template that comes with the call.
const MAX_BODY: usize = 51_200;

/// Bytes of a template in S3.
const MAX_OBJECT: usize = 1_000_000;

/// `ValidationError`
pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("ValidationError", message)
}

/// CloudFormation's answer to a name that no stack has.
pub(super) fn no_stack(name: &str) -> Failure {
    invalid(format!("Stack with id {name} does not exist"))
}

/// Parameters with their values; none for those that keep the previous one.
pub(super) fn parameters(form: &Form) -> Vec<(String, Option<String>)> {
    let parameters = form.structures("Parameters");
    let pairs = parameters.iter().filter_map(|parameter| {
        let name = parameter.get("ParameterKey")?.to_owned();
        let value = if parameter.is_true("UsePreviousValue") {
            None
        } else {
            Some(
                parameter
                    .raw("ParameterValue")
                    .unwrap_or_default()
                    .to_owned(),
            )
        };
        Some((name, value))
    });
    pairs.collect()
}

/// The stack's tags.
pub(super) fn tags(form: &Form) -> BTreeMap<String, String> {
    let tags = form.structures("Tags");
    let pairs = tags.iter().filter_map(|tag| {
        let value = tag.raw("Value").unwrap_or_default().to_owned();
        Some((tag.get("Key")?.to_owned(), value))
    });
    pairs.collect()
}

/// Whether a change set can be made for a stack, or executed on it.
///
/// # Errors
/// `ValidationError`: the stack's status admits none.
pub(super) fn check_updatable(stack: &Stack, r#type: &str) -> Result<(), Failure> {
    let is_updatable = match r#type {
        "CREATE" => stack.status == "REVIEW_IN_PROGRESS",
        _ => {
            matches!(
                stack.status.as_str(),
                "CREATE_COMPLETE"
                    | "UPDATE_COMPLETE"
                    | "UPDATE_ROLLBACK_COMPLETE"
                    | "IMPORT_COMPLETE"
                    | "IMPORT_ROLLBACK_COMPLETE"
                    | "CREATE_FAILED"
                    | "UPDATE_FAILED"
            ) || (r#type == "IMPORT" && stack.status == "REVIEW_IN_PROGRESS")
        }
    };
    if is_updatable {
        return Ok(());
    }
    Err(invalid(format!(
        "Stack:{} is in {} state and can not be updated.",
        stack.id, stack.status
    )))
}

impl Engine {
    /// The stack that a request names.
    ///
    /// # Errors
    /// `ValidationError`: there is none.
    pub(super) fn named(&self, region: &str, form: &Form) -> Result<Arc<StackCell>, Failure> {
        let name = form.get("StackName").ok_or_else(|| {
            invalid("1 validation error detected: Value null at 'stackName' failed to satisfy constraint: Member must not be null")
        })?;
        self.stacks.find(region, name).ok_or_else(|| no_stack(name))
    }

    /// The service role of a request, or else the one that the stack has.
    ///
    /// # Errors
    /// `ValidationError`: CloudFormation cannot assume it.
    pub(super) fn role(
        &self,
        form: &Form,
        associated: Option<String>,
    ) -> Result<Option<String>, Failure> {
        let role = form.get("RoleARN").map(str::to_owned).or(associated);
        self.check_role(role.as_deref())?;
        Ok(role)
    }

    /// Whether a role is of a stack of this account that CloudFormation may assume.
    ///
    /// # Errors
    /// `ValidationError`: it is not.
    pub(super) fn check_role(&self, role: Option<&str>) -> Result<(), Failure> {
        let Some(arn) = role else {
            return Ok(());
        };
        let name = arn.rsplit('/').next().unwrap_or(arn);
        let is_there = self.stacks.all().iter().any(|cell| {
            let stack = cell.read();
            let mut resources = stack.resources.values();
            resources.any(|it| {
                it.r#type == "AWS::IAM::Role"
                    && it.physical_id == name
                    && it.exists()
                    && it.settled.as_ref().is_some_and(|settled| {
                        let trust = settled.properties["AssumeRolePolicyDocument"].to_string();
                        trust.contains("cloudformation.amazonaws.com")
                    })
            })
        });
        match is_there {
            true => Ok(()),
            false => Err(invalid(format!(
                "Role {arn} is invalid or cannot be assumed"
            ))),
        }
    }

    /// The template of a request: with the call, from S3, or the one of before.
    ///
    /// # Errors
    /// `ValidationError`: it is too long, or nowhere.
    pub(super) async fn template(
        &self,
        form: &Form,
        previous: Option<&Version>,
    ) -> Result<String, Failure> {
        if let Some(body) = form.get("TemplateBody") {
            if body.len() > MAX_BODY {
                return Err(invalid(format!(
                    "1 validation error detected: Value '{}…' at 'templateBody' failed to satisfy constraint: Member must have length less than or equal to {MAX_BODY}",
                    body.chars().take(40).collect::<String>()
                )));
            }
            return Ok(body.to_owned());
        }
        if let Some(url) = form.get("TemplateURL") {
            return self.fetch(url).await;
        }
        match previous {
            Some(version) if form.is_true("UsePreviousTemplate") => Ok(version.template.clone()),
            _ => Err(invalid(
                "Either Template URL or Template Body must be specified.",
            )),
        }
    }

    async fn fetch(&self, url: &str) -> Result<String, Failure> {
        let (bucket, key) = object(url).ok_or_else(|| {
            invalid("TemplateURL must be a supported URL: an object in Amazon S3.")
        })?;
        let buckets = self
            .account
            .buckets()
            .ok_or_else(|| invalid("S3 error: this cloud has no buckets"))?;
        let object = buckets.get(&bucket, &key, None).await.map_err(|failure| match failure.code.as_str() {
            "NoSuchKey" | "NoSuchBucket" => invalid(format!(
                "S3 error: {}\nFor more information check http://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html",
                failure.message
            )),
            _ => invalid(format!("S3 error: {}", failure.message)),
        })?;
        if object.len() > MAX_OBJECT {
            return Err(invalid(format!(
                "Template may not exceed {MAX_OBJECT} bytes in size."
            )));
        }
        String::from_utf8(object.to_vec())
            .map_err(|_| invalid("Template format error: the template is no UTF-8"))
    }
}

/// Bucket and key of a URL in either style: `host/bucket/key` or `bucket.s3.region.host/key`.
fn object(url: &str) -> Option<(String, String)> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    let rest = rest.split('?').next()?;
    let (host, path) = rest.split_once('/')?;
    let decoded = percent_decoded(path);
    let virtual_host = host.find(".s3.").or_else(|| host.find(".s3-"));
    let (bucket, key) = match virtual_host {
        Some(end) => (host[..end].to_owned(), decoded),
        None => {
            let (bucket, key) = decoded.split_once('/')?;
            (bucket.to_owned(), key.to_owned())
        }
    };
    (!bucket.is_empty() && !key.is_empty()).then_some((bucket, key))
}

fn percent_decoded(path: &str) -> String {
    // A plus sign is itself in a path, and a space only in a form.
    let form = format!("x={}", path.replace('+', "%2B"));
    form_urlencoded::parse(form.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_in_either_style() {
        let expected = Some(("b".to_owned(), "t/a+b c.json".to_owned()));
        assert_eq!(object("http://127.0.0.1:4566/b/t/a+b%20c.json"), expected);
        assert_eq!(
            object("https://b.s3.eu-west-1.amazonaws.com/t/a%2Bb%20c.json?x=1"),
            expected
        );
        assert_eq!(object("https://host/only"), None);
        assert_eq!(object("ftp://host/b/k"), None);
    }

    #[test]
    fn empty_value_of_a_parameter_is_a_value() {
        let form = Form::parse(
            b"Parameters.member.1.ParameterKey=A&Parameters.member.1.ParameterValue=&Parameters.member.2.ParameterKey=B&Parameters.member.2.UsePreviousValue=true",
        );
        let expected = [("A", Some("")), ("B", None)];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(parameters(&form), expected);
    }
}
