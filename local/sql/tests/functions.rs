//! Every function: the examples of AWS's page, and what it makes of each type.

mod support;

use iot_sql::{Message, MqttProperties, Rule, SqlVersion};
use support::{UUID, check, message, run, value};

const PAYLOAD: &str = r#"{"i": 7, "d": -2.5, "b": true, "n": "3.5", "s": "x y", "a": ["x"], "o": {"k": 1}, "z": null}"#;

/// Evaluates `function(x)` with `extra` arguments for each type: Int, Decimal, Boolean, numeric String, other
/// String, Array, Object, Null, Undefined.
#[track_caller]
fn types(function: &str, extra: &str, expected: [&str; 9]) {
    for (operand, expected) in ["i", "d", "b", "n", "s", "a", "o", "z", "u"]
        .into_iter()
        .zip(expected)
    {
        let expression = format!("{function}({operand}{extra})");
        assert_eq!(
            value(&expression, SqlVersion::V20160323, PAYLOAD),
            expected,
            "{expression}"
        );
    }
}

const U: &str = "undefined";

#[test]
fn numeric_functions_take_numbers_and_what_reads_as_one() {
    types("abs", "", ["7", "2.5", U, "3.5", U, U, U, U, U]);
    types("ceil", "", ["7", "-2", U, "4", U, U, U, U, U]);
    types("floor", "", ["7", "-3", U, "3", U, U, U, U, U]);
    types("round", "", ["7", "-3", U, "4", U, U, U, U, U]);
    types("sign", "", ["1", "-1", U, "1", U, U, U, U, U]);
    types("trunc", ", 0", ["7", "-2", U, "3", U, U, U, U, U]);
    types("mod", ", 2", ["1", "-0.5", U, "1.5", U, U, U, U, U]);
    types("remainder", ", '2'", ["1", "-0.5", U, "1.5", U, U, U, U, U]);
    types("power", ", 2", ["49.0", "6.25", U, "12.25", U, U, U, U, U]);
    types(
        "sqrt",
        "",
        [
            "2.6457513110645907",
            U,
            U,
            "1.8708286933869707",
            U,
            U,
            U,
            U,
            U,
        ],
    );
    types("bitand", ", 5", ["5", "5", U, "1", U, U, U, U, U]);
    types("bitor", ", 8", ["15", "-3", U, "11", U, U, U, U, U]);
    types("bitxor", ", 1", ["6", "-4", U, "2", U, U, U, U, U]);
    types("bitnot", "", ["-8", "2", U, "-4", U, U, U, U, U]);
    for function in [
        "acos", "asin", "atan", "cos", "cosh", "exp", "ln", "log", "sin", "sinh", "sqrt", "tan",
        "tanh",
    ] {
        for operand in ["b", "s", "a", "o", "z", "u"] {
            assert_eq!(
                value(
                    &format!("{function}({operand})"),
                    SqlVersion::V20160323,
                    PAYLOAD
                ),
                U,
                "{function}"
            );
        }
    }
}

#[test]
fn numeric_examples_of_the_page_hold() {
    check(&[
        ("abs(-5)", "", "5"),
        ("abs('-5.123')", "", "5.123"),
        ("acos(0)", "", "1.5707963267948966"),
        ("acos(2)", "", U),
        ("asin(0)", "", "0.0"),
        ("atan2(1, 0)", "", "1.5707963267948966"),
        ("bitand(13, 5)", "", "5"),
        ("bitor(8, 5)", "", "13"),
        ("bitxor(13, 5)", "", "8"),
        ("ceil(1.2)", "", "2"),
        ("ceil(-1.2)", "", "-1"),
        ("cos(0)", "", "1.0"),
        ("exp(1)", "", "2.718281828459045"),
        ("floor(-1.2)", "", "-2"),
        ("ln(0)", "", U),
        ("log(100)", "", "2.0"),
        ("log(-1)", "", U),
        ("mod(8, 3)", "", "2"),
        ("mod(8, 0)", "", U),
        ("Nanvl(8, 3)", "", "8"),
        ("nanvl(missing, 3)", "{}", "3"),
        ("nanvl('x', 3)", "", "\"x\""),
        ("power(2, 5)", "", "32.0"),
        ("power(-1, 0.5)", "", U),
        ("power(10, 1000)", "", U),
        ("rand()", "", "0.8231909191640703"),
        ("round(1.5)", "", "2"),
        ("round(-1.1)", "", "-1"),
        ("round(-1.5)", "", "-2"),
        ("sign(-7)", "", "-1"),
        ("sign(0)", "", "0"),
        ("sign(13)", "", "1"),
        ("sqrt(9)", "", "3.0"),
        ("trunc(2.3, 0)", "", "2"),
        ("trunc(2.3123, 2)", "", "2.31"),
        ("trunc(2.888, 2)", "", "2.88"),
        ("trunc(2.00, 5)", "", "2"),
        ("trunc(-2.888, -4)", "", "-2"),
        ("trunc(2.5, 99)", "", "2.5"),
        ("trunc('2.888', 2.9)", "", "2.88"),
        ("trunc(2.5, '1')", "", U),
        ("abs()", "", U),
        ("abs(1, 2)", "", U),
    ]);
}

#[test]
fn string_functions_convert_what_is_no_string() {
    types(
        "lower",
        "",
        [
            "\"7\"",
            "\"-2.5\"",
            "\"true\"",
            "\"3.5\"",
            "\"x y\"",
            r#""[\"x\"]""#,
            r#""{\"k\":1}""#,
            U,
            U,
        ],
    );
    types(
        "upper",
        "",
        [
            "\"7\"",
            "\"-2.5\"",
            "\"TRUE\"",
            "\"3.5\"",
            "\"X Y\"",
            r#""[\"X\"]""#,
            r#""{\"K\":1}""#,
            U,
            U,
        ],
    );
    types("length", "", ["1", "4", "4", "3", "3", "5", "7", U, U]);
    types("numbytes", "", ["1", "4", "4", "3", "3", "5", "7", U, U]);
    types(
        "startswith",
        ", 't'",
        [
            "false", "false", "true", "false", "false", "false", "false", U, U,
        ],
    );
    types(
        "endswith",
        ", 5",
        [
            "false", "true", "false", "true", "false", "false", "false", U, U,
        ],
    );
    types(
        "indexof",
        ", 'x'",
        ["-1", "-1", "-1", "-1", "0", "2", "-1", U, U],
    );
    types(
        "rpad",
        ", 1",
        [
            "\"7 \"",
            "\"-2.5 \"",
            "\"true \"",
            "\"3.5 \"",
            "\"x y \"",
            r#""[\"x\"] ""#,
            r#""{\"k\":1} ""#,
            U,
            U,
        ],
    );
    types(
        "substring",
        ", 1",
        [
            "\"\"",
            "\"2.5\"",
            "\"rue\"",
            "\".5\"",
            "\" y\"",
            r#""\"x\"]""#,
            r#""\"k\":1}""#,
            U,
            U,
        ],
    );
    types(
        "regexp_matches",
        ", 'x'",
        [
            "false", "false", "false", "false", "true", "true", "false", U, U,
        ],
    );
    types(
        "regexp_substr",
        ", '[a-z]+'",
        [U, U, "\"true\"", U, "\"x\"", "\"x\"", "\"k\"", U, U],
    );
    types(
        "replace",
        ", 'x', 1",
        [
            "\"7\"",
            "\"-2.5\"",
            "\"true\"",
            "\"3.5\"",
            "\"1 y\"",
            r#""[\"1\"]""#,
            r#""{\"k\":1}""#,
            U,
            U,
        ],
    );
    types(
        "regexp_replace",
        ", 'x', 'z'",
        [
            "\"7\"",
            "\"-2.5\"",
            "\"true\"",
            "\"3.5\"",
            "\"z y\"",
            r#""[\"z\"]""#,
            r#""{\"k\":1}""#,
            U,
            U,
        ],
    );
    types(
        "trim",
        "",
        [
            "\"7\"",
            "\"-2.5\"",
            "\"true\"",
            "\"3.5\"",
            "\"x y\"",
            r#""[\"x\"]""#,
            r#""{\"k\":1}""#,
            U,
            U,
        ],
    );
    types(
        "chr",
        "",
        ["\"\\u0007\"", U, U, "\"\\u0003\"", U, U, U, U, U],
    );
}

#[test]
fn string_examples_of_the_page_hold() {
    check(&[
        ("chr(65)", "", "\"A\""),
        ("chr(49)", "", "\"1\""),
        ("chr('65.9')", "", "\"A\""),
        ("chr(128)", "", U),
        ("chr(-1)", "", U),
        ("concat()", "", U),
        ("concat(1)", "", "\"1\""),
        ("concat([1])", "", "[1]"),
        ("concat([1, 2, 3], 4)", "", "[1,2,3,4]"),
        (
            "concat([1, 2, 3], \"hello\", [4, 5, 6])",
            "",
            "[1,2,3,\"hello\",4,5,6]",
        ),
        ("concat(\"con\", \"cat\")", "", "\"concat\""),
        ("concat(1, \"hello\")", "", "\"1hello\""),
        ("concat('a', missing)", "{}", U),
        ("endswith(\"cat\", \"at\")", "", "true"),
        ("endswith('cat', NULL)", "", U),
        ("indexof(\"abcd\", \"bc\")", "", "1"),
        ("indexof('äbc', 'c')", "", "2"),
        ("indexof('abc', 'z')", "", "-1"),
        ("length('€uro')", "", "4"),
        ("length(false)", "", "5"),
        ("numbytes('€')", "", "3"),
        ("lpad(\"hello\", 2)", "", "\"  hello\""),
        ("lpad(1, 3)", "", "\"   1\""),
        ("lpad('a', '1.9')", "", "\" a\""),
        ("lpad('a', -5)", "", "\"a\""),
        ("length(rpad('a', 5000))", "", "1001"),
        ("lpad('a', 'x')", "", U),
        ("lpad('a', true)", "", U),
        ("ltrim(\" \t h i \")", "", "\"h i \""),
        ("rtrim(\" h i \t \")", "", "\" h i\""),
        ("Trim(\" hi \")", "", "\"hi\""),
        ("replace(\"abcd\", \"bc\", \"x\")", "", "\"axd\""),
        ("replace(\"abcdabcd\", \"b\", \"x\")", "", "\"axcdaxcd\""),
        ("substring(\"012345\", 0)", "", "\"012345\""),
        ("substring(\"012345\", 2)", "", "\"2345\""),
        ("substring(\"012345\", 2.745)", "", "\"2345\""),
        ("substring(123, 2)", "", "\"3\""),
        ("substring(\"012345\", -1)", "", "\"012345\""),
        ("substring(true, 1.2)", "", "\"rue\""),
        ("substring(false, -2.411E247)", "", "\"false\""),
        ("substring(\"012345\", 1, 3)", "", "\"12\""),
        ("substring(\"012345\", -50, 50)", "", "\"012345\""),
        ("substring(\"012345\", 3, 1)", "", "\"\""),
        ("substring('äöü', 1, 2)", "", "\"ö\""),
        ("substring('abc', 'x')", "", U),
        ("substring('abc', 0, NULL)", "", U),
        ("upper([\"hello\"])", "", "\"[\\\"HELLO\\\"]\""),
    ]);
}

#[test]
fn regular_expressions_follow_the_page_and_java() {
    check(&[
        ("regexp_matches(\"aaaa\", \"a{2,}\")", "", "true"),
        ("regexp_matches(\"aaaa\", \"b\")", "", "false"),
        ("regexp_matches('a', '[')", "", U),
        ("regexp_matches('a', p)", r#"{"p": "["}"#, U),
        ("regexp_matches('a1', p)", r#"{"p": "\\d"}"#, "true"),
        ("regexp_matches('a1', '\\d')", "", "true"),
        ("regexp_replace(\"abcd\", \"bc\", \"x\")", "", "\"axd\""),
        ("regexp_replace(\"abcd\", \"b(.*)d\", \"$1\")", "", "\"ac\""),
        (
            "regexp_replace('abab', 'a(b)', '<$0$12>')",
            "",
            "\"<abb2><abb2>\"",
        ),
        ("regexp_replace('ab', '(?<x>a)', '${x}\\$')", "", "\"a$b\""),
        // What Java answers.
        ("regexp_replace('foobar', 'o*', '-')", "", "\"-f--b-a-r-\""),
        ("regexp_replace('abc', 'b*', '-')", "", "\"-a--c-\""),
        ("regexp_replace('äbä', 'b*', '-')", "", "\"-ä--ä-\""),
        ("regexp_replace('', 'b*', '-')", "", "\"-\""),
        ("regexp_matches('\u{663}', '\\d')", "", "false"),
        ("regexp_matches('\u{e9}', '[\\w]')", "", "false"),
        ("regexp_matches('\u{a0}', '\\S')", "", "true"),
        (r#"regexp_matches(x, 'a.b')"#, r#"{"x": "a\rb"}"#, "false"),
        (
            r#"regexp_matches(x, '(?s)a.b')"#,
            r#"{"x": "a\rb"}"#,
            "true",
        ),
        (r#"regexp_matches(x, 'a[.]b')"#, r#"{"x": "a\rb"}"#, "false"),
        ("regexp_matches('a', '(?P<n>a)')", "", U),
        ("regexp_replace('ab', 'a', '$1')", "", U),
        ("regexp_replace('ab', 'a', '$')", "", U),
        ("regexp_replace('ab', '[', 'x')", "", U),
        ("regexp_substr(\"hihihello\", \"hi\")", "", "\"hi\""),
        ("regexp_substr(\"hihihello\", \"(hi)*\")", "", "\"hihi\""),
        ("regexp_substr('a', 'b')", "", U),
        ("regexp_substr('a++b', '[a++]*')", "", "\"a++\""),
        ("regexp_substr('a++b', '\\+\\+')", "", "\"++\""),
        ("regexp_substr('ab', '(?i)B')", "", "\"b\""),
        ("regexp_matches('a.b', '\\Qa.b\\E')", "", "true"),
        ("regexp_matches('axb', '\\Qa.b\\E')", "", "false"),
        ("regexp_matches('(?=', '^\\Q(?=')", "", "true"),
        ("regexp_matches('\\Qa', '^\\\\Qa$')", "", "true"),
        ("regexp_matches('\u{a0}', '^[\\h]$')", "", "true"),
        ("regexp_matches('x', '^\\H$')", "", "true"),
        ("regexp_matches('\u{2028}', '^\\v$')", "", "true"),
        ("regexp_matches('\u{2028}', '^\\R$')", "", "true"),
    ]);
    for pattern in ["a(?=b)", "(?<!a)b", r"(a)\1", "a++", "[a-z]*+b", "(?>a)"] {
        let error = Rule::compile(
            &format!("SELECT regexp_matches(x, '{pattern}') FROM 'a'"),
            SqlVersion::V20160323,
        );
        assert!(
            error
                .unwrap_err()
                .message
                .contains("which AWS supports and this crate does not"),
            "{pattern}"
        );
    }
}

#[test]
fn hashes_are_in_lower_case_hexadecimal() {
    check(&[
        ("md2(\"hello\")", "", "\"a9046c73e00331af68917d3804f70655\""),
        ("md5(\"hello\")", "", "\"5d41402abc4b2a76b9719d911017c592\""),
        (
            "sha1('hello')",
            "",
            "\"aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d\"",
        ),
        (
            "sha224('')",
            "",
            "\"d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f\"",
        ),
        (
            "sha256('')",
            "",
            "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
        ),
        ("substring(sha384(''), 0, 8)", "", "\"38b060a7\""),
        ("substring(sha512(''), 0, 8)", "", "\"cf83e135\""),
        ("md5(true) = md5('true')", "", "true"),
        ("md5(NULL)", "", U),
        ("md5(missing)", "{}", U),
    ]);
}

#[test]
fn structures_are_read_and_made() {
    types(
        "isNull",
        "",
        [
            "false", "false", "false", "false", "false", "false", "false", "true", "false",
        ],
    );
    types(
        "isUndefined",
        "",
        [
            "false", "false", "false", "false", "false", "false", "false", "false", "true",
        ],
    );
    types("get", ", 0", [U, U, U, "\"3\"", "\"x\"", "\"x\"", U, U, U]);
    types("get", ", 'k'", [U, U, U, U, U, U, "1", U, U]);
    types(
        "get_or_default",
        ", 0",
        [
            "7",
            "-2.5",
            "true",
            "\"3.5\"",
            "\"x y\"",
            "[\"x\"]",
            "{\"k\":1}",
            "0",
            "0",
        ],
    );
    check(&[
        ("get([\"a\", \"b\", \"c\"], 1)", "", "\"b\""),
        ("get({\"a\":\"b\"}, \"a\")", "", "\"b\""),
        ("get('abc', 1)", "", "\"b\""),
        ("get('abc', 3)", "", U),
        ("get(['a'], -1)", "", U),
        ("get(['a'], NULL)", "", U),
        ("get(o, 1)", r#"{"o": {"1": 2}}"#, U),
        ("isUndefined(floor([1,2,3]))", "", "true"),
        ("isNull(Null)", "", "true"),
        ("get_or_default(abs('x'), 'none')", "", "\"none\""),
        (
            "transform('enrichArray', {'a': 1}, [{'a': 2, 'b': 3}])",
            "",
            r#"[{"a":1,"b":3}]"#,
        ),
        ("transform('enrichArray', {'a': 1}, [1])", "", U),
        ("transform('enrichArray', {'a': 1}, {})", "", U),
        ("transform('enrichArray', [], [])", "", U),
        ("transform('enrichArray', {}, [])", "", "[]"),
        ("transform('enricharray', {}, [])", "", U),
        (
            "transform('enrichArray', {'a': p}, [{}, {}])",
            &format!("{{\"p\": \"{}\"}}", "x".repeat(70_000)),
            U,
        ),
        (
            "transform('enrichArray', (select a, b from data2), (select value c from data2))",
            r#"{"data2": {"a": "first", "b": "second", "c": [{"x": 5}, {"x": 10}]}}"#,
            r#"[{"x":5,"a":"first","b":"second"},{"x":10,"a":"first","b":"second"}]"#,
        ),
    ]);
}

#[test]
fn values_are_encoded_and_decoded() {
    types(
        "encode",
        ", 'base64'",
        [
            "\"Nw==\"",
            "\"LTIuNQ==\"",
            "\"dHJ1ZQ==\"",
            "\"My41\"",
            "\"eCB5\"",
            "\"WyJ4Il0=\"",
            "\"eyJrIjoxfQ==\"",
            U,
            U,
        ],
    );
    check(&[
        (
            "decode('eyAidGVtcGVyYXR1cmUiOiAzMyB9Cg==', 'base64').temperature",
            "",
            "33",
        ),
        ("decode('aGVsbG8=', 'base64')", "", "\"hello\""),
        ("decode('aGVsbG8', 'base64')", "", "\"hello\""),
        ("decode('ODA=', 'base64') > 50", "", "true"),
        ("decode('%%%', 'base64')", "", "null"),
        ("decode('/w==', 'base64')", "", "null"),
        ("decode(NULL, 'base64')", "", "null"),
        ("decode(missing, 'base64')", "{}", U),
        ("decode('aGVsbG8=', 'hex')", "", U),
        ("encode('a', 'hex')", "", U),
        ("encode(*, 'base64')", "\u{1}not json", "\"AW5vdCBqc29u\""),
        (
            "decode(encode(*, 'base64'), 'base64')",
            "hello",
            "\"hello\"",
        ),
        (
            "decode(encode(*, 'base64'), 'base64').a",
            r#"{"a": 12345678901234567890.5}"#,
            "12345678901234567890.5",
        ),
    ]);
}

#[test]
fn the_message_is_described() {
    let user = [("k", "v1"), ("o", "w"), ("k", "v2")];
    let described = Message {
        principal: Some("ba67"),
        source_ip: Some("192.0.2.1"),
        trace_id: Some(UUID),
        mqtt: Some(MqttProperties {
            is_utf8: Some(true),
            content_type: Some("application/json"),
            response_topic: Some("answers"),
            correlation_data: Some(b"\x01\x02"),
            user: &user,
        }),
        ..message(
            "$aws/rules/BuildingManager/Buildings/Building5/Floor2/Room201/Lights",
            b"",
        )
    };
    let plain = Message {
        client_id: None,
        ..message("things/myThings/thingOne", b"")
    };
    for (expression, with, without) in [
        ("accountid()", "\"123456789012\"", "\"123456789012\""),
        ("clientid()", "\"device\"", "\"n/a\""),
        ("principal()", "\"ba67\"", ""),
        ("sourceip()", "\"192.0.2.1\"", ""),
        ("traceid()", "\"123e4567-e89b-42d3-a456-426614174000\"", ""),
        ("timestamp()", "1481825251155", "1481825251155"),
        (
            "newuuid()",
            "\"123e4567-e89b-42d3-a456-426614174000\"",
            "\"123e4567-e89b-42d3-a456-426614174000\"",
        ),
        ("sql_version()", "\"2016-03-23\"", "\"2016-03-23\""),
        (
            "topic()",
            "\"Buildings/Building5/Floor2/Room201/Lights\"",
            "\"things/myThings/thingOne\"",
        ),
        ("topic(1)", "\"Buildings\"", "\"things\""),
        ("topic(3)", "\"Floor2\"", "\"thingOne\""),
        ("topic(9)", "", ""),
        ("topic(0)", "", ""),
        ("topic('x')", "", ""),
        (
            "get_mqtt_property('content_type')",
            "\"application/json\"",
            "",
        ),
        ("get_mqtt_property('format_indicator')", "\"UTF8_DATA\"", ""),
        ("get_mqtt_property('response_topic')", "\"answers\"", ""),
        ("get_mqtt_property('correlation_data')", "\"AQI=\"", ""),
        ("get_mqtt_property('other')", "", ""),
        ("get_user_properties('k')", "[\"v1\",\"v2\"]", ""),
        ("get_user_properties('none')", "", ""),
        (
            "get_user_properties()",
            r#"[{"k":"v1"},{"o":"w"},{"k":"v2"}]"#,
            "",
        ),
    ] {
        let sql = format!("SELECT VALUE {expression}");
        let evaluate = |message| run(&sql, SqlVersion::V20160323, message).unwrap();
        assert_eq!(evaluate(&described), with, "{expression}");
        assert_eq!(evaluate(&plain), without, "{expression}");
    }
}

#[test]
fn times_are_written_and_read() {
    check(&[
        ("parse_time('yyyy', 0)", "", "\"1970\""),
        (
            "parse_time(p, t, z)",
            r#"{"p": "HH", "t": 0, "z": "Europe/Berlin"}"#,
            "\"01\"",
        ),
        ("parse_time('yyyy', '1500000000000', 'UTC')", "", "\"2017\""),
        ("parse_time('yyyy', 1e30)", "", U),
        ("parse_time('yyyy', 'x')", "", U),
        ("parse_time('yyyy', 0, 'Mars/Olympus')", "", U),
        ("parse_time('yyyy', 0, NULL)", "", U),
        ("parse_time('b', 0)", "", U),
        (
            "time_to_epoch('2020-04-03 09:45:18 UTC+01:00', 'yyyy-MM-dd HH:mm:ss VV')",
            "",
            "1585903518000",
        ),
        (
            "time_to_epoch('18 December 2015', 'dd MMMM yyyy')",
            "",
            "1450396800000",
        ),
        (
            "time_to_epoch(x, p)",
            r#"{"x": "1970-01-02", "p": "yyyy-MM-dd"}"#,
            "86400000",
        ),
        ("time_to_epoch('nope', 'yyyy-MM-dd')", "", U),
        ("time_to_epoch(19700102, 'yyyyMMdd')", "", "86400000"),
        ("time_to_epoch(NULL, 'yyyy')", "", U),
    ]);
}

#[test]
fn functions_of_the_second_version_are_refused_in_the_first() {
    for name in [
        "length",
        "indexof",
        "numbytes",
        "isUndefined",
        "transform",
        "encode",
        "decode",
        "parse_time",
        "time_to_epoch",
    ] {
        let error = Rule::compile(
            &format!("SELECT {name}(x, x, x) FROM 'a'"),
            SqlVersion::V20151008,
        )
        .unwrap_err();
        assert!(
            error.message.contains("needs SQL version 2016-03-23"),
            "{name}: {error}"
        );
    }
}
