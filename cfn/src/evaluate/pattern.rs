//! Wildcards and policy variables (IAM User Guide: "IAM policy elements: Variables and tags").

use super::Keys;

/// One step of a pattern.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    /// A character of the policy.
    Literal(char),
    /// A character of a variable's value: not a wildcard, not a separator.
    Given(char),
    /// `*`
    Any,
    /// `?`
    One,
}

/// A text with wildcards and replaced variables.
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    /// Parses a pattern. `None` if a variable has neither value nor default: nothing matches.
    /// Without `keys` (policy language 2008-10-17), `${` is plain text.
    pub(super) fn parse(text: &str, keys: Option<&Keys>) -> Option<Pattern> {
        let mut tokens = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(keys) = keys
                && rest.starts_with("${")
                && let Some(end) = rest.find('}')
            {
                let value = variable(&rest[2..end], keys)?;
                tokens.extend(value.chars().map(Token::Given));
                rest = &rest[end + 1..];
                continue;
            }
            tokens.push(match first {
                '*' => Token::Any,
                '?' => Token::One,
                other => Token::Literal(other),
            });
            rest = &rest[first.len_utf8()..];
        }
        Some(Pattern(tokens))
    }

    /// Whether the whole text matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        glob(&self.0, text, false)
    }

    /// Whether the whole text matches, ignoring case.
    pub(super) fn matches_any_case(&self, text: &str) -> bool {
        glob(&self.0, text, true)
    }

    /// Whether an ARN matches. Its six parts match separately, so that a wildcard does not match a colon, except
    /// one at the end of the pattern.
    pub(super) fn matches_arn(&self, arn: &str) -> bool {
        let parts: Vec<&[Token]> = self
            .0
            .splitn(6, |token| *token == Token::Literal(':'))
            .collect();
        let most = if self.0.last() == Some(&Token::Any) {
            parts.len()
        } else {
            6
        };
        let texts: Vec<&str> = arn.splitn(most, ':').collect();
        parts.len() == texts.len()
            && parts
                .iter()
                .zip(texts)
                .all(|(part, text)| glob(part, text, false))
    }

    /// The text with `*` and `?` as plain characters.
    pub(super) fn text(&self) -> String {
        let char = |token: &Token| match token {
            Token::Literal(char) | Token::Given(char) => *char,
            Token::Any => '*',
            Token::One => '?',
        };
        self.0.iter().map(char).collect()
    }
}

/// A variable's value: `name`, `name, 'default'`, or an escape for `*`, `?` and `$`.
fn variable(expression: &str, keys: &Keys) -> Option<String> {
    let expression = expression.trim();
    if matches!(expression, "*" | "?" | "$") {
        return Some(expression.to_owned());
    }
    let (name, default) = match expression.split_once(',') {
        Some((name, default)) => (name.trim(), Some(default.trim().trim_matches('\''))),
        None => (expression, None),
    };
    match keys.get(name) {
        Some([value]) => Some(value.clone()),
        _ => default.map(str::to_owned),
    }
}

fn glob(pattern: &[Token], text: &str, any_case: bool) -> bool {
    let text: Vec<char> = text.chars().collect();
    let same = |left: char, right: char| match any_case {
        true => left.to_lowercase().eq(right.to_lowercase()),
        false => left == right,
    };
    let (mut at, mut position) = (0, 0);
    // Where to backtrack to: the last `*` matches one more character.
    let mut retry = None;
    while position < text.len() {
        match pattern.get(at) {
            Some(Token::Any) => {
                retry = Some((at, position));
                at += 1;
                continue;
            }
            Some(Token::One) => {
                at += 1;
                position += 1;
                continue;
            }
            Some(Token::Literal(char) | Token::Given(char)) if same(*char, text[position]) => {
                at += 1;
                position += 1;
                continue;
            }
            _ => {}
        }
        let Some((star, taken)) = retry else {
            return false;
        };
        retry = Some((star, taken + 1));
        at = star + 1;
        position = taken + 1;
    }
    pattern[at..].iter().all(|token| *token == Token::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_and_variables_match_as_in_iam() {
        let keys = Keys::new().with("iot:Connection.Thing.ThingName", "a*:b");
        for (pattern, text, expected) in [
            ("*", "*", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "a--b--b--c", true),
            ("a*b*c", "a--b--b--", false),
            ("x/${iot:Connection.Thing.ThingName}", "x/a*:b", true),
            ("x/${iot:Connection.Thing.ThingName}", "x/axx:b", false),
            ("${*}", "*", true),
            ("${*}", "a", false),
            ("${aws:username, 'nobody'}", "nobody", true),
        ] {
            let got = Pattern::parse(pattern, Some(&keys)).is_some_and(|it| it.matches(text));
            assert_eq!(got, expected, "{pattern} against {text}");
        }
        assert!(Pattern::parse("${aws:username}", Some(&keys)).is_none());
    }

    #[test]
    fn arns_match_part_by_part() {
        for (pattern, arn, expected) in [
            ("*", "arn:aws:s3:::b/k", true),
            ("arn:aws:s3:::b/*", "arn:aws:s3:::b/k/l", true),
            ("arn:aws:s3:::b*", "arn:aws:s3:::b/k", true),
            ("arn:aws:s3:::b", "arn:aws:s3:::b/k", false),
            (
                "arn:aws:logs:eu:1:log-group:g:*",
                "arn:aws:logs:eu:1:log-group:g:log-stream:s",
                true,
            ),
            ("arn:aws:iot:eu:1:*", "arn:aws:iot:eu:1:rule/R", true),
            ("arn:aws:iot:*:rule/R", "arn:aws:iot:eu:1:rule/R", false),
            ("arn:aws:iot:*", "arn:aws:iot:eu:1:rule/R", true),
            (
                "arn:aws:kinesis:*:1:stream/s",
                "arn:aws:kinesis:eu:1:stream/s",
                true,
            ),
            ("arn:aws:kinesis:eu:1:stream/s", "*", false),
        ] {
            let got = Pattern::parse(pattern, None).is_some_and(|it| it.matches_arn(arn));
            assert_eq!(got, expected, "{pattern} against {arn}");
        }
    }
}
