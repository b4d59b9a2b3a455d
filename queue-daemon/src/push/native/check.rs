//! Does the destination still have what it was brought?
//!
//! In flow paths; out flows, for each, whether it can be had from there: its narinfo is there and is of this path, the
//! archive it names is there with the size it names, and all of that is true of everything it needs. Only reads, and
//! takes nobody's word but the destination's. The bytes of archives are not read back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use nix_types::cache_info::{CACHE_INFO, CACHE_INFO_BYTES_MAX};
use nix_types::{NarInfo, StorePath};
use object_kit::{KEY_MAX, Objects};
use service_kit::text::one_line;

use super::presence::Seen;
use super::{Native, faults};
use crate::delivery::FaultClass;
use crate::push::{Check, Checked, Fault, Whole, Work, keys};

/// Paths that one check looks at, closures included; what is beyond them is taken to be there.
const PATHS_MAX: usize = 200_000;
/// Archives that are asked for at once.
const ASKED_AT_ONCE: usize = 32;

impl Native {
    /// Looks at paths and everything they need, as far as that is not known to be whole.
    pub(super) async fn look_at(&self, paths: &[StorePath], whole: &mut Whole) -> Result<Checked, Fault> {
        let objects = self.place.open();
        self.may_be_asked(&*objects).await?;
        let mut graph = Graph::new(paths);
        loop {
            let asked = graph.unknown();
            if asked.is_empty() {
                break;
            }
            let all: Vec<&StorePath> = asked.iter().collect();
            let seen = self.ask_presence(&*objects, &all, &vec![true; all.len()]).await?;
            if graph.nodes.is_empty() {
                graph.unsigned = self.unsigned_of(&seen, &asked).await?;
            }
            let archives: Vec<Work<'_, Result<Node, Fault>>> =
                seen.into_iter().map(|seen| self.node(&*objects, seen)).collect();
            let found: Vec<Node> = stream::iter(archives).buffered(ASKED_AT_ONCE).try_collect().await?;
            graph.learn(found, whole);
        }
        if graph.paths.len() >= PATHS_MAX {
            tracing::warn!(destination = %self.id, "a check at {} left out paths beyond {PATHS_MAX}", self.id);
        }
        Ok(graph.judge(paths.len(), whole))
    }

    /// Which of the paths lack a signature of ours. Of a path that has left the store nothing is known.
    async fn unsigned_of(&self, seen: &[Seen], paths: &[StorePath]) -> Result<Vec<bool>, Fault> {
        let (files, store) = (self.keys.files().to_vec(), Arc::clone(&self.store));
        let (seen, paths) = (seen.to_vec(), paths.to_vec());
        let judged = tokio::task::spawn_blocking(move || {
            let keys = keys::read_all(&files)?;
            let judge = |(seen, path): (Seen, StorePath)| {
                let Seen::Says(narinfo) = seen else { return false };
                let info = if keys.is_empty() { None } else { store.path_info(&path).ok().flatten() };
                info.is_some_and(|info| Self::lacks_signature(&info, &narinfo, &keys))
            };
            Ok(seen.into_iter().zip(paths).map(judge).collect())
        });
        judged.await.expect("judging signatures does not panic: it returns its errors")
    }

    /// A server that answers 403 for what is absent answers so for everything once it does not know us any more.
    async fn may_be_asked(&self, objects: &dyn Objects) -> Result<(), Fault> {
        let found = objects.get(CACHE_INFO, CACHE_INFO_BYTES_MAX).await;
        let found = found.map_err(|error| faults::of_object(&error))?;
        if found.is_none() && objects.is_forbidding() {
            let why = format!(
                "{} lets us read nothing, not even {CACHE_INFO}: what is absent cannot be told from what may not be read",
                self.shown
            );
            return Err(Fault::failed(FaultClass::Unreachable, why));
        }
        Ok(())
    }

    fn node<'a>(&'a self, objects: &'a dyn Objects, seen: Seen) -> Work<'a, Result<Node, Fault>> {
        Box::pin(async move {
            Ok(match seen {
                Seen::Says(narinfo) => {
                    let fault = archive_fault(objects, &narinfo).await?;
                    Node { fault, needs: narinfo.references }
                }
                Seen::Useless(why) => Node::faulty(format!("its narinfo {}", one_line(&why))),
                Seen::Absent | Seen::There => Node::faulty("its narinfo is not there".into()),
            })
        })
    }
}

/// What is wrong with the archive a narinfo names, if anything is.
pub(super) async fn archive_fault(objects: &dyn Objects, narinfo: &NarInfo) -> Result<Option<String>, Fault> {
    let key = narinfo.url.as_str();
    let is_key = key.len() <= KEY_MAX && key.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !is_key {
        let shown: String = key.chars().take(200).collect();
        return Ok(Some(format!("its narinfo names an archive elsewhere, {}", one_line(&shown))));
    }
    let key_shown = one_line(key);
    let plain = narinfo.compression == "none";
    let meant = narinfo.file_size.or_else(|| plain.then_some(narinfo.nar_size));
    let head = objects.head(key).await.map_err(|error| faults::of_object(&error))?;
    Ok(match (head.map(|head| head.size), meant) {
        (None, _) => Some(format!("its archive {key_shown} is not there")),
        (Some(Some(has)), Some(meant)) if has != meant => {
            Some(format!("its archive {key_shown} has {has} bytes instead of {meant}"))
        }
        (Some(_), _) => None,
    })
}

/// What is known of one path.
#[derive(Debug)]
struct Node {
    fault: Option<String>,
    needs: Vec<StorePath>,
}

impl Node {
    fn faulty(why: String) -> Self {
        Self { fault: Some(why), needs: Vec::new() }
    }
}

/// Paths and what they need, as the destination says.
#[derive(Debug)]
struct Graph {
    /// Those that were asked for, then those they led to.
    paths: Vec<StorePath>,
    places: HashMap<StorePath, usize>,
    /// Of the first so many paths.
    nodes: Vec<Node>,
    /// Which of those that were asked for lack a signature of ours: no hole for what needs them.
    unsigned: Vec<bool>,
}

impl Graph {
    fn new(paths: &[StorePath]) -> Self {
        let places = paths.iter().cloned().enumerate().map(|(place, path)| (path, place)).collect();
        Self { paths: paths.to_vec(), places, nodes: Vec::new(), unsigned: Vec::new() }
    }

    /// The paths nothing is known of yet.
    fn unknown(&self) -> Vec<StorePath> {
        self.paths[self.nodes.len()..].to_vec()
    }

    /// Takes what was found of the unknown ones, in their order. What they need is to be found out next, unless it is
    /// whole.
    fn learn(&mut self, found: Vec<Node>, whole: &Whole) {
        for node in found {
            for path in &node.needs {
                let is_new = !self.places.contains_key(path) && !whole.has(path);
                if self.paths.len() < PATHS_MAX && is_new {
                    self.places.insert(path.clone(), self.paths.len());
                    self.paths.push(path.clone());
                }
            }
            self.nodes.push(node);
        }
    }

    /// A path is there when it has no fault and nothing that it needs has one. Adds what is whole.
    fn judge(&self, asked: usize, whole: &mut Whole) -> Checked {
        let faulty: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].fault.is_some()).collect();
        let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (user, node) in self.nodes.iter().enumerate() {
            for place in node.needs.iter().filter_map(|path| self.places.get(path)) {
                needed_by[*place].push(user);
            }
        }
        let mut cause: Vec<Option<usize>> = vec![None; self.nodes.len()];
        let mut next: VecDeque<usize> = faulty.iter().copied().collect();
        for place in &faulty {
            cause[*place] = Some(*place);
        }
        while let Some(place) = next.pop_front() {
            for user in &needed_by[place] {
                if cause[*user].is_none() {
                    cause[*user] = cause[place];
                    next.push_back(*user);
                }
            }
        }
        // Of a graph that was cut off nobody knows.
        if self.paths.len() < PATHS_MAX {
            let found = self.paths.iter().zip(&cause).filter(|(_, cause)| cause.is_none());
            found.for_each(|(path, _)| whole.add(path));
        }
        let checks = (0..asked).map(|place| self.check(place, cause[place])).collect();
        Checked { checks, lost: faulty.into_iter().map(|place| self.paths[place].clone()).collect() }
    }

    fn check(&self, place: usize, cause: Option<usize>) -> Check {
        let Some(at_fault) = cause else {
            let is_unsigned = self.unsigned.get(place).is_some_and(|unsigned| *unsigned);
            return if is_unsigned {
                Check::Missing("its narinfo lacks a signature of ours".into())
            } else {
                Check::There
            };
        };
        let why = self.nodes[at_fault].fault.as_deref().unwrap_or_default();
        if at_fault == place {
            return Check::Missing(why.to_owned());
        }
        Check::Missing(format!("it needs {}, which is not whole: {why}", self.paths[at_fault]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> StorePath {
        StorePath::parse_str(&format!("/nix/store/{number:032}-p")).expect("well-formed")
    }

    fn node(fault: Option<&str>, needs: &[usize]) -> Node {
        Node { fault: fault.map(str::to_owned), needs: needs.iter().map(|number| path(*number)).collect() }
    }

    #[test]
    fn a_hole_far_down_is_named_to_all_that_need_it_and_to_nobody_else() {
        let none = Whole::default();
        let mut graph = Graph::new(&[path(0), path(1), path(2)]);
        graph.learn(vec![node(None, &[0, 3]), node(None, &[1]), node(Some("gone"), &[])], &none);
        assert_eq!(graph.unknown(), [path(3)]);
        graph.learn(vec![node(None, &[4])], &none);
        graph.learn(vec![node(Some("its narinfo is not there"), &[])], &none);
        assert_eq!(graph.unknown(), []);
        let mut whole = Whole::default();
        let checked = graph.judge(3, &mut whole);
        let hole = format!("it needs {}, which is not whole: its narinfo is not there", path(4));
        assert_eq!(checked.checks, [Check::Missing(hole), Check::There, Check::Missing("gone".into())]);
        assert_eq!(checked.lost, [path(2), path(4)]);
        // The next time only what is whole is passed over, and the hole is met again.
        assert!(whole.has(&path(1)) && ![0, 2, 3, 4].iter().any(|number| whole.has(&path(*number))));
        let mut graph = Graph::new(&[path(5)]);
        graph.learn(vec![node(None, &[1, 3])], &whole);
        assert_eq!(graph.unknown(), [path(3)]);
    }
}
