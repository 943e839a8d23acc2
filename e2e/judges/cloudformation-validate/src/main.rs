//! Holds templates against AWS's own validator: a finding of severity WARN or above is printed
//! and a failure. Those below are only counted: they name every property whose change replaces, and more
//! that is no fault.

use std::process::ExitCode;

use anyhow::Context;
use cloudformation_validate::{
    CompositeEngine, CompositeEngineConfig, SchemaValidator, Severity, ValidateConfig,
    validate_bytes_with_path,
};

fn main() -> anyhow::Result<ExitCode> {
    let templates: Vec<_> = std::env::args().skip(1).collect();
    anyhow::ensure!(!templates.is_empty(), "expected the paths of templates");
    let validator = SchemaValidator::default();
    let engine = CompositeEngine::new(CompositeEngineConfig::default())?;
    let mut failed = false;
    for path in templates {
        let template = std::fs::read(&path).with_context(|| format!("read {path}"))?;
        let report = validate_bytes_with_path(
            &engine,
            &validator,
            &template,
            ValidateConfig::default(),
            path.clone(),
        )
        .with_context(|| format!("validate {path}"))?;
        let (faults, remarks): (Vec<_>, Vec<_>) = report.diagnostics.iter().partition(|finding| {
            // The roles take the boundary by a condition that an empty parameter does not meet, which
            // this rule does not follow: it compares the default alone.
            let is_unused_default = finding.rule_id.to_string() == "W1030"
                && finding.property_path.as_deref() == Some("Properties.PermissionsBoundary");
            finding.severity >= Severity::Warn && !is_unused_default
        });
        for finding in &faults {
            let place = finding.location.as_ref().map_or(0, |span| span.start_line);
            let entity = finding
                .entity
                .as_ref()
                .map(|entity| entity.logical_id.as_str());
            let property = finding.property_path.as_deref().unwrap_or_default();
            println!(
                "{path}:{place}: {} {}: {} {property}: {}",
                finding.severity,
                finding.rule_id,
                entity.unwrap_or_default(),
                finding.message
            );
        }
        println!("{path}: {} faults, {} remarks", faults.len(), remarks.len());
        failed |= !faults.is_empty();
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
