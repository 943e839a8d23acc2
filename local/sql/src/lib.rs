//! AWS IoT SQL: compile a statement once, evaluate it for each message.
//!
//! A [`Rule`] is a compiled statement of a topic rule, a [`Template`] a compiled field of an action.
//! Both are evaluated for a [`Message`]; everything else comes from a [`Context`].
//! This crate has no IO, no clock and no source of random numbers.
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
//! `rule`, `template`, `topic`, `message`, `output`, `error` and `version` are the public interface.
//! `lexer` → `parser` → `expression` compile a statement, with `fold` for constants; `evaluation` runs it
//! with `operator`, `conversion` and `function`, on the types of `value`, `number`, `json` and `time`.
//!
//! # Not supported
//! Functions that call another AWS service (`aws_lambda`, `get_dynamodb`, `get_registry_data`, `get_secret`,
//! `get_thing_shadow`, `machinelearning_predict`, `decode` of protobuf) are refused when the statement is
//! compiled, by name and position.
//!
//! # Choices
//! The behaviour where AWS's developer guide contradicts itself or is silent. "Page" is the guide's page on the
//! subject.
//!
//! Statements
//! - Precedence from loose to tight: OR, AND, NOT, comparisons, `+ -`, `* / %`, the sign `-`; operators of equal
//!   precedence from left to right. The page has no precedence; this is ANSI SQL's.
//! - AND and OR evaluate both operands: if one is neither a Boolean nor "true" or "false", the result is Undefined,
//!   as in the page's tables, also for `true OR Undefined`.
//! - WHERE fires for the Boolean true only, not for the string "true".
//! - IN, LIKE, BETWEEN, IS NULL, `[n]` and comments are not on the pages and are syntax errors.
//! - A minus can be a dash (`–`), as on the SELECT page. A trailing comma is an error before FROM, where a tutorial
//!   has one, and allowed in an object literal, where AWS's samples have one.
//! - `FROM` accepts single or double quotes; an unquoted filter, as on an old page, is an error.
//! - `value` is a keyword after SELECT if an operand follows, else a member: `SELECT value - 1` subtracts.
//! - The key of an expression without alias is the last name of a path, the name of a function in lower case, the name
//!   of a variable, or else the expression's text. An object literal without alias adds its members.
//! - `AS bar.baz` creates an object in an object. The last of equal keys wins, in the position of the first, also with
//!   `*`.
//! - In quoted text, a quote is doubled, and a backslash is a plain character.
//! - `${…}` in a string of SELECT is text: substitution is for the fields of actions.
//! - In a nested SELECT, names and `*` refer to the element; use variables of SET for the outer payload.
//!   Elements whose VALUE is Undefined are left out.
//! - An unset variable is a compile error. SET is allowed in both versions. Variables are evaluated once, before WHERE,
//!   and templates use the same values ([`Template::evaluate_with`]).
//!
//! Types
//! - Int divided by Int is an Int, truncated, by the operators' table; the SET page's example (23.89) is a Decimal. Division by zero is Undefined.
//! - A Decimal rounds half to even at 34 digits and keeps its scale (`1.5 + 1.5` is `3.0`). Above 9.99E999 it is
//!   Undefined, below 1E-999 zero. An Int beyond 34 digits becomes a Decimal.
//! - In version 2016-03-23, integers in payloads, literals and casts are Int; results of operators and functions have
//!   the type in their tables. `cast(true as Decimal)` is 1.0, as its table says.
//! - Decimal to Int rounds to the nearest (half away from zero) in implicit conversions, as in `get` and `topic`; it
//!   rounds down in `cast`, bit functions, `chr`, `lpad`, `rpad` and `trunc` by the page, and in `substring` by its
//!   examples. String to Int truncates in `get` and `topic`, and is like Decimal elsewhere.
//! - `NULL = NULL` is true, by the table of `<>`; the table of `=` has no such row.
//! - `cast` of a String to a String is the String; the page's row repeats the one for Booleans.
//! - An Undefined in an array keeps its index and is left out of JSON. Half of a surrogate pair becomes U+FFFD.
//! - Characters are Unicode code points in `length`, `substring`, `indexof` and `get`.
//!
//! Functions
//! - `concat(1)` is `"1"` and `concat(1, 2)` is `"12"`, as in the page's example, and not numbers; a single array stays
//!   an array. `get("abc", 1)` is "b": indices start at 0, as in the page's text. `bitnot(13)` is -14. `round(-1.5)` is -2, by the example.
//! - A wrong number of arguments is Undefined ("Data types"), not an error.
//! - `ltrim` and `rtrim` remove tabs and spaces, `trim` all white space. Without a match, `indexof` returns -1 and
//!   `regexp_substr` Undefined. NaN does not occur, also not in `nanvl`: NaN and infinities are Undefined.
//! - `get_or_default` returns the default for Null and Undefined. `sourceip`, `principal` and `traceid` are Undefined
//!   if the message has none.
//! - `decode` returns Null for text that is not base64, or not UTF-8 once decoded; padding may be missing. A scheme
//!   other than base64 is Undefined.
//! - Members of `transform`'s object replace those of the elements; above 128 KiB it is Undefined.
//! - Regular expressions and times: the modules `function::pattern` and `time` list the differences from Java.
//!
//! Payloads
//! - `SELECT *` alone passes any bytes unchanged, also with a WHERE.
//! - `SELECT *, x AS k` adds to the members of an object, or to nothing if the payload is empty; the key `payload` has
//!   any other JSON value, or base64 of other bytes. The page has no such key.
//! - A payload nested deeper than 128 levels is not JSON.
//! - `SELECT VALUE` of an array is Undefined in version 2015-10-08; by the page, 2016-03-23 added it. Other defects of
//!   that version, which the page calls "fixes", are not emulated. `beta` is 2016-03-23.
//! - Undefined or Null in a substitution template is the empty string.
//! - A statement is evaluated for any topic: callers route by [`Rule::topic_filter`], and by the rule's name for
//!   [Basic Ingest](BasicIngest), for which AWS does not document that FROM is used.
//!
//! # Limits
//! Statements have at most 256 KiB and 64 levels of nesting. An evaluation [fails](EvaluationError) beyond four
//! million steps, a text of 1 MiB or a value of 256 levels.

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
