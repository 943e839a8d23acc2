//! Statements as a whole: what is selected, when a rule fires, and what payloads that are not JSON become.

mod support;

use iot_sql::{EvaluationError, Outcome, Rule, SqlVersion, Template};
use support::{Known, message, run};

const SECOND: SqlVersion = SqlVersion::V20160323;
const FIRST: SqlVersion = SqlVersion::V20151008;

/// `None`: the rule does not fire.
#[track_caller]
fn check(sql: &str, payload: &str, expected: Option<&str>) {
    assert_eq!(
        run(sql, SECOND, &message("a/b", payload.as_bytes())).as_deref(),
        expected,
        "{sql} on {payload}"
    );
}

const COLOR: &str = r#"{"color":"red","temperature":50}"#;

#[test]
fn members_are_selected_under_their_names() {
    for (sql, expected) in [
        ("SELECT color FROM 'a/b'", r#"{"color":"red"}"#),
        (
            "SELECT color AS my_color, temperature AS f FROM 'a/b'",
            r#"{"my_color":"red","f":50}"#,
        ),
        ("SELECT missing, color FROM 'a/b'", r#"{"color":"red"}"#),
        ("SELECT missing FROM 'a/b'", "{}"),
        (
            "SELECT color AS a, temperature AS a FROM 'a/b'",
            r#"{"a":50}"#,
        ),
        (
            "SELECT color AS state.reported.color, 1 AS state.n FROM 'a/b'",
            r#"{"state":{"reported":{"color":"red"},"n":1}}"#,
        ),
        (
            "SELECT *, 15 AS speed FROM 'a/b'",
            r#"{"color":"red","temperature":50,"speed":15}"#,
        ),
        (
            "SELECT *, 'blue' AS color FROM 'a/b'",
            r#"{"color":"blue","temperature":50}"#,
        ),
        (
            "SELECT 'blue' AS color, * FROM 'a/b'",
            r#"{"color":"red","temperature":50}"#,
        ),
        (
            "SELECT * AS all FROM 'a/b'",
            r#"{"all":{"color":"red","temperature":50}}"#,
        ),
        (
            "SELECT upper(color), temperature + 1 FROM 'a/b'",
            r#"{"upper":"RED","temperature + 1":51}"#,
        ),
        (
            "SELECT {'message': *, 'n': 1} FROM 'a/b'",
            r#"{"message":{"color":"red","temperature":50},"n":1}"#,
        ),
        ("SELECT VALUE color FROM 'a/b'", r#""red""#),
        ("SELECT VALUE missing FROM 'a/b'", ""),
        ("SELECT VALUE NULL FROM 'a/b'", "null"),
        ("SELECT VALUE * FROM 'a/b'", COLOR),
        ("SELECT value {\"c\": color} FROM 'a/b'", r#"{"c":"red"}"#),
        ("SELECT NULL AS n FROM 'a/b'", r#"{"n":null}"#),
        (
            "SELECT topic(1) AS from, 1 AS select FROM 'a/b'",
            r#"{"from":"a","select":1}"#,
        ),
        (
            "select color from 'a/b' where temperature >= 50",
            r#"{"color":"red"}"#,
        ),
    ] {
        check(sql, COLOR, Some(expected));
    }
}

#[test]
fn a_member_may_be_called_value_or_set() {
    let payload = r#"{"value": 2, "set": 3}"#;
    for (sql, expected) in [
        ("SELECT value FROM 'a'", r#"{"value":2}"#),
        ("SELECT value, set FROM 'a'", r#"{"value":2,"set":3}"#),
        ("SELECT value * 2 AS v FROM 'a'", r#"{"v":4}"#),
        ("SELECT value - 1 AS v FROM 'a'", r#"{"v":1}"#),
        ("SELECT value AS v FROM 'a'", r#"{"v":2}"#),
        ("SELECT VALUE value FROM 'a'", "2"),
        ("SELECT VALUE set FROM 'a'", "3"),
        ("SELECT VALUE (value + set) FROM 'a'", "5"),
        ("SELECT VALUE [value] FROM 'a'", "[2]"),
    ] {
        check(sql, payload, Some(expected));
    }
}

#[test]
fn only_true_fires() {
    for (condition, fires) in [
        ("true", true),
        ("temperature > 40", true),
        ("temperature > 50", false),
        ("temperature > 40 AND color <> 'red'", false),
        ("missing = 1", false),
        ("missing <> 1", false),
        ("NULL", false),
        ("1", false),
        ("'true'", false),
        ("isUndefined(missing) = true", true),
        ("color = 'red' OR missing > 5", false),
        ("regexp_matches(color, '^r')", true),
    ] {
        let sql = format!("SELECT color AS c FROM 'a/b' WHERE {condition}");
        check(&sql, COLOR, fires.then_some(r#"{"c":"red"}"#));
        let sql = format!("SELECT * FROM 'a/b' WHERE {condition}");
        check(&sql, COLOR, fires.then_some(COLOR));
    }
    check("SELECT color AS c FROM 'a/b' WHERE c = 'red'", COLOR, None);
}

#[test]
fn case_takes_the_first_equal_branch() {
    let sql = "SELECT CASE color WHEN 'green' THEN 'go' WHEN 'yellow' THEN 'caution' WHEN 'red' THEN 'stop' \
               ELSE 'you are not at a stop light' END AS instructions FROM 'a/b'";
    check(
        sql,
        r#"{"color":"yellow"}"#,
        Some(r#"{"instructions":"caution"}"#),
    );
    check(
        sql,
        r#"{"color":"blue"}"#,
        Some(r#"{"instructions":"you are not at a stop light"}"#),
    );
    check(sql, "{}", Some("{}"));
    check(
        "SELECT CASE x WHEN 1 THEN 'a' WHEN 1 THEN 'b' END AS r FROM 'a'",
        r#"{"x":1.0}"#,
        Some(r#"{"r":"a"}"#),
    );
    check(
        "SELECT CASE x WHEN 1 THEN 'a' END AS r FROM 'a'",
        r#"{"x":2}"#,
        Some("{}"),
    );
    check(
        "SELECT CASE x WHEN NULL THEN 'a' END AS r FROM 'a'",
        r#"{"x":null}"#,
        Some(r#"{"r":"a"}"#),
    );
    check(
        "SELECT CASE x > 1 WHEN true THEN CASE y WHEN 1 THEN 'b' END ELSE 'c' END AS r FROM 'a'",
        r#"{"x":2,"y":1}"#,
        Some(r#"{"r":"b"}"#),
    );
}

const SENSORS: &str = r#"{"e":[{"n":"temperature","u":"Cel","v":22.5},{"n":"light","u":"lm","v":135},{"u":"pH"}],"o":{"a":{"b":1}}}"#;

#[test]
fn nested_selects_look_into_arrays_and_objects() {
    for (expression, expected) in [
        ("(SELECT VALUE n FROM e)", r#"["temperature","light"]"#),
        (
            "(SELECT v FROM e WHERE n = 'temperature')",
            r#"[{"v":22.5}]"#,
        ),
        (
            "(SELECT v AS value, upper(u) AS unit FROM e WHERE v > 100)",
            r#"[{"value":135,"unit":"LM"}]"#,
        ),
        (
            "get((SELECT v FROM e WHERE n = 'temperature'), 0).v",
            "22.5",
        ),
        ("(SELECT * FROM e WHERE u = 'pH')", r#"[{"u":"pH"}]"#),
        (
            "(SELECT *, 1 AS x FROM e WHERE u = 'pH')",
            r#"[{"u":"pH","x":1}]"#,
        ),
        ("(SELECT a FROM o)", r#"{"a":{"b":1}}"#),
        ("(SELECT VALUE b FROM o.a)", "1"),
        ("(SELECT VALUE b FROM o.a WHERE b > 1)", ""),
        ("(SELECT a FROM missing)", ""),
        ("(SELECT VALUE (SELECT VALUE b FROM a) FROM o)", "1"),
        ("(SELECT VALUE * FROM [1, 2, 3] WHERE * > 1)", "[2,3]"),
        (
            "(SELECT v FROM (SELECT v FROM e WHERE v > 100))",
            r#"[{"v":135}]"#,
        ),
        ("(SELECT n FROM e WHERE n = 'none')", "[]"),
    ] {
        check(
            &format!("SELECT VALUE {expression} FROM 'a'"),
            SENSORS,
            Some(expected),
        );
    }
}

#[test]
fn literals_hold_expressions() {
    check(
        "SELECT {'latitude': get(lat_long, 0), 'longitude': get(lat_long, 1)} as lat_long FROM 'topic/subtopic'",
        r#"{"lat_long":[47.606,-122.332]}"#,
        Some(r#"{"lat_long":{"latitude":47.606,"longitude":-122.332}}"#),
    );
    check(
        "SELECT [lat,long] as lat_long FROM 'topic/subtopic'",
        r#"{"lat":47.696,"long":-122.332}"#,
        Some(r#"{"lat_long":[47.696,-122.332]}"#),
    );
    check(
        "SELECT VALUE {'a': missing, \"b\": [missing, NULL,],} FROM 'a'"
            .replace(",]", "]")
            .as_str(),
        "{}",
        Some(r#"{"b":[null]}"#),
    );
    check(
        "SELECT VALUE ['it''s', \"a\"\"b\"] FROM 'a'",
        "{}",
        Some(r#"["it's","a\"b"]"#),
    );
}

#[test]
fn variables_are_set_once_and_seen_everywhere() {
    check(
        "SET @c = (temperature - 32) * 5 / 9, @hot = @c > 5, @o = {'x': [@c]} \
         SELECT @c AS celsius, @hot, @o.x AS x, (SELECT VALUE * + @c FROM [1, 2]) AS sums FROM 'a/b' WHERE @hot",
        COLOR,
        Some(r#"{"celsius":10,"hot":true,"x":[10],"sums":[11,12]}"#),
    );
    check(
        "SET @a = 1 SELECT * FROM 'a/b' WHERE @a = 1",
        COLOR,
        Some(COLOR),
    );
}

#[test]
fn the_first_version_has_no_literals_and_keeps_the_decimal() {
    let first = |sql: &str, payload: &str| run(sql, FIRST, &message("a", payload.as_bytes()));
    assert_eq!(
        first("SELECT x FROM 'a'", r#"{"x":10.0}"#).as_deref(),
        Some(r#"{"x":10.0}"#)
    );
    assert_eq!(
        first("SELECT VALUE x FROM 'a'", r#"{"x":1}"#).as_deref(),
        Some("1")
    );
    assert_eq!(
        first("SELECT VALUE x FROM 'a'", r#"{"x":[1]}"#).as_deref(),
        Some("")
    );
    check("SELECT x FROM 'a'", r#"{"x":10.0}"#, Some(r#"{"x":10}"#));
    for sql in [
        "SELECT [1] AS a FROM 'a'",
        "SELECT {'a': 1} AS a FROM 'a'",
        "SELECT (SELECT a FROM b) AS a FROM 'a'",
        "SELECT cast(x AS Bool) FROM 'a'",
    ] {
        let error = Rule::compile(sql, FIRST).unwrap_err();
        assert!(error.message.contains("set AwsIotSqlVersion"), "{error}");
    }
}

#[test]
fn payloads_pass_byte_for_byte_when_nothing_is_added() {
    for payload in [
        &b"{ \"a\" : 1.0 , \"a\" : 2 }\n"[..],
        b"plain text",
        b"\x00\xff",
        b"",
        b"[1, 2]",
    ] {
        for sql in [
            "SELECT * FROM 'a'",
            "SELECT * FROM 'a' WHERE timestamp() > 12",
            "SET @x = a SELECT * FROM 'a'",
            "SELECT VALUE * FROM 'a'",
        ] {
            let rule = Rule::compile(sql, SECOND).unwrap();
            let Outcome::Fired(output) = rule.evaluate(&message("a", payload), &Known::default())
            else {
                panic!("{sql}")
            };
            assert_eq!(output.bytes(), payload);
        }
    }
}

#[test]
fn payloads_that_are_no_object_can_be_added_to() {
    check(
        "SELECT *, 1 AS x FROM 'a'",
        "\u{1}",
        Some(r#"{"payload":"AQ==","x":1}"#),
    );
    check("SELECT *, 1 AS x FROM 'a'", "", Some(r#"{"x":1}"#));
    check(
        "SELECT *, 1 AS x FROM 'a'",
        "[1]",
        Some(r#"{"payload":[1],"x":1}"#),
    );
    check(
        "SELECT encode(*, 'base64') AS data, timestamp() AS ts FROM 'a'",
        "\u{1}",
        Some(r#"{"data":"AQ==","ts":1481825251155}"#),
    );
    check(
        "SELECT * FROM 'a' WHERE device_type = 'thermostat'",
        "\u{1}",
        None,
    );
    check("SELECT device FROM 'a'", "80", Some("{}"));
    check(
        "SELECT decode(encode(*, 'base64'), 'base64') AS v FROM 'a' WHERE decode(encode(*, 'base64'), 'base64') > 50",
        "80",
        Some(r#"{"v":80}"#),
    );
}

#[test]
fn arrays_give_their_elements_to_a_batch() {
    let elements = |sql: &str, payload: &str| {
        let rule = Rule::compile(sql, SECOND).unwrap();
        let message = message("a", payload.as_bytes());
        let Outcome::Fired(output) = rule.evaluate(&message, &Known::default()) else {
            panic!("{sql}")
        };
        output.elements().map(|all| {
            all.iter()
                .map(|e| String::from_utf8_lossy(e).into_owned())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(
        elements("SELECT VALUE a FROM 'a'", r#"{"a":[1,{"b":2}]}"#),
        Some(vec!["1".into(), r#"{"b":2}"#.into()])
    );
    assert_eq!(
        elements("SELECT * FROM 'a'", "[1.0, \"x\"]"),
        Some(vec!["1.0".into(), "\"x\"".into()])
    );
    assert_eq!(elements("SELECT * FROM 'a'", "{}"), None);
    assert_eq!(elements("SELECT * FROM 'a'", "[1"), None);
}

#[test]
fn templates_take_any_expression_over_the_original_payload() {
    let payload = br#"{"device_id": "d1", "o": {"k": 2.5}, "z": null}"#;
    for (text, expected) in [
        ("plain", "plain"),
        ("", ""),
        ("${topic()}", "a/b"),
        ("sensors-${topic(2)}/${device_id}", "sensors-b/d1"),
        ("${parse_time('yyyy', 1500000000000, \"UTC\")}", "2017"),
        ("${get({'a}': 'x'}, 'a}')}!", "x!"),
        ("${o.k * 2}", "5.0"),
        ("${o}", "{\"k\":2.5}"),
        ("<${missing}${z}>", "<>"),
        ("$${topic(1)} $ {", "$a $ {"),
        (
            "${CASE device_id WHEN 'd1' THEN 'one' ELSE 'other' END}",
            "one",
        ),
    ] {
        let template = Template::compile(text, SECOND).unwrap();
        assert_eq!(
            template
                .evaluate(&message("a/b", payload), &Known::default())
                .unwrap(),
            expected,
            "{text}"
        );
        assert_eq!(
            template.as_constant().is_some(),
            !text.contains("${"),
            "{text}"
        );
    }
    for (text, column) in [
        ("${topic(", 9),
        ("ab ${", 6),
        ("${a b}", 5),
        ("${frob()}", 3),
        ("${@x}", 3),
    ] {
        assert_eq!(
            Template::compile(text, SECOND).unwrap_err().column,
            column,
            "{text}"
        );
    }
}

#[test]
fn templates_see_the_values_that_the_statement_found() {
    let rule = Rule::compile("SET @id = newuuid(), @d = device SELECT * FROM 'a'", SECOND).unwrap();
    let template = Template::compile_for("${@d}/${@id}", &rule).unwrap();
    let message = message("a", br#"{"device": "x\"y"}"#);
    let Outcome::Fired(output) = rule.evaluate(&message, &Known::default()) else {
        panic!("there is no WHERE")
    };
    let expected = format!("x\"y/{}", support::UUID);
    assert_eq!(
        template
            .evaluate_with(&message, &Known::default(), output.variables())
            .unwrap(),
        expected
    );
    let variables = rule.variables(&message, &Known::default()).unwrap();
    assert_eq!(
        template
            .evaluate_with(&message, &Known::default(), &variables)
            .unwrap(),
        expected
    );
}

#[test]
fn what_grows_without_bound_is_given_up() {
    let outcome = |sql: &str, payload: &str| {
        let rule = Rule::compile(sql, SECOND).unwrap();
        match rule.evaluate(&message("a", payload.as_bytes()), &Known::default()) {
            Outcome::Failed(error) => error,
            other => panic!("{sql}: {other:?}"),
        }
    };
    let doubling = |first: &str, double: fn(&str) -> String| {
        let mut sql = format!("SET @v0 = {first}");
        for n in 1..60 {
            sql += &format!(", @v{n} = {}", double(&format!("@v{}", n - 1)));
        }
        sql + " SELECT VALUE @v59 FROM 'a'"
    };
    let strings = doubling("x", |v| format!("{v} + {v}"));
    assert!(matches!(
        outcome(&strings, r#"{"x":"abc"}"#),
        EvaluationError::TooLarge(_)
    ));
    let arrays = doubling("[x]", |v| format!("[{v}, {v}]"));
    assert!(matches!(
        outcome(&arrays, r#"{"x":"abc"}"#),
        EvaluationError::TooLarge(_) | EvaluationError::TooMuchWork(_)
    ));
    let concatenated = doubling("[x]", |v| format!("concat({v}, {v})"));
    assert!(matches!(
        outcome(&concatenated, r#"{"x":1}"#),
        EvaluationError::TooMuchWork(_)
    ));
    let mut deep = "SET @v0 = [x]".to_owned();
    for n in 1..400 {
        deep += &format!(", @v{n} = [@v{}]", n - 1);
    }
    assert!(matches!(
        outcome(&(deep + " SELECT VALUE @v399 FROM 'a'"), "{}"),
        EvaluationError::TooDeep(_)
    ));
    let numbers = format!("{{\"a\":[{}1]}}", "1,".repeat(60_000));
    let crossed =
        "SET @a = a SELECT VALUE (SELECT VALUE (SELECT VALUE * FROM @a) FROM @a) FROM 'a'";
    assert!(matches!(
        outcome(crossed, &numbers),
        EvaluationError::TooMuchWork(_)
    ));
}

#[test]
fn a_rule_takes_what_from_matches_and_what_names_it() {
    let rule = Rule::compile("SELECT * FROM 'a/#'", SECOND).unwrap();
    assert!(rule.takes("a/b") && rule.takes("a/") && rule.takes("$aws/rules/Rule/x"));
    assert!(!rule.takes("a") && !rule.takes("b"));
    let unrouted = Rule::compile("SELECT *", SECOND).unwrap();
    assert!(unrouted.topic_filter().is_none() && !unrouted.takes("a"));
    assert!(unrouted.takes("$aws/rules/Rule/a"));
}

#[test]
fn the_deepest_that_is_allowed_is_evaluated() {
    let array = format!("{{\"x\":{}1{}}}", "[".repeat(127), "]".repeat(127));
    check("SELECT x FROM 'a' WHERE x = x", &array, Some(&array));
    for (open, close, expected) in [
        ("abs(", ")", "5"),
        ("(", ")", "-5"),
        ("CASE 1 WHEN 1 THEN ", " END", "-5"),
    ] {
        let expression = format!("{}x{}", open.repeat(30), close.repeat(30));
        check(
            &format!("SELECT VALUE ({expression}) FROM 'a'"),
            r#"{"x":-5}"#,
            Some(expected),
        );
    }
}
