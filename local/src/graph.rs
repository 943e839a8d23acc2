//! The dependency graph over a template's resources, and the two ways through it: one after another,
//! and all that is ready at the same time.

use std::collections::{BTreeMap, BTreeSet};

use cfn::resolve::Resolved;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use indexmap::IndexMap;

/// Logical ID → what comes before it.
pub type Nodes = IndexMap<String, BTreeSet<String>>;

/// How a walk ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// What failed, in the order in which it did.
    pub failed: Vec<String>,
    /// What had begun when the walk was stopped.
    pub interrupted: Vec<String>,
}

/// The graph over some of a template's resources: an edge is a dependency, also one by way of resources
/// that are not among them.
pub fn among(resolved: &Resolved, is_among: impl Fn(&str) -> bool) -> Nodes {
    let mut nodes = Nodes::new();
    for id in resolved.resources.keys().filter(|id| is_among(id)) {
        let mut before = BTreeSet::new();
        let mut seen = BTreeSet::from([id.as_str()]);
        let mut open = vec![id.as_str()];
        while let Some(next) = open.pop() {
            let next = resolved.resource(next);
            for id in next.iter().flat_map(|it| &it.depends_on) {
                if !seen.insert(id) {
                    continue;
                }
                if is_among(id) {
                    before.insert(id.clone());
                } else {
                    open.push(id);
                }
            }
        }
        nodes.insert(id.clone(), before);
    }
    nodes
}

/// The nodes in an order in which each comes after what it depends on, otherwise as they are. A circle
/// is entered at its first node.
pub fn order(nodes: &Nodes) -> Vec<String> {
    let mut order: Vec<String> = Vec::with_capacity(nodes.len());
    let mut waiting: Vec<&String> = nodes.keys().collect();
    while !waiting.is_empty() {
        let is_ready = |id: &&String| {
            let mut before = nodes[*id].iter();
            before.all(|it| it == *id || !waiting.contains(&it))
        };
        let next = waiting.iter().position(is_ready).unwrap_or(0);
        order.push(waiting.remove(next).clone());
    }
    order
}

/// The nodes that depend on one of these, directly or not; without these themselves.
pub fn dependents(nodes: &Nodes, ids: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    loop {
        let more: Vec<&String> = nodes
            .iter()
            .filter(|(id, _)| !ids.contains(*id) && !found.contains(*id))
            .filter(|(_, before)| {
                before
                    .iter()
                    .any(|it| ids.contains(it) || found.contains(it))
            })
            .map(|(id, _)| id)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more.into_iter().cloned());
    }
}

/// Works on the nodes, each when all that comes before it is done. With `stops` the first failure ends it; otherwise only what comes after a failure is left out.
/// `cancelled` ends it as well.
pub async fn walk<'a>(
    nodes: Nodes,
    stops: bool,
    cancelled: impl Future<Output = ()>,
    work: impl Fn(String) -> BoxFuture<'a, Result<(), String>>,
) -> Walked {
    let mut waiting: BTreeMap<usize, (String, BTreeSet<String>)> = BTreeMap::new();
    let all: BTreeSet<String> = nodes.keys().cloned().collect();
    for (index, (id, mut before)) in nodes.into_iter().enumerate() {
        before.retain(|it| all.contains(it) && *it != id);
        waiting.insert(index, (id, before));
    }
    let mut running = FuturesUnordered::new();
    let mut begun: BTreeSet<String> = BTreeSet::new();
    let mut walked = Walked::default();
    tokio::pin!(cancelled);
    loop {
        let ready: Vec<usize> = waiting
            .iter()
            .filter(|(_, (_, before))| before.is_empty())
            .map(|(index, _)| *index)
            .collect();
        for index in ready {
            if let Some((id, _)) = waiting.remove(&index) {
                begun.insert(id.clone());
                let done = work(id.clone());
                running.push(async move { (id, done.await) });
            }
        }
        let (id, result) = tokio::select! {
            biased;
            next = running.next() => match next {
                Some(next) => next,
                None => break,
            },
            () = &mut cancelled => {
                walked.interrupted = begun.into_iter().collect();
                break;
            }
        };
        begun.remove(&id);
        match result {
            Ok(()) => {
                for (_, before) in waiting.values_mut() {
                    before.remove(&id);
                }
            }
            Err(_) => {
                walked.failed.push(id);
                if stops {
                    walked.interrupted = begun.into_iter().collect();
                    break;
                }
            }
        }
    }
    walked
}

/// The same with every dependency turned around: what depends on something comes before it.
pub fn reversed(nodes: &Nodes) -> Nodes {
    let mut reversed: Nodes = nodes
        .keys()
        .map(|id| (id.clone(), BTreeSet::new()))
        .collect();
    for (id, before) in nodes {
        for other in before {
            if let Some(after) = reversed.get_mut(other) {
                after.insert(id.clone());
            }
        }
    }
    reversed
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn nodes(edges: &[(&str, &[&str])]) -> Nodes {
        let owned = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect();
        edges
            .iter()
            .map(|(id, before)| ((*id).to_owned(), owned(before)))
            .collect()
    }

    async fn order(nodes: Nodes, fails: &str, stops: bool) -> (Vec<String>, Walked) {
        let seen = Mutex::new(Vec::new());
        let walked = walk(nodes, stops, std::future::pending(), |id| {
            seen.lock().unwrap().push(id.clone());
            let fails = id == fails;
            Box::pin(async move {
                match (fails, stops) {
                    (true, _) => Err(String::new()),
                    (false, false) => Ok(()),
                    // Still at work when the other fails.
                    (false, true) => std::future::pending().await,
                }
            })
        })
        .await;
        (seen.into_inner().unwrap(), walked)
    }

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn order_puts_each_after_what_it_needs_and_ends_on_a_circle() {
        let graph = nodes(&[("A", &["C"]), ("B", &[]), ("C", &["Elsewhere"])]);
        assert_eq!(super::order(&graph), ["B", "C", "A"]);
        let circle = nodes(&[("A", &["B"]), ("B", &["A"]), ("C", &["A"])]);
        assert_eq!(super::order(&circle), ["A", "B", "C"]);
    }

    #[test]
    fn dependents_are_found_at_every_distance() {
        let graph = nodes(&[("A", &["B"]), ("B", &["C"]), ("C", &[]), ("D", &[])]);
        assert_eq!(dependents(&graph, &ids(&["C"])), ids(&["A", "B"]));
        assert_eq!(dependents(&graph, &ids(&["A", "D"])), ids(&[]));
    }

    #[tokio::test]
    async fn each_comes_after_what_it_needs() {
        let graph = nodes(&[("A", &["B"]), ("B", &["C", "Elsewhere"]), ("C", &[])]);
        assert_eq!(order(graph.clone(), "", false).await.0, ["C", "B", "A"]);
        assert_eq!(order(reversed(&graph), "", false).await.0, ["A", "B", "C"]);
    }

    #[tokio::test]
    async fn failure_stops_everything_or_only_what_needs_it() {
        let graph = nodes(&[("A", &[]), ("B", &["A"]), ("C", &[]), ("D", &["C"])]);
        let (seen, walked) = order(graph.clone(), "A", true).await;
        assert_eq!(seen, ["A", "C"]);
        assert_eq!(
            (walked.failed, walked.interrupted),
            (vec!["A".to_owned()], vec!["C".to_owned()])
        );
        let (seen, walked) = order(graph, "A", false).await;
        assert_eq!(seen, ["A", "C", "D"]);
        assert!(walked.interrupted.is_empty());
    }
}
