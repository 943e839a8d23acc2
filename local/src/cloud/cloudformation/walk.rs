//! Works on resources in the order of their dependencies, at the same time where there are none.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

/// What is to be worked on → what comes before it.
pub(super) type Nodes = indexmap::IndexMap<String, BTreeSet<String>>;

/// How a walk ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walked {
    /// What failed, in the order in which it did.
    pub(super) failed: Vec<String>,
    /// What had begun when the walk was stopped.
    pub(super) interrupted: Vec<String>,
}

/// Walks. With `stops` the first failure ends it; otherwise only what comes after a failure is left out.
/// `cancelled` ends it as well.
pub(super) async fn walk<'a>(
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
pub(super) fn reversed(nodes: &Nodes) -> Nodes {
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
