//! AWS IoT SQL: parse once, evaluate per message.
//!
//! A [`Rule`] is a compiled statement of a topic rule, a [`Template`] a compiled field of an action.
//! Both are evaluated against a [`Message`]; what does not come with the message is asked of a [`Context`].
//! There is no IO here, no clock and no source of random numbers.
//!
//! ```
//! use iot_sql::{Context, Message, Outcome, Rule, SqlVersion};
//!
//! struct Account;
//!
//! impl Context for Account {
//!     fn random(&self) -> f64 {
//!         0.5
//!     }
//!     fn new_uuid(&self) -> String {
//!         "123e4567-e89b-42d3-a456-426614174000".into()
//!     }
//!     fn account_id(&self) -> &str {
//!         "123456789012"
//!     }
//! }
//!
//! let rule = Rule::compile("SELECT color, topic(2) AS device FROM 'light/+' WHERE level > 50", SqlVersion::V20160323)?;
//! let message = Message { topic: "light/hall", payload: br#"{"color":"red","level":60}"#, ..Message::default() };
//! assert!(rule.topic_filter().is_some_and(|filter| filter.matches(message.topic)));
//! let Outcome::Fired(output) = rule.evaluate(&message, &Account) else { panic!("60 is above 50") };
//! assert_eq!(output.bytes(), br#"{"color":"red","device":"hall"}"#);
//! # Ok::<(), iot_sql::Error>(())
//! ```
//!
//! # Layout
//! `rule`, `template`, `topic`, `message`, `output`, `error` and `version` are what callers see.
//! `lexer` → `parser` → `expression` (with `fold` for what is constant) is the way of a statement;
//! `evaluation` runs it, by `operator`, `conversion` and `function`; `value`, `number`, `json` and `time` are
//! what it works on.
//!
//! # What is not here
//! Functions that call another AWS service (`aws_lambda`, `get_dynamodb`, `get_registry_data`, `get_secret`,
//! `get_thing_shadow`, `machinelearning_predict`, `decode` of protobuf) are refused when the statement is
//! compiled, by name and position.
//!
//! # Choices
//! Where AWS's developer guide contradicts itself or is silent, this is what is done. "Page" is the page of the
//! guide on the subject.
//!
//! Statements
//! - From loose to tight: OR, AND, NOT, comparisons, `+ -`, `* / %`, the sign `-`; equal ones from left to right.
//!   The page names no precedence; this is ANSI SQL's.
//! - AND and OR look at both sides: anything but a Boolean or a "true"/"false" on either side gives Undefined, as
//!   the tables say, also for `true OR Undefined`.
//! - WHERE fires for the Boolean true only, not for the string "true".
//! - IN, LIKE, BETWEEN, IS NULL, `[n]` and comments are not on the pages and are syntax errors.
//! - A minus may be a dash (`–`), as the SELECT page prints it. A trailing comma before FROM, which a tutorial prints,
//!   is an error; one in an object literal, which AWS's samples have, is not.
//! - `FROM` takes single or double quotes; an unquoted filter, as one old page prints it, is an error.
//! - `value` is a keyword after SELECT where an operand follows, else a member: `SELECT value - 1` subtracts.
//! - Key without alias: the last name of a path; the name of a function, in lower case; the name of a variable; else the
//!   text of the expression. An object literal without alias gives its members.
//! - `AS bar.baz` makes an object in an object. Of equal keys the last wins, in the place of the first, also
//!   beside `*`.
//! - Text in quotes: a quote is doubled, a backslash stands for itself.
//! - `${…}` within a string of SELECT is text: substitution takes place in the fields of actions.
//! - Within a nested SELECT, names and `*` belong to the element; the outer payload is reached by variables of SET.
//!   Elements for which VALUE is Undefined are left out.
//! - An unset variable is an error when compiled; SET is allowed in both versions; variables are evaluated once, before
//!   WHERE, and templates take the same values ([`Template::evaluate_with`]).
//!
//! Types
//! - Int divided by Int is an Int cut towards zero, by the operators' table; the SET page's example (23.89) wants
//!   a Decimal. Division by zero is Undefined.
//! - A Decimal rounds half to even at 34 digits and keeps its scale (`1.5 + 1.5` is `3.0`). Above 9.99E999 it is
//!   Undefined, below 1E-999 zero. An Int beyond 34 digits becomes a Decimal.
//! - Version 2016-03-23 turns whole numbers of payloads, literals and casts into Int; results of operators and functions
//!   keep the type that their tables give. `cast(true as Decimal)` is 1.0, as its table says.
//! - Decimal to Int: nearest (half away from zero) where a function converts implicitly, as in `get` and `topic`;
//!   down where the page says so, in `cast`, bit functions, `chr`, `lpad`, `rpad`, `trunc`; down in `substring`, by its
//!   examples. String to Int: cut in `get` and `topic`, else as the Decimal.
//! - `NULL = NULL` is true: the table of `<>` has that row, the one of `=` has none.
//! - `cast` of a String to a String is the String: the row of the page repeats the one for Booleans.
//! - An Undefined in an array keeps its index and is left out of JSON. Half of a surrogate pair becomes U+FFFD.
//! - Characters are Unicode code points in `length`, `substring`, `indexof` and `get`.
//!
//! Functions
//! - `concat(1)` is `"1"` and `concat(1, 2)` is `"12"`, as the first one's example says, not numbers; an array alone stays one. `get("abc", 1)` is "b", from 0 as
//!   the text says. `bitnot(13)` is -14. `round(-1.5)` is -2, by the example.
//! - A wrong number of arguments is Undefined ("Data types"), not an error.
//! - `ltrim` and `rtrim` take tabs and spaces, `trim` all white space. `indexof` gives -1 for no match, `regexp_substr`
//!   Undefined. `nanvl`'s NaN does not come up: what would be NaN or infinite is Undefined.
//! - `get_or_default` gives the default for Null and Undefined. `sourceip`, `principal` and `traceid` are Undefined
//!   where the message has none.
//! - `decode` gives Null for what is not base64 or not UTF-8; its padding may be missing. A scheme other than base64 is
//!   Undefined.
//! - Members of `transform`'s object replace those of the elements; above 128 KiB it is Undefined.
//! - Regular expressions and times: see the modules `function::pattern` and `time` for what differs from Java's.
//!
//! Payloads
//! - `SELECT *` alone passes the bytes as they came, whatever they are, also under a WHERE.
//! - `SELECT *, x AS k`: members of an object; nothing for an empty payload; else the key `payload` holds the JSON value, or
//!   base64 of what is not JSON. The page names no key.
//! - A payload nested deeper than 128 levels is taken for what is not JSON.
//! - `SELECT VALUE` of an array is Undefined in version 2015-10-08, which the page says came with 2016-03-23. Other faults
//!   of that version, which the page only calls "fixes", are not imitated. `beta` is 2016-03-23.
//! - Undefined or Null in a substitution template is the empty string.
//! - A statement is evaluated on any topic: callers route by [`Rule::topic_filter`], and by the rule's name for
//!   [Basic Ingest](BasicIngest), where AWS does not say that FROM is looked at.
//!
//! # Bounds
//! Statements have at most 256 KiB and 64 levels of nesting. An evaluation that takes more than four million
//! steps or makes a text of more than 1 MiB or a value of more than 256 levels is [given up](EvaluationError).

mod conversion;
mod error;
mod evaluation;
mod expression;
mod fold;
mod function;
mod json;
mod lexer;
mod message;
mod number;
mod operator;
mod output;
mod parser;
mod rule;
mod template;
mod time;
mod topic;
mod value;
mod version;

pub use error::{Error, EvaluationError};
pub use message::{Context, Message, MqttProperties};
pub use output::{Outcome, Output, Variables};
pub use rule::Rule;
pub use template::Template;
pub use topic::{BasicIngest, FilterError, TopicFilter};
pub use version::{SqlVersion, UnknownVersion};
