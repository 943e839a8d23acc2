//! The functions ("Functions"), found by name when a statement is compiled.

mod encoding;
mod hash;
mod message;
mod numeric;
mod pattern;
mod structure;
mod text;

use std::sync::OnceLock;

use crate::{
    EvaluationError, SqlVersion,
    evaluation::Evaluation,
    expression::Expression,
    time::{Format, Parse, Zone},
    value::Value,
};
use pattern::{Pattern, Replacement};

/// Implementation of a function; the number of its arguments is checked.
type Run =
    for<'e> fn(&Evaluation<'e>, &'e Call, &[Value<'e>]) -> Result<Value<'e>, EvaluationError>;

/// A function of IoT SQL.
#[derive(Debug)]
pub(crate) struct Function {
    name: &'static str,
    /// Fewest and most arguments; with another number the result is Undefined.
    arguments: (usize, usize),
    /// The version that added it.
    pub(crate) since: SqlVersion,
    /// Whether the result depends on the arguments only.
    pure: bool,
    prepare: Prepare,
    run: Run,
}

/// Arguments that are compiled with the statement if they are constant.
#[derive(Clone, Copy, Debug)]
enum Prepare {
    Nothing,
    /// The second argument is a regular expression, the third a replacement.
    Pattern,
    /// The first argument is a Joda pattern, the third a time zone.
    Format,
    /// The second argument is a pattern of `DateTimeFormatter`.
    Parse,
}

impl Function {
    const fn new(name: &'static str, fewest: usize, most: usize, run: Run) -> Self {
        let since = SqlVersion::V20151008;
        Self {
            name,
            arguments: (fewest, most),
            since,
            pure: true,
            prepare: Prepare::Nothing,
            run,
        }
    }

    /// Marks it as added by version 2016-03-23.
    const fn second(mut self) -> Self {
        self.since = SqlVersion::V20160323;
        self
    }

    /// Marks it as dependent on the message or the context.
    const fn impure(mut self) -> Self {
        self.pure = false;
        self
    }

    const fn preparing(mut self, prepare: Prepare) -> Self {
        self.prepare = prepare;
        self
    }
}

/// A compiled call of a function.
#[derive(Debug)]
pub(crate) struct Call {
    function: &'static Function,
    arguments: Vec<Expression>,
    /// Each is set if the argument is constant; the inner `None` means that it is invalid.
    pattern: Option<Option<Pattern>>,
    replacement: Option<Option<Replacement>>,
    format: Option<Option<Format>>,
    zone: Option<Option<Zone>>,
    parse: Option<Option<Parse>>,
}

impl Call {
    pub(crate) fn name(&self) -> &'static str {
        self.function.name
    }

    pub(crate) fn arguments(&self) -> &[Expression] {
        &self.arguments
    }

    /// Whether the result is the same for each message.
    pub(crate) fn is_constant(&self) -> bool {
        self.function.pure && self.arguments.iter().all(Expression::is_constant)
    }

    pub(crate) fn run<'e>(
        &'e self,
        evaluation: &Evaluation<'e>,
        arguments: &[Value<'e>],
    ) -> Result<Value<'e>, EvaluationError> {
        (self.function.run)(evaluation, self, arguments)
    }
}

/// Functions that call another AWS service, which are not supported.
const EXTERNAL: &[&str] = &[
    "aws_lambda",
    "get_dynamodb",
    "get_registry_data",
    "get_secret",
    "get_thing_shadow",
    "machinelearning_predict",
];

fn all() -> &'static [&'static [Function]] {
    static ALL: OnceLock<Vec<&'static [Function]>> = OnceLock::new();
    ALL.get_or_init(|| {
        vec![
            numeric::FUNCTIONS,
            text::FUNCTIONS,
            pattern::FUNCTIONS,
            hash::FUNCTIONS,
            structure::FUNCTIONS,
            encoding::FUNCTIONS,
            message::FUNCTIONS,
            crate::time::FUNCTIONS,
        ]
    })
}

/// Finds a function by its name in lower case.
///
/// # Errors
/// The message for the statement's author.
pub(crate) fn find(name: &str) -> Result<&'static Function, String> {
    let functions = || all().iter().copied().flatten();
    if let Some(function) = functions().find(|function| function.name == name) {
        return Ok(function);
    }
    if EXTERNAL.contains(&name) {
        return Err(format!(
            "function `{name}` is not supported: it calls another AWS service"
        ));
    }
    let known = functions()
        .map(|function| function.name)
        .chain(EXTERNAL.iter().copied())
        .chain(["cast"]);
    let nearest = known.map(|known| (distance(name, known), known)).min();
    Err(match nearest {
        Some((distance, nearest)) if distance <= 1 + name.len() / 4 => {
            format!("unknown function `{name}`: did you mean `{nearest}`?")
        }
        _ => format!(
            "unknown function `{name}`: IoT SQL has no such function, see AWS's page \"Functions\""
        ),
    })
}

/// Edit distance of two names.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    // Limits the work for a name of thousands of letters.
    for (at, from) in left.bytes().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, to) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default() + left.len().saturating_sub(64)
}

/// Compiles a call of `function`. With a wrong number of arguments it is Undefined ("Data types").
///
/// # Errors
/// The message for the statement's author, if the call is not supported.
pub(crate) fn call(
    function: &'static Function,
    mut arguments: Vec<Expression>,
) -> Result<Expression, String> {
    let mut function = function;
    let is_variable = |at: usize| matches!(arguments.get(at), Some(Expression::Variable(_)));
    match (function.name, arguments.get(1)) {
        ("decode", Some(Expression::Constant(Value::String(scheme)))) if scheme == "proto" => {
            return Err("decode of protobuf is not supported: only 'base64' is".into());
        }
        ("transform", _) if is_variable(0) => {
            return Err(
                "the mode of transform is a literal such as \"enrichArray\", not a variable".into(),
            );
        }
        _ => {}
    }
    let (fewest, most) = function.arguments;
    if !(fewest..=most).contains(&arguments.len()) {
        return Ok(Expression::Constant(Value::Undefined));
    }
    if function.name == "encode" && matches!(arguments.first(), Some(Expression::Payload)) {
        function = &encoding::ENCODE_PAYLOAD;
        arguments.remove(0);
    }
    let constant = |at: usize| match arguments.get(at) {
        Some(Expression::Constant(Value::String(text))) => Some(&**text),
        _ => None,
    };
    let (mut pattern, mut replacement, mut format, mut zone, mut parse) =
        (None, None, None, None, None);
    match function.prepare {
        Prepare::Nothing => {}
        Prepare::Pattern => {
            pattern = constant(1).map(Pattern::prepare).transpose()?;
            replacement = constant(2).map(Replacement::parse);
        }
        Prepare::Format => {
            format = constant(0).map(Format::parse);
            zone = constant(2).map(Zone::find);
        }
        Prepare::Parse => parse = constant(1).map(Parse::new),
    }
    Ok(Expression::Call(
        Call {
            function,
            arguments,
            pattern,
            replacement,
            format,
            zone,
            parse,
        }
        .into(),
    ))
}

impl Call {
    pub(crate) fn format(&self) -> Option<Option<&Format>> {
        self.format.as_ref().map(Option::as_ref)
    }

    pub(crate) fn zone(&self) -> Option<Option<&Zone>> {
        self.zone.as_ref().map(Option::as_ref)
    }

    pub(crate) fn parse(&self) -> Option<Option<&Parse>> {
        self.parse.as_ref().map(Option::as_ref)
    }
}

/// Declares a function of [`crate::time`] that formats.
pub(crate) const fn formatting(
    name: &'static str,
    fewest: usize,
    most: usize,
    run: Run,
) -> Function {
    Function::new(name, fewest, most, run)
        .second()
        .preparing(Prepare::Format)
}

/// Declares a function of [`crate::time`] that parses.
pub(crate) const fn parsing(name: &'static str, fewest: usize, most: usize, run: Run) -> Function {
    Function::new(name, fewest, most, run)
        .second()
        .preparing(Prepare::Parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_in_lower_case() {
        let mut names: Vec<_> = all()
            .iter()
            .copied()
            .flatten()
            .map(|function| function.name)
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        assert!(find("lenght").unwrap_err().contains("`length`"));
        assert!(find("topics").unwrap_err().contains("`topic`"));
        assert!(find("frobnicate").unwrap_err().contains("no such function"));
        assert!(
            find("get_secret")
                .unwrap_err()
                .contains("another AWS service")
        );
    }
}
