//! Added and removed lines of a summary, and whether they widen or narrow access.
//!
//! A line that is covered by a line of the other side is not new: `s3:GetObject` after `s3:*`, `10.0.0.0/8`
//! after `0.0.0.0/0`. So a narrowed wildcard is not reported as widening.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use crate::access::Row;
use crate::resolve::cidr::Block;

/// Added and removed lines of a summary, by their effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Lines that widen access.
    pub widened: Vec<Row>,
    /// Lines that narrow access.
    pub narrowed: Vec<Row>,
}

impl Lines {
    pub(super) fn of_permissions(old: BTreeSet<Row>, new: BTreeSet<Row>) -> Lines {
        // An added exception of `NotAction` or `NotResource` narrows, a removed one widens.
        let excepts = |row: &Row| {
            let column = [2, 3].into_iter().find(|it| excepted(row, *it).is_some())?;
            let (who, effect) = (row.first()?, row.get(1)?);
            Some((who.clone(), effect.clone(), column))
        };
        let common: BTreeSet<_> = old.iter().filter_map(excepts).collect();
        let common: BTreeSet<_> = new
            .iter()
            .filter_map(excepts)
            .filter(|it| common.contains(it))
            .collect();
        let opens = |row: &Row, others: &BTreeSet<Row>| {
            let allows = row.get(1).is_none_or(|effect| effect != "DENY");
            let is_one_of_several = excepts(row).is_some_and(|it| common.contains(&it))
                && !others.iter().any(|other| permits(row, other));
            allows != is_one_of_several
        };
        Lines::of(&old, &new, opens, permits)
    }

    pub(super) fn of_network(mut old: BTreeSet<Row>, mut new: BTreeSet<Row>) -> Lines {
        // The rule that replaces AWS's default egress opens nothing.
        let leads = |row: &Row| !row.iter().any(|column| column == "127.0.0.1/32");
        old.retain(leads);
        new.retain(leads);
        let opens = |row: &Row, _: &BTreeSet<Row>| row.last().is_none_or(|way| way != "no way");
        Lines::of(&old, &new, opens, reaches)
    }

    fn of(
        old: &BTreeSet<Row>,
        new: &BTreeSet<Row>,
        opens: impl Fn(&Row, &BTreeSet<Row>) -> bool,
        covers: impl Fn(&Row, &Row) -> bool,
    ) -> Lines {
        let mut lines = Lines::default();
        for (rows, others, comes) in [(new, old, true), (old, new, false)] {
            for row in rows {
                if others.iter().any(|other| covers(other, row)) {
                    continue;
                }
                let side = if opens(row, others) == comes {
                    &mut lines.widened
                } else {
                    &mut lines.narrowed
                };
                side.push(row.clone());
            }
        }
        lines.widened.sort();
        lines.narrowed.sort();
        lines
    }
}

/// The old rows with renamed logical IDs, so that a rename is not a change.
pub(super) fn renamed(rows: BTreeSet<Row>, renames: &IndexMap<String, String>) -> BTreeSet<Row> {
    if renames.is_empty() {
        return rows;
    }
    rows.into_iter()
        .map(|row| row.iter().map(|text| rename(text, renames)).collect())
        .collect()
}

/// Replaces whole words: old logical IDs by new ones.
pub(super) fn rename(text: &str, renames: &IndexMap<String, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let new = renames.iter().find(|(_, old)| *old == word);
        result.push_str(new.map_or(word, |(new, _)| new));
        let next = after.chars().next().map_or(0, char::len_utf8);
        result.push_str(&after[..next]);
        rest = &after[next..];
    }
    result
}

/// Whether a permission's row is covered by another one: principal, effect, action, resource, condition.
fn permits(wide: &Row, narrow: &Row) -> bool {
    let same = |column: usize| wide.get(column) == narrow.get(column);
    let within = |column: usize| match (wide.get(column), narrow.get(column)) {
        // Names of actions are case-insensitive.
        (Some(wide), Some(narrow)) if column == 2 => covers(
            &wide.to_ascii_lowercase(),
            &narrow.to_ascii_lowercase(),
            "not ",
        ),
        (Some(wide), Some(narrow)) => covers(wide, narrow, "NOT "),
        _ => same(column),
    };
    same(0) && same(1) && within(2) && within(3) && (wide.get(4).is_none() || same(4))
}

/// The pattern of `NotAction` or `NotResource` in a column.
fn excepted(row: &Row, column: usize) -> Option<&str> {
    row.get(column)?.strip_prefix("NOT ")
}

/// Whether a pattern covers another one; for exceptions of `NotAction` and `NotResource`, whether it is covered.
fn covers(wide: &str, narrow: &str, not: &str) -> bool {
    match (wide.strip_prefix(not), narrow.strip_prefix(not)) {
        (Some(wide), Some(narrow)) => matches(narrow, wide),
        (None, None) => matches(wide, narrow),
        _ => false,
    }
}

/// Whether a network row is covered by another one: kind, from, arrow, to, traffic.
fn reaches(wide: &Row, narrow: &Row) -> bool {
    let same = |column: usize| wide.get(column) == narrow.get(column);
    let within = |column: usize| match (wide.get(column), narrow.get(column)) {
        (Some(wide), Some(narrow)) if wide != narrow => {
            // A group without inline egress.
            if wide == "ANYWHERE" {
                return true;
            }
            match (Block::parse(wide), Block::parse(narrow)) {
                (Some(wide), Some(narrow)) => wide.contains(&narrow),
                _ => false,
            }
        }
        _ => same(column),
    };
    let traffic = match (wide.get(4), narrow.get(4)) {
        (Some(wide), Some(narrow)) => carries(wide, narrow),
        _ => same(4),
    };
    match wide.first().map(String::as_str) {
        Some("in") => same(0) && within(1) && same(3) && traffic,
        Some("out") => same(0) && same(1) && within(3) && traffic,
        _ => wide == narrow,
    }
}

/// Whether traffic such as `tcp 80-8080` covers other traffic such as `tcp 443`.
fn carries(wide: &str, narrow: &str) -> bool {
    let ports = |text: &str| -> Option<(String, u32, u32)> {
        let (protocol, ports) = text.split_once([' ', '/'])?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        Some((protocol.to_owned(), first.parse().ok()?, last.parse().ok()?))
    };
    if wide == narrow || wide == "all" || wide.starts_with("all ") {
        return true;
    }
    match (ports(wide), ports(narrow)) {
        (Some(wide), Some(narrow)) => {
            wide.0 == narrow.0 && wide.1 <= narrow.1 && narrow.2 <= wide.2
        }
        // A protocol without ports covers all ports.
        (None, Some(narrow)) => wide == narrow.0,
        _ => false,
    }
}

/// Whether a text with `*` covers another one, whose `*` only a `*` covers.
fn matches(wide: &str, narrow: &str) -> bool {
    if wide == narrow {
        return true;
    }
    let mut parts = wide.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = narrow.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return false;
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        text.split(' ').map(str::to_owned).collect()
    }

    fn check(before: &str, after: &str, widened: &[&str], narrowed: &[&str]) {
        let rows = |text: &str| text.split_terminator('\n').map(row).collect();
        let lines = if before.starts_with("in") || before.starts_with("out") {
            Lines::of_network(rows(before), rows(after))
        } else {
            Lines::of_permissions(rows(before), rows(after))
        };
        let texts = |rows: &[Row]| rows.iter().map(|row| row.join(" ")).collect::<Vec<_>>();
        assert_eq!(texts(&lines.widened), widened, "{before} → {after}");
        assert_eq!(texts(&lines.narrowed), narrowed, "{before} → {after}");
    }

    #[test]
    fn what_a_wildcard_covered_is_not_new() {
        let (all, one) = ("R allow s3:* arn:b/*", "R allow s3:GetObject arn:b/*");
        check(all, one, &[], &[all]);
        check(one, all, &[all], &[]);
        let every = "R allow s3:GetObject *";
        check(one, every, &[every], &[]);
        check(every, one, &[], &[every]);
    }

    #[test]
    fn another_principal_effect_or_condition_is_another_line() {
        let one = "R allow s3:GetObject arn:b/*";
        let other = "S allow s3:GetObject arn:b/*";
        check(one, other, &[other], &[one]);
        let when = "R allow s3:GetObject arn:b/* if";
        check(when, one, &[one], &[]);
        check(one, when, &[], &[one]);
        let deny = "R DENY s3:GetObject arn:b/*";
        check(deny, "", &[deny], &[]);
        check(&format!("{one}\n{deny}"), one, &[deny], &[]);
    }

    #[test]
    fn a_smaller_block_narrows_and_a_larger_one_widens() {
        let (all, ten) = ("in 0.0.0.0/0 → G tcp/80", "in 10.0.0.0/8 → G tcp/80");
        check(all, ten, &[], &[all]);
        check(ten, all, &[all], &[]);
        let port = "in 10.0.0.0/8 → G tcp/22";
        check(ten, port, &[port], &[ten]);
        let nowhere = "out G → 127.0.0.1/32 icmp";
        check(nowhere, "", &[], &[]);
    }

    #[test]
    fn fewer_exceptions_widen_and_more_narrow() {
        let rows = |rows: &[[&str; 4]]| -> BTreeSet<Row> {
            let row = |row: &[&str; 4]| row.iter().map(|text| (*text).to_owned()).collect();
            rows.iter().map(row).collect()
        };
        let check = |before: &[[&str; 4]], after: &[[&str; 4]], widened: usize, narrowed: usize| {
            let lines = Lines::of_permissions(rows(before), rows(after));
            assert_eq!(
                (lines.widened.len(), lines.narrowed.len()),
                (widened, narrowed),
                "{before:?} → {after:?}: {lines:?}"
            );
        };
        let but = |action| ["R", "allow", action, "*"];
        check(&[but("NOT s3:*")], &[but("NOT s3:Get*")], 1, 0);
        check(&[but("NOT s3:Get*")], &[but("NOT s3:*")], 0, 1);
        let both = [but("NOT s3:*"), but("NOT iam:*")];
        check(&both, &[but("NOT s3:*")], 1, 0);
        check(&[but("NOT s3:*")], &both, 0, 1);
        check(&[], &[but("NOT s3:*")], 1, 0);
    }

    #[test]
    fn names_of_actions_are_case_insensitive() {
        let one = "R allow kinesis:GetRecords arn:s";
        check(one, "R allow KINESIS:getrecords arn:s", &[], &[]);
    }

    #[test]
    fn fewer_ports_narrow_and_no_inline_egress_is_everywhere() {
        let row = |traffic: &str, to: &str| -> BTreeSet<Row> {
            let row = ["out", "G", "→", to, traffic].map(str::to_owned).to_vec();
            BTreeSet::from([row])
        };
        let check = |before: (&str, &str), after: (&str, &str), opens: bool, closes: bool| {
            let lines = Lines::of_network(row(before.0, before.1), row(after.0, after.1));
            assert_eq!(
                (!lines.widened.is_empty(), !lines.narrowed.is_empty()),
                (opens, closes),
                "{before:?} → {after:?}"
            );
        };
        let ten = "10.0.0.0/8";
        check(("tcp 80-8080", ten), ("tcp 80", ten), false, true);
        check(("tcp 80", ten), ("tcp 80-8080", ten), true, false);
        check(("tcp", ten), ("tcp 80", ten), false, true);
        check(("tcp 80", ten), ("udp 80", ten), true, true);
        let open = (
            "all (no inline egress rule: EC2 opens the group outward)",
            "ANYWHERE",
        );
        check(open, ("tcp 443", ten), false, true);
        check(("tcp 443", ten), open, true, false);
    }

    #[test]
    fn renaming_replaces_whole_words_only() {
        let renames = IndexMap::from([("Stream2".to_owned(), "Stream".to_owned())]);
        let text = "arn:aws:kinesis:stream/Stream ArchiveStream Stream";
        assert_eq!(
            rename(text, &renames),
            "arn:aws:kinesis:stream/Stream2 ArchiveStream Stream2"
        );
    }
}
