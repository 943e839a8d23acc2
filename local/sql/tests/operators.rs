//! Every operator on every pair of types, conversions, and precedence.

mod support;

use iot_sql::SqlVersion;
use support::{check, value};

/// One operand of each type; `u` is absent from the payload.
const PAYLOAD: &str = r#"{"i": 7, "d": 2.5, "b": true, "t": "False", "n": "3", "s": "x", "a": [1], "o": {"k": 1}, "z": null}"#;
const OPERANDS: [&str; 10] = ["i", "d", "b", "t", "n", "s", "a", "o", "z", "u"];

/// The results of an operator, a line for each left operand; `·` is Undefined.
fn table(operator: &str) -> String {
    let line = |left: &&str| {
        let cell = |right: &&str| {
            value(
                &format!("{left} {operator} {right}"),
                SqlVersion::V20160323,
                PAYLOAD,
            )
            .replace("undefined", "·")
        };
        format!(
            "{left}: {}\n",
            OPERANDS.iter().map(cell).collect::<Vec<_>>().join(" ")
        )
    };
    OPERANDS.iter().map(line).collect()
}

#[test]
fn operators_give_what_the_tables_of_the_page_say() {
    let operators = [
        "AND", "OR", "=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%",
    ];
    let all: String = operators
        .iter()
        .map(|operator| format!("{operator}\n{}\n", table(operator)))
        .collect();
    let expected = include_str!("operators.txt").split_once("\n\n").unwrap().1;
    assert_eq!(all.trim_end(), expected.trim_end());
}

#[test]
fn not_and_the_sign_take_what_converts() {
    check(&[
        ("NOT b", PAYLOAD, "false"),
        ("NOT t", PAYLOAD, "true"),
        ("NOT i", PAYLOAD, "undefined"),
        ("NOT z", PAYLOAD, "undefined"),
        ("NOT u", PAYLOAD, "undefined"),
        ("-i", PAYLOAD, "-7"),
        ("-n", PAYLOAD, "-3"),
        ("-b", PAYLOAD, "undefined"),
        ("-u", PAYLOAD, "undefined"),
    ]);
}

#[test]
fn operators_bind_as_in_ansi_sql() {
    check(&[
        ("1 + 2 * 3", "", "7"),
        ("(1 + 2) * 3", "", "9"),
        ("10 - 4 - 3", "", "3"),
        ("100 / 10 / 5", "", "2"),
        ("7 % 4 * 2", "", "6"),
        ("2 * 7 % 4", "", "2"),
        ("-2 + 5", "", "3"),
        ("2 - -3", "", "5"),
        ("- - 2", "", "2"),
        ("1 + 1 = 2", "", "true"),
        ("1 < 2 = true", "", "true"),
        ("1 = 1 AND 2 = 3 OR 4 = 4", "", "true"),
        ("true OR false AND false", "", "true"),
        ("(true OR false) AND false", "", "false"),
        ("NOT 1 = 2", "", "true"),
        ("NOT false AND false", "", "false"),
        ("NOT NOT true", "", "true"),
        ("1 = 1 and not 2 = 2", "", "false"),
        ("'a' + 1 + 2", "", "\"a12\""),
        ("1 + 2 + 'a'", "", "\"3a\""),
        ("(50 - 32) * 5 / 9", "", "10"),
        ("(50 – 32) * 5 / 9", "", "10"),
    ]);
}

#[test]
fn equality_looks_at_values() {
    check(&[
        ("x = 1.0", r#"{"x": 1}"#, "true"),
        (
            "x = y",
            r#"{"x": [1, {"a": 1, "b": null}], "y": [1.0, {"b": null, "a": 1}]}"#,
            "true",
        ),
        (
            "x = y",
            r#"{"x": {"a": 1}, "y": {"a": 1, "b": 2}}"#,
            "false",
        ),
        ("x <> y", r#"{"x": [1, 2], "y": [2, 1]}"#, "true"),
        ("{'a': 1, 'b': missing} = {'a': 1}", "{}", "true"),
        ("NULL = x", r#"{"x": null}"#, "true"),
    ]);
}

#[test]
fn casts_follow_their_tables() {
    let payload = r#"{"i": 3, "zero": 0, "d": -1.5, "whole": 10.0, "b": true, "s": "5E-1", "t": "TRUE", "x": "abc",
        "a": [1, "x", null], "o": {"k": true}, "z": null, "n": "-2.5"}"#;
    check(&[
        ("cast(i as String)", payload, "\"3\""),
        ("cast(d as Nvarchar)", payload, "\"-1.5\""),
        ("cast(b as text)", payload, "\"true\""),
        ("cast(x as NTEXT)", payload, "\"abc\""),
        ("cast(a as varchar)", payload, r#""[1,\"x\",null]""#),
        ("cast(o as string)", payload, r#""{\"k\":true}""#),
        ("cast(z as string)", payload, "undefined"),
        ("cast(u as string)", payload, "undefined"),
        ("cast(i as Int)", payload, "3"),
        ("cast(d as Int)", payload, "-2"),
        ("cast(n as Integer)", payload, "-3"),
        ("cast(b as Int)", payload, "1"),
        ("cast(s as Int)", payload, "0"),
        ("cast(x as Int)", payload, "undefined"),
        ("cast(a as Int)", payload, "undefined"),
        ("cast(o as Int)", payload, "undefined"),
        ("cast(z as Int)", payload, "undefined"),
        ("cast(i as Decimal)", payload, "3"),
        ("cast(whole as Decimal)", payload, "10"),
        ("cast(d as Decimal)", payload, "-1.5"),
        ("cast(b as Decimal)", payload, "1.0"),
        ("cast(false as Decimal)", payload, "0.0"),
        ("cast(s as Decimal)", payload, "0.5"),
        ("cast('12.0' as Decimal)", payload, "12"),
        ("cast(z as Decimal)", payload, "undefined"),
        (
            "cast('0.1234567890123456789012345678901234' as Double)",
            payload,
            "0.12345678901234568",
        ),
        ("cast(i as Bool)", payload, "true"),
        ("cast(zero as Boolean)", payload, "false"),
        ("cast(d as Boolean)", payload, "true"),
        ("cast(t as Boolean)", payload, "true"),
        ("cast(x as Boolean)", payload, "undefined"),
        ("cast(a as Boolean)", payload, "undefined"),
        ("cast(z as Boolean)", payload, "undefined"),
    ]);
    let first = |expression| value(expression, SqlVersion::V20151008, payload);
    assert_eq!(first("cast(whole as Double)"), "10.0");
    assert_eq!(first("cast(b as Int)"), "1");
}

#[test]
fn implicit_conversions_round_as_their_tables_say() {
    check(&[
        ("get(a, 0.6)", r#"{"a": ["x", "y"]}"#, "\"y\""),
        ("get(a, '0.6')", r#"{"a": ["x", "y"]}"#, "\"x\""),
        ("get(a, '0')", r#"{"a": ["x", "y"]}"#, "\"x\""),
        ("get(a, true)", r#"{"a": ["x", "y"]}"#, "undefined"),
        ("'1e3' * 1", "", "1000"),
        ("'+1' * 1", "", "undefined"),
        ("'.5' * 1", "", "undefined"),
        ("'1.' * 1", "", "undefined"),
        ("'5E+3' * 1", "", "undefined"),
        ("'' * 1", "", "undefined"),
    ]);
}

#[test]
fn numbers_keep_34_digits() {
    let payload =
        r#"{"x": 1234567890123456789012345678901234, "y": 0.1234567890123456789012345678901234}"#;
    check(&[
        ("x", payload, "1234567890123456789012345678901234"),
        ("x + 1", payload, "1234567890123456789012345678901235"),
        ("y * 2", payload, "0.2469135780246913578024691357802468"),
        ("1.0 / 3", payload, "0"),
        ("1 / 3.5", payload, "0.2857142857142857142857142857142857"),
        ("1 / 0", payload, "undefined"),
        ("1 % 0", payload, "undefined"),
        ("1e999 * 10", payload, "undefined"),
        ("x * x", payload, "1.524157875323883675049535156256667E+66"),
    ]);
}
