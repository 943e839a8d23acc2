//! The layout of the source: which folder knows which, and what the table of resource types covers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Unit → the units that its files name. A unit is a folder, or a file beside the folders.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The first names of all paths into the package: of `use` lines and of paths in the code.
fn named(text: &str, package: &str) -> BTreeSet<String> {
    let is_name = |it: &char| it.is_ascii_alphanumeric() || *it == '_';
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|it| !it.trim_start().starts_with("//")) {
        for start in ["crate::", package] {
            for (_, rest) in line
                .match_indices(start)
                .map(|(at, it)| (at, &line[at + it.len()..]))
            {
                let names = rest.strip_prefix('{').unwrap_or(rest);
                found.insert(names.chars().take_while(is_name).collect());
            }
        }
    }
    // Lists over several lines: `use crate::{a, b::{c, d}};`
    for list in text.split("use crate::{").skip(1) {
        let list = list.split("};").next().unwrap_or_default();
        let mut depth = 0;
        for part in list.split_inclusive([',', '{', '}']) {
            if depth == 0 {
                found.insert(part.trim().chars().take_while(is_name).collect());
            }
            depth += part.matches('{').count();
            depth -= part.matches('}').count().min(depth);
        }
    }
    found
}

fn graph() -> Graph {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut graph = Graph::new();
    for path in sources(&root) {
        let inside = path.strip_prefix(&root).unwrap().to_str().unwrap();
        let first = inside.split('/').next().unwrap();
        let unit = first.trim_end_matches(".rs").to_owned();
        // The root names its modules and uses none of them.
        if unit != "lib" {
            let text = fs::read_to_string(&path).unwrap();
            graph
                .entry(unit)
                .or_default()
                .extend(named(&text, "local::"));
        }
    }
    let units: BTreeSet<String> = graph.keys().cloned().collect();
    for (unit, used) in &mut graph {
        used.retain(|it| units.contains(it) && it != unit);
    }
    graph
}

/// All that is reached from a unit.
fn reached(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(unit) = open.pop() {
        for next in &graph[&unit] {
            if reached.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    reached
}

#[test]
fn no_folder_is_in_an_import_circle() {
    let graph = graph();
    assert!(graph.contains_key("kinesis") && graph["lambda"].contains("part"));
    let circle: Vec<&String> = graph
        .keys()
        .filter(|unit| reached(&graph, unit).contains(*unit))
        .collect();
    assert!(circle.is_empty(), "these import one another: {circle:?}");
}

#[test]
fn services_know_neither_the_run_nor_the_command_line() {
    let graph = graph();
    let services = [
        "beanstalk",
        "elasticache",
        "event_source_mapping",
        "firehose",
        "iot",
        "kinesis",
        "lambda",
        "logs",
        "mqtt",
        "s3",
        "sqs",
    ];
    for service in services {
        for above in ["run", "service", "plan", "screen", "cli", "main", "watch"] {
            let reached = reached(&graph, service);
            assert!(!reached.contains(above), "{service} imports {above}");
        }
    }
    for (unit, used) in &graph {
        assert!(
            !used.contains("cli") || unit == "main",
            "{unit} imports cli"
        );
    }
}

#[test]
fn every_type_of_the_stages_templates_stands_in_the_table() {
    let stages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../snapshots");
    let mut types = BTreeSet::new();
    for stage in ["dev", "prod"] {
        for entry in fs::read_dir(stages.join(stage)).unwrap() {
            let path = entry.unwrap().path();
            if path.to_str().unwrap().ends_with(".template.snap") {
                let text = fs::read_to_string(path).unwrap();
                let lines = text.lines().map(str::trim);
                let types_of = lines.filter_map(|it| it.strip_prefix("\"Type\": \"AWS::"));
                types
                    .extend(types_of.map(|it| format!("AWS::{}", it.trim_end_matches(['"', ',']))));
            }
        }
    }
    assert!(types.len() > 30, "{types:?}");
    let unknown: Vec<&String> = types
        .iter()
        .filter(|it| !local::service::is_known(it))
        .collect();
    assert!(
        unknown.is_empty(),
        "say in local/src/service.rs what is done with {unknown:?}"
    );
}
