//! Neither parser nor evaluator panics, loops or recurses without bound, whatever they are given.

mod support;

use iot_sql::{Outcome, Rule, SqlVersion, Template, TopicFilter};
use proptest::prelude::*;
use support::{Known, message};

/// Pieces of statements, so that many of the texts made of them compile.
const PIECES: &[&str] = &[
    "SELECT ",
    "VALUE ",
    "* ",
    "a",
    "b.c",
    " FROM 't/#'",
    " WHERE ",
    " AS x",
    ", ",
    "(",
    ")",
    "[",
    "]",
    "{'k': ",
    "}",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " = ",
    " <> ",
    " < ",
    " >= ",
    " AND ",
    " OR ",
    " NOT ",
    "CASE ",
    " WHEN ",
    " THEN ",
    " ELSE ",
    " END",
    "SET @v = ",
    "@v",
    "1",
    "2.5e3",
    "1E-999",
    "9999999999999999999999999999999999",
    "'s'",
    "\"q\"",
    "NULL",
    "true",
    "(SELECT VALUE * FROM ",
    "(SELECT a FROM b)",
    "get(",
    "concat(",
    "cast(",
    " AS Int)",
    "regexp_replace(",
    "regexp_matches(",
    "substring(",
    "trunc(",
    "parse_time(",
    "time_to_epoch(",
    "decode(",
    "encode(*, 'base64')",
    "'base64'",
    "transform('enrichArray', ",
    "lpad(",
    "replace(",
    "power(",
    "bitnot(",
    "topic(",
    "chr(",
    "${",
    "\n",
    "é",
    "😀",
];

const EXPRESSIONS: &[&str] = &[
    "a + b",
    "a - b",
    "a * b",
    "a / b",
    "a % b",
    "a = b",
    "a < b",
    "a AND b",
    "-a",
    "NOT a",
    "get(a, b)",
    "get(b, a)",
    "concat(a, b)",
    "substring(a, b)",
    "substring(a, b, c)",
    "replace(a, b, c)",
    "regexp_replace(a, b, c)",
    "regexp_substr(a, b)",
    "regexp_matches(a, b)",
    "lpad(a, b)",
    "indexof(a, b)",
    "trunc(a, b)",
    "power(a, b)",
    "mod(a, b)",
    "bitxor(a, b)",
    "bitnot(a)",
    "round(a)",
    "ceil(a)",
    "floor(a)",
    "abs(a)",
    "sign(a)",
    "exp(a)",
    "chr(a)",
    "topic(a)",
    "parse_time(a, b, c)",
    "parse_time('yyyy-DDD HH:mm:ss.SSS ZZ z GGG', a)",
    "time_to_epoch(a, b)",
    "time_to_epoch(a, 'yyyyMMdd[ HH[:mm]]')",
    "decode(a, 'base64')",
    "encode(a, 'base64')",
    "transform('enrichArray', a, b)",
    "cast(a AS Int)",
    "cast(a AS Decimal)",
    "cast(a AS Double)",
    "cast(a AS Bool)",
    "cast(a AS String)",
    "md5(a)",
    "upper(a)",
    "(SELECT VALUE * FROM a WHERE * = b)",
    "(SELECT b FROM a)",
    "CASE a WHEN b THEN 1 ELSE 2 END",
    "{'x': a, 'y': [b, c]}",
    "nanvl(a, b)",
    "get_or_default(a, b)",
    "a.b.c",
];

fn evaluate(sql: &str, payload: &[u8]) {
    for version in [SqlVersion::V20151008, SqlVersion::V20160323] {
        let message = message("t/é//x", payload);
        if let Ok(rule) = Rule::compile(sql, version) {
            if let Outcome::Fired(output) = rule.evaluate(&message, &Known::default()) {
                let _ = output.elements();
            }
            let _ = rule.variables(&message, &Known::default());
        }
        if let Ok(template) = Template::compile(sql, version) {
            let _ = template.evaluate(&message, &Known::default());
        }
    }
}

/// `exponent`: how many digits of it a number may have; with four it may be more than a Decimal holds.
fn json(exponent: usize) -> impl Strategy<Value = String> {
    let number =
        format!("-?[1-9][0-9]{{0,40}}(\\.[0-9]{{1,40}})?([eE][+-]?[0-9]{{1,{exponent}}})?");
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|bool| bool.to_string()),
        any::<i64>().prop_map(|int| int.to_string()),
        any::<f64>()
            .prop_filter("JSON has no NaN", |f| f.is_finite())
            .prop_map(|f| format!("{f:e}")),
        prop::string::string_regex(&number).expect("the pattern is valid"),
        "\\PC{0,12}".prop_map(|text| serde_json::Value::from(text).to_string()),
        "[-+0-9.eE:/ TZyMdHms()\\[\\]\\\\$*+?']{0,16}"
            .prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(("[abc]", inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_compiles_or_is_refused(sql in "\\PC{0,80}", payload in prop::collection::vec(any::<u8>(), 0..64)) {
        evaluate(&sql, &payload);
    }

    #[test]
    fn any_pieces_compile_or_are_refused(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24), payload in json(4)) {
        evaluate(&pieces.concat(), payload.as_bytes());
        evaluate(&format!("SELECT {}", pieces.concat()), payload.as_bytes());
    }

    #[test]
    fn any_values_can_be_arguments(
        expression in prop::sample::select(EXPRESSIONS), a in json(4), b in json(4), c in json(4),
    ) {
        let payload = format!("{{\"a\":{a},\"b\":{b},\"c\":{c}}}");
        let sql = format!("SELECT {expression} AS x FROM 't'");
        evaluate(&sql, payload.as_bytes());
        let rule = Rule::compile(&sql, SqlVersion::V20160323).unwrap();
        let message = message("t", payload.as_bytes());
        let Outcome::Fired(output) = rule.evaluate(&message, &Known::default()) else { panic!("gave up on {payload}") };
        let read: Result<serde_json::Value, _> = serde_json::from_slice(output.bytes());
        prop_assert!(read.is_ok() || String::from_utf8_lossy(output.bytes()).contains('E'), "{sql} on {payload}");
    }

    #[test]
    fn json_comes_through_equal(value in json(2)) {
        let rule = Rule::compile("SELECT VALUE {'v': v}.v FROM 't'", SqlVersion::V20160323).unwrap();
        let payload = format!("{{\"v\":{value}}}");
        let message = message("t", payload.as_bytes());
        let Outcome::Fired(output) = rule.evaluate(&message, &Known::default()) else { panic!("gave up on {payload}") };
        let again = format!("{{\"v\":{}}}", String::from_utf8_lossy(output.bytes()));
        prop_assume!(!output.bytes().is_empty());
        let same = Rule::compile("SELECT VALUE x = y FROM 't'", SqlVersion::V20160323).unwrap();
        let both = format!("{{\"x\":{},\"y\":{}}}", payload, again);
        let message = support::message("t", both.as_bytes());
        let Outcome::Fired(output) = same.evaluate(&message, &Known::default()) else { panic!("gave up on {both}") };
        prop_assert_eq!(output.bytes(), b"true");
    }

    #[test]
    fn any_filter_matches_or_is_refused(filter in "[a+#/$é]{0,12}", topic in "[a+#/$é]{0,12}") {
        if let Ok(filter) = TopicFilter::parse(&filter) {
            let _ = filter.matches(&topic);
        }
    }
}
