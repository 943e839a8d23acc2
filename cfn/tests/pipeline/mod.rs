//! The template that several tests edit.

#![allow(dead_code, reason = "each test binary uses its part")]

use cfn::document::Document;
use cfn::resolve::{Context, Problem, Resolved, resolve};
use serde_json::Value as Json;

pub(crate) fn template() -> Json {
    serde_json::from_str(include_str!("../templates/pipeline.json")).unwrap()
}

pub(crate) fn context() -> Context {
    let mut context = Context::new("123456789012", "eu-central-1", "sensors-test");
    context
        .parameters
        .insert("ArtifactsBucket".to_owned(), "artifacts".to_owned());
    context
        .parameters
        .insert("FunctionKey".to_owned(), "functions/0a1b.zip".to_owned());
    context
}

pub(crate) fn document(edit: impl FnOnce(&mut Json)) -> Document {
    let mut template = template();
    edit(&mut template);
    serde_json::from_value(template).unwrap()
}

pub(crate) fn edited(edit: impl FnOnce(&mut Json)) -> Resolved {
    resolve(&document(edit), &context()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub(crate) fn problems(edit: impl FnOnce(&mut Json)) -> Vec<String> {
    let problems = resolve(&document(edit), &context())
        .err()
        .unwrap_or_default();
    problems.iter().map(Problem::to_string).collect()
}
