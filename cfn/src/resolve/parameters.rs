//! Values of the template's parameters (given, default or placeholder), validated as in CloudFormation.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Context, MissingParameters, Problem};
use crate::document::{Document, Parameter};

/// Form of a parameter's value, by its type.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Text,
    Number,
    Texts,
    Numbers,
}

/// The values of all valid parameters; adds the problems of others to `problems`.
pub(super) fn values(
    document: &Document,
    context: &Context,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Json> {
    let mut problem = |name: &str, message: String| {
        problems.push(Problem::at("Parameters", name, message));
    };
    for name in context.parameters.keys() {
        if !document.parameters.contains_key(name) {
            let declared = list(document.parameters.keys());
            problem(
                name,
                format!("a value was given, but the template declares only {declared}"),
            );
        }
    }
    let mut values = BTreeMap::new();
    for (name, parameter) in &document.parameters {
        let Some(shape) = shape(&parameter.r#type) else {
            problem(
                name,
                format!("unknown parameter type `{}`", parameter.r#type),
            );
            continue;
        };
        let given = context.parameters.get(name).cloned();
        let text = match given.or_else(|| parameter.default.as_ref().and_then(super::text)) {
            Some(text) => text,
            None if context.missing_parameters == MissingParameters::Placeholder => {
                let text = Json::String(format!("{{{name}}}"));
                let is_list = matches!(shape, Shape::Texts | Shape::Numbers);
                values.insert(
                    name.clone(),
                    if is_list {
                        Json::Array(vec![text])
                    } else {
                        text
                    },
                );
                continue;
            }
            None => {
                let what = parameter
                    .description
                    .as_deref()
                    .unwrap_or(&parameter.r#type);
                problem(
                    name,
                    format!("no value was given and there is no default ({what})"),
                );
                continue;
            }
        };
        match value(parameter, shape, &text) {
            Ok(value) => {
                values.insert(name.clone(), value);
            }
            Err(message) => {
                let got = if parameter.no_echo {
                    "the value".to_owned()
                } else {
                    format!("`{text}`")
                };
                let hint = parameter.constraint_description.as_deref();
                let hint = hint.map(|it| format!(" ({it})")).unwrap_or_default();
                problem(name, format!("{got} {message}{hint}"));
            }
        }
    }
    values
}

fn shape(r#type: &str) -> Option<Shape> {
    Some(match r#type {
        "String" => Shape::Text,
        "Number" => Shape::Number,
        "List<Number>" => Shape::Numbers,
        "CommaDelimitedList" | "List<String>" => Shape::Texts,
        _ => {
            if let Some(inner) = r#type
                .strip_prefix("AWS::SSM::Parameter::Value<")
                .and_then(|rest| rest.strip_suffix('>'))
            {
                // The given value is the value in Parameter Store.
                return shape(inner);
            }
            if r#type.starts_with("List<AWS::") && r#type.ends_with('>') {
                Shape::Texts
            } else if r#type.starts_with("AWS::") {
                Shape::Text
            } else {
                return None;
            }
        }
    })
}

fn value(parameter: &Parameter, shape: Shape, text: &str) -> Result<Json, String> {
    let items: Vec<&str> = match shape {
        Shape::Text | Shape::Number => vec![text],
        Shape::Texts | Shape::Numbers if text.is_empty() => Vec::new(),
        Shape::Texts | Shape::Numbers => text.split(',').map(str::trim).collect(),
    };
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        check(parameter, shape, item)?;
        values.push(match shape {
            Shape::Number | Shape::Numbers => number(item)?,
            Shape::Text | Shape::Texts => Json::String(item.to_owned()),
        });
    }
    Ok(match shape {
        Shape::Text | Shape::Number => values.into_iter().next().unwrap_or_default(),
        Shape::Texts | Shape::Numbers => Json::Array(values),
    })
}

fn number(text: &str) -> Result<Json, String> {
    let wrong = || "is not a number".to_owned();
    if let Ok(integer) = text.parse::<i64>() {
        return Ok(integer.into());
    }
    let float: f64 = text.parse().map_err(|_| wrong())?;
    serde_json::Number::from_f64(float)
        .map(Json::Number)
        .ok_or_else(wrong)
}

fn check(parameter: &Parameter, shape: Shape, item: &str) -> Result<(), String> {
    if let Some(allowed) = &parameter.allowed_values {
        let allowed: Vec<String> = allowed.iter().filter_map(super::text).collect();
        if !allowed.iter().any(|it| it == item) {
            return Err(format!("is not one of {}", list(&allowed)));
        }
    }
    if let Some(pattern) = &parameter.allowed_pattern {
        // CloudFormation matches the whole value.
        let regex = fancy_regex::Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|error| format!("cannot be checked: AllowedPattern `{pattern}`: {error}"))?;
        if !regex.is_match(item).unwrap_or(false) {
            return Err(format!("does not match AllowedPattern `{pattern}`"));
        }
    }
    let length = item.chars().count() as u64;
    if let Some(least) = parameter.min_length
        && length < least
    {
        return Err(format!("has {length} characters, MinLength is {least}"));
    }
    if let Some(most) = parameter.max_length
        && length > most
    {
        return Err(format!("has {length} characters, MaxLength is {most}"));
    }
    if matches!(shape, Shape::Number | Shape::Numbers) {
        let number = number(item)?.as_f64().unwrap_or_default();
        if let Some(least) = parameter.min_value
            && number < least
        {
            return Err(format!("is below MinValue {least}"));
        }
        if let Some(most) = parameter.max_value
            && number > most
        {
            return Err(format!("is above MaxValue {most}"));
        }
    }
    Ok(())
}

fn list<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|it| format!("`{}`", it.as_ref()))
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
