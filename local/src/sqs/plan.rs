//! SQS queues of a template.

use cfn::resolve::{Problem, Resolved, ResolvedResource};

use super::Config;

/// `MaximumMessageSize` when absent: 1 MiB ("Amazon SQS message quotas").
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1 << 20;

pub(crate) fn plan(resolved: &Resolved) -> Vec<Config> {
    resolved.of_type("AWS::SQS::Queue").map(queue).collect()
}

pub(super) fn queue(resource: &ResolvedResource) -> Config {
    let size = resource
        .text("/MaximumMessageSize")
        .and_then(|it| it.parse().ok());
    Config {
        logical_id: resource.logical_id.clone(),
        name: resource.name.clone(),
        arn: resource.arn().unwrap_or_default().to_owned(),
        url: resource.physical_id.clone(),
        max_message_bytes: size.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES),
    }
}

/// The standard queue that an ARN or a URL means; neither rules nor mappings send to another.
///
/// # Errors
/// None of the template, or a FIFO queue, as what is wrong at `path` of `from`.
pub(crate) fn find(
    resolved: &Resolved,
    from: &ResolvedResource,
    path: &str,
    reference: &str,
) -> Result<String, Problem> {
    let problem =
        |message: String| Problem::at(&from.logical_id, format!("Properties.{path}"), message);
    let queue = resolved.find("AWS::SQS::Queue", reference).ok_or_else(|| {
        problem(format!(
            "got `{reference}`, expected a queue of this template"
        ))
    })?;
    if queue.text("/FifoQueue").as_deref() == Some("true") || queue.name.ends_with(".fifo") {
        let message = format!(
            "got the FIFO queue {}, expected a standard queue",
            queue.logical_id
        );
        return Err(problem(message));
    }
    Ok(queue.logical_id.clone())
}
