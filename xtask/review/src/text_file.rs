//! Emitted text line by line: what goes, what comes.

use crate::{Finding, TextFile, Weight};

/// Lines beyond which a change is only counted.
const MOST_LINES: usize = 60;

pub(crate) fn findings(file: &TextFile) -> Vec<Finding> {
    let (before, after) = (sections(&file.before), sections(&file.after));
    let mut findings = Vec::new();
    let mut names: Vec<&str> = after.iter().map(|(name, _)| *name).collect();
    names.extend(before.iter().map(|(name, _)| *name));
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let old = lines_of(&before, name);
        let new = lines_of(&after, name);
        let (weight, what) = match (old, new) {
            (None, Some(_)) => (Weight::Added, "comes"),
            (Some(_), None) => (Weight::Removed, "goes"),
            (Some(old), Some(new)) if old != new => (Weight::Changed, "changes"),
            _ => continue,
        };
        let weight = match weight {
            Weight::Changed if protects_less(old.unwrap_or_default(), new.unwrap_or_default()) => {
                Weight::Weakened
            }
            weight => weight,
        };
        if let Some((more, less)) = summary(&file.name) {
            findings.extend(summary_lines(
                old.unwrap_or_default(),
                new.unwrap_or_default(),
                more,
                less,
            ));
            continue;
        }
        let mut details = difference(old.unwrap_or_default(), new.unwrap_or_default());
        if details.len() > MOST_LINES {
            let more = details.len() - MOST_LINES;
            details.truncate(MOST_LINES);
            details.push(format!("… and {more} lines more"));
        }
        findings.push(Finding {
            weight,
            headline: format!("{} {what}", if name.is_empty() { "it" } else { name }),
            details,
            place: None,
        });
    }
    findings
}

/// What lines that come and lines that go mean in a summary of permissions or of the network.
fn summary(name: &str) -> Option<(Weight, Weight)> {
    if name.ends_with(".permissions") {
        Some((Weight::Widened, Weight::Narrowed))
    } else if name.ends_with(".reachability") {
        Some((Weight::Opened, Weight::Closed))
    } else {
        None
    }
}

fn summary_lines(old: &[&str], new: &[&str], more: Weight, less: Weight) -> Vec<Finding> {
    let finding = |weight, line: &str| {
        // What is denied, and where no way leads, is less.
        let is_less = line.contains(" DENY ") || line.contains("no way");
        let weight = match weight == more {
            true if is_less => less,
            false if is_less => more,
            _ => weight,
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        Finding {
            weight,
            headline: words.join(" "),
            details: Vec::new(),
            place: None,
        }
    };
    let key = |line: &&&str| !line.trim().is_empty();
    let come = new.iter().filter(key).filter(|line| !old.contains(line));
    let gone = old.iter().filter(key).filter(|line| !new.contains(line));
    let come = come.map(|line| finding(more, line));
    come.chain(gone.map(|line| finding(less, line))).collect()
}

/// What nginx does to protect; a line with one of them that goes, or is another, protects less.
const PROTECTING: &[&str] = &[
    "add_header",
    "allow",
    "client_max_body_size",
    "deny",
    "limit_",
    "proxy_hide_header",
    "return",
    "server_tokens",
];

/// Whether a line goes that protects.
fn protects_less(old: &[&str], new: &[&str]) -> bool {
    old.iter().any(|line| {
        let directive = line.trim_start();
        PROTECTING.iter().any(|known| directive.starts_with(known)) && !new.contains(line)
    })
}

/// The parts below lines such as `==> Procfile`.
fn sections(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("==> "), sections.last_mut()) {
            (Some(name), _) => sections.push((name, Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => sections.push(("", vec![line])),
        }
    }
    for (_, lines) in &mut sections {
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
    }
    sections
}

fn lines_of<'a>(sections: &'a [(&str, Vec<&'a str>)], name: &str) -> Option<&'a [&'a str]> {
    let section = sections.iter().find(|(it, _)| *it == name);
    section.map(|(_, lines)| lines.as_slice())
}

/// Lines that go (`−`) and come (`+`), by the longest common subsequence.
fn difference(old: &[&str], new: &[&str]) -> Vec<String> {
    // lengths[i][j]: of the longest common subsequence of old[i..] and new[j..].
    let mut lengths = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (i, before) in old.iter().enumerate().rev() {
        for (j, after) in new.iter().enumerate().rev() {
            lengths[i][j] = if before == after {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && lengths[i + 1][j] >= lengths[i][j + 1]) {
            lines.push(format!("− {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_and_comes_is_shown_by_file() {
        let file = TextFile {
            name: "bundle/http".to_owned(),
            before: "==> Procfile\nweb: a\n\n==> old.conf\nx\n".to_owned(),
            after: "==> Procfile\nweb: b\n".to_owned(),
        };
        let findings = findings(&file);
        let headlines: Vec<&str> = findings.iter().map(|it| it.headline.as_str()).collect();
        assert_eq!(headlines, ["Procfile changes", "old.conf goes"]);
        assert_eq!(findings[0].details, ["− web: a", "+ web: b"]);
    }

    #[test]
    fn lines_of_a_summary_widen_and_narrow() {
        let file = TextFile {
            name: "own-key/sensors-prod.permissions".to_owned(),
            before: "R  allow  kms:Decrypt  k\nS  DENY  s3:*  b\n".to_owned(),
            after: "R  allow  kms:*  k\n".to_owned(),
        };
        let findings = findings(&file);
        let told: Vec<_> = findings
            .iter()
            .map(|it| (it.weight, it.headline.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (Weight::Widened, "R allow kms:* k"),
                (Weight::Narrowed, "R allow kms:Decrypt k"),
                (Weight::Widened, "S DENY s3:* b"),
            ]
        );
    }

    #[test]
    fn protecting_line_that_goes_weakens() {
        let file = |after: &str| TextFile {
            name: "bundle/https".to_owned(),
            before: "==> a.conf\nadd_header Strict-Transport-Security x;\nproxy_pass y;\n"
                .to_owned(),
            after: after.to_owned(),
        };
        let weight = |after: &str| findings(&file(after))[0].weight;
        assert_eq!(weight("==> a.conf\nproxy_pass y;\n"), Weight::Weakened);
        let other = "==> a.conf\nadd_header Strict-Transport-Security x;\nproxy_pass z;\n";
        assert_eq!(weight(other), Weight::Changed);
    }

    #[test]
    fn lines_that_stay_are_not_shown() {
        assert_eq!(
            difference(&["a", "b", "c"], &["a", "c", "d"]),
            ["− b", "+ d"]
        );
        assert!(difference(&["a"], &["a"]).is_empty());
    }
}
