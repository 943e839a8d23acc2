//! What a statement that does not compile is answered.

mod support;

use iot_sql::{Rule, SqlVersion};

#[track_caller]
fn check(sql: &str, line: usize, column: usize, message: &str) {
    let error = Rule::compile(sql, SqlVersion::V20160323).expect_err(sql);
    assert!(error.message.contains(message), "{sql}\n{error}");
    assert_eq!((error.line, error.column), (line, column), "{sql}\n{error}");
}

#[test]
fn a_mistake_is_shown_where_it_is() {
    for (sql, column, message) in [
        ("", 1, "got the end, expected SELECT"),
        ("INSERT x", 1, "got `INSERT`, expected SELECT"),
        ("SELECT", 7, "got the end, expected an expression"),
        ("SELECT FROM 'a'", 8, "got `FROM`, expected an expression"),
        (
            "SELECT a, FROM 'a'",
            11,
            "got `FROM`, expected an expression",
        ),
        (
            "SELECT * FROM topic/#",
            15,
            "expected a topic filter in single quotes",
        ),
        (
            "SELECT * FROM 'a/#/b'",
            15,
            "expected `#` as the whole last level",
        ),
        (
            "SELECT * FROM 'a' WHERE",
            24,
            "got the end, expected an expression",
        ),
        ("SELECT * FROM 'a' GROUP BY x", 19, "IoT SQL has no GROUP"),
        ("SELECT * FROM 'a' WHERE x IN (1)", 27, "IoT SQL has no IN"),
        (
            "SELECT * FROM 'a' WHERE x LIKE 'y'",
            27,
            "IoT SQL has no LIKE",
        ),
        ("SELECT * FROM 'a' WHERE x IS NULL", 27, "IoT SQL has no IS"),
        ("SELECT * FROM 'a' WHERE x != 1", 27, "write `<>`"),
        ("SELECT * FROM 'a' WHERE x == 1", 27, "write `=`"),
        ("SELECT * FROM 'a';", 18, "does not end with `;`"),
        ("SELECT /* x */ * FROM 'a'", 8, "no comments"),
        ("SELECT a[0] FROM 'a'", 9, "get(array, index)"),
        ("SELECT a.0 FROM 'a'", 10, "get(object, 'name')"),
        ("SELECT a.0b FROM 'a'", 10, "get(object, 'name')"),
        ("SELECT a b FROM 'a'", 10, "expected `,`, AS, FROM"),
        ("SELECT a AS 'b' FROM 'a'", 13, "a name, without quotes"),
        ("SELECT 'a FROM b", 8, "string is not closed"),
        ("SELECT (a FROM 'a'", 11, "expected an operator or `)`"),
        (
            "SELECT concat(a FROM 'a'",
            17,
            "expected an operator, `,` or `)`",
        ),
        (
            "SELECT lenght(a) FROM 'a'",
            8,
            "unknown function `lenght`: did you mean `length`?",
        ),
        (
            "SELECT frobnicate(a) FROM 'a'",
            8,
            "unknown function `frobnicate`",
        ),
        (
            "SELECT 1, aws_lambda('arn', *) FROM 'a'",
            11,
            "function `aws_lambda` is not supported: it calls another AWS service",
        ),
        ("SELECT get_dynamodb('t') FROM 'a'", 8, "get_dynamodb"),
        (
            "SELECT * FROM 'a' WHERE get_thing_shadow('x', 'y').state = 1",
            25,
            "get_thing_shadow",
        ),
        ("SELECT get_secret('x') FROM 'a'", 8, "get_secret"),
        (
            "SELECT get_registry_data('x') FROM 'a'",
            8,
            "get_registry_data",
        ),
        (
            "SELECT machinelearning_predict('x') FROM 'a'",
            8,
            "machinelearning_predict",
        ),
        (
            "SELECT decode(*, 'proto', 'b', 'k', 'f', 'm') FROM 'a'",
            8,
            "protobuf",
        ),
        (
            "SELECT transform(@m, a, b) FROM 'a'",
            18,
            "variable `@m` is not set before",
        ),
        (
            "SET @m = 'x' SELECT transform(@m, a, b) FROM 'a'",
            21,
            "is a literal",
        ),
        (
            "SELECT cast(a AS Float) FROM 'a'",
            18,
            "unknown type `float`",
        ),
        ("SELECT CASE a END FROM 'a'", 15, "got `END`, expected WHEN"),
        (
            "SELECT CASE a WHEN 1 THEN 2 FROM 'a'",
            29,
            "got `FROM`, expected END",
        ),
        (
            "SELECT VALUE a, b FROM 'a'",
            15,
            "SELECT VALUE takes one expression",
        ),
        (
            "SELECT SELECT a FROM b FROM 'a'",
            8,
            "stands in parentheses",
        ),
        ("SELECT (SELECT a) FROM 'a'", 17, "expected FROM"),
        ("SET SELECT * FROM 'a'", 5, "expected a variable"),
        ("SET @a = 1, @a = 2 SELECT * FROM 'a'", 13, "assigned once"),
        (
            "SET @a = @b, @b = 1 SELECT * FROM 'a'",
            10,
            "`@b` is not set before",
        ),
        (
            "SET @a = 1 SET @b = 1 SELECT * FROM 'a'",
            12,
            "SET stands once",
        ),
        ("SET @ä = 1 SELECT * FROM 'a'", 5, "ASCII letters"),
        ("SELECT 1e1000 AS x FROM 'a'", 8, "too large"),
        ("SELECT {a: 1} AS x FROM 'a'", 9, "a key in quotes"),
        ("SELECT ä ? FROM 'a'", 10, "unexpected character '?'"),
    ] {
        check(sql, 1, column, message);
    }
    check(
        "SELECT *\nFROM 'a'\nWHERE  tmie() > 1",
        3,
        8,
        "unknown function `tmie`",
    );
    let long = format!("SET @{} = 1 SELECT * FROM 'a'", "a".repeat(65));
    check(&long, 1, 5, "1 to 64");
}

#[test]
fn nesting_and_length_are_bounded() {
    for sql in [
        format!(
            "SELECT {}1{} FROM 'a'",
            "(".repeat(10_000),
            ")".repeat(10_000)
        ),
        format!("SELECT {}1 FROM 'a'", "- ".repeat(10_000)),
        format!("SELECT {}1 FROM 'a'", "NOT ".repeat(10_000)),
        format!(
            "SELECT {}1{} FROM 'a'",
            "[".repeat(10_000),
            "]".repeat(10_000)
        ),
        format!(
            "SELECT {}1{} FROM 'a'",
            "abs(".repeat(10_000),
            ")".repeat(10_000)
        ),
        format!("SELECT {} FROM 'a'", "CASE ".repeat(10_000)),
        format!("SELECT {} FROM 'a'", "(SELECT ".repeat(10_000)),
    ] {
        let error = Rule::compile(&sql, SqlVersion::V20160323).unwrap_err();
        assert!(error.message.contains("deeper than 64 levels"), "{error}");
    }
    let long = format!("SELECT '{}' AS x FROM 'a'", "x".repeat(300_000));
    assert!(
        Rule::compile(&long, SqlVersion::V20160323)
            .unwrap_err()
            .message
            .contains("262144")
    );
    let chain = format!(
        "SELECT * FROM 'a' WHERE {} false",
        "x = 1 OR ".repeat(20_000)
    );
    assert!(Rule::compile(&chain, SqlVersion::V20160323).is_ok());
    let path = format!("SELECT a{} AS x FROM 'a'", ".a".repeat(100_000));
    assert!(Rule::compile(&path, SqlVersion::V20160323).is_ok());
}

#[test]
fn the_line_is_shown_with_a_caret() {
    let error = Rule::compile(
        "SELECT *\nFROM 'a' WHERE lenght(x) > 1",
        SqlVersion::V20160323,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown function `lenght`: did you mean `length`? (line 2, column 16)\n\
         \x20 | FROM 'a' WHERE lenght(x) > 1\n\
         \x20 |                ^"
    );
    let far = format!("SELECT {} lenght(x) FROM 'a'", "abcdefgh,".repeat(100));
    let text = Rule::compile(&far, SqlVersion::V20160323)
        .unwrap_err()
        .to_string();
    let lines: Vec<_> = text.lines().collect();
    let caret = lines[2].find('^').unwrap();
    assert_eq!(&lines[1][caret..caret + 6], "lenght");
    assert!(lines[1].len() < 150);
}
