//! The places of all keys and values of a file: a tree parallel to the tree of values.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Range,
};

use conductor_runtime::wording::bare_or_quoted;

/// The places of a value and its key, as byte ranges, and of everything inside the value.
#[derive(Clone, Debug, Default)]
pub(super) struct SpanTree {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
    pub(super) inside: SpanChildren,
}

/// The contents of a value.
#[derive(Clone, Debug, Default)]
pub(super) enum SpanChildren {
    #[default]
    Nothing,
    Table(BTreeMap<String, SpanTree>),
    List(Vec<SpanTree>),
}

impl SpanTree {
    /// Returns the place of the value at `path`, or of its nearest parent.
    pub(super) fn value_at(&self, path: &[String]) -> Range<usize> {
        self.deepest(path).0.value.clone()
    }

    /// Returns the place of the key at the end of `path`, or of its nearest parent's value.
    pub(super) fn key_at(&self, path: &[String]) -> Range<usize> {
        self.exact_key(path).unwrap_or_else(|| self.value_at(path))
    }

    /// Returns the place of the key at the end of `path`, if the file has it.
    pub(super) fn exact_key(&self, path: &[String]) -> Option<Range<usize>> {
        let (place, depth) = self.deepest(path);
        (depth == path.len() && !place.key.is_empty()).then(|| place.key.clone())
    }

    /// Moves all places by the offset of their file in the text of all files.
    pub(super) fn shift(&mut self, by: usize) {
        for place in [&mut self.key, &mut self.value] {
            // An empty place is that of nothing.
            if place.start < place.end {
                *place = place.start + by..place.end + by;
            }
        }
        match &mut self.inside {
            SpanChildren::Nothing => {}
            SpanChildren::Table(table) => table.values_mut().for_each(|child| child.shift(by)),
            SpanChildren::List(list) => list.iter_mut().for_each(|child| child.shift(by)),
        }
    }

    /// Returns the last key of that name in the file, with its path.
    pub(super) fn last_named(&self, name: &str) -> Option<(Vec<String>, Range<usize>)> {
        let children: Vec<(String, &Self)> = match &self.inside {
            SpanChildren::Nothing => return None,
            SpanChildren::Table(table) => table
                .iter()
                .map(|(key, child)| (key.clone(), child))
                .collect(),
            SpanChildren::List(list) => list
                .iter()
                .enumerate()
                .map(|(index, child)| (index.to_string(), child))
                .collect(),
        };
        let own = children
            .iter()
            .filter(|(key, child)| key == name && !child.key.is_empty())
            .map(|(key, child)| (vec![key.clone()], child.key.clone()));
        let deeper = children.iter().filter_map(|(key, child)| {
            let (mut path, place) = child.last_named(name)?;
            path.insert(0, key.clone());
            Some((path, place))
        });
        own.chain(deeper).max_by_key(|(_, place)| place.start)
    }

    /// Returns the tree at this path of tables.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |tree, key| match &tree.inside {
            SpanChildren::Table(table) => table.get(*key),
            SpanChildren::Nothing | SpanChildren::List(_) => None,
        })
    }

    /// Returns the same, to be changed.
    pub(super) fn get_mut(&mut self, path: &[&str]) -> Option<&mut Self> {
        path.iter()
            .try_fold(self, |tree, key| match &mut tree.inside {
                SpanChildren::Table(table) => table.get_mut(*key),
                SpanChildren::Nothing | SpanChildren::List(_) => None,
            })
    }

    /// Overrides the places of inherited values with those of one's own values; tables are merged.
    pub(super) fn overlay(&mut self, own: Self) {
        (self.key, self.value) = (own.key, own.value);
        match (&mut self.inside, own.inside) {
            (SpanChildren::Table(below), SpanChildren::Table(above)) => {
                for (key, own) in above {
                    match below.entry(key) {
                        Entry::Vacant(vacant) => drop(vacant.insert(own)),
                        Entry::Occupied(mut inherited) => inherited.get_mut().overlay(own),
                    }
                }
            }
            (_, SpanChildren::Nothing) => {}
            (inside, own) => *inside = own,
        }
    }

    /// Formats the path as an operator would write it: `platform."api.eu".config.headers[2]`.
    pub(super) fn name(&self, path: &[String]) -> String {
        let mut name = String::new();
        for (depth, segment) in path.iter().enumerate() {
            let parent = self.deepest(&path[..depth]).0;
            if matches!(parent.inside, SpanChildren::List(_)) {
                name.push_str(&format!("[{segment}]"));
                continue;
            }
            if depth > 0 {
                name.push('.');
            }
            name.push_str(&bare_or_quoted(segment));
        }
        name
    }

    fn deepest(&self, path: &[String]) -> (&Self, usize) {
        let mut place = self;
        for (depth, segment) in path.iter().enumerate() {
            match place.child(segment) {
                Some(child) => place = child,
                None => return (place, depth),
            }
        }
        (place, path.len())
    }

    fn child(&self, segment: &str) -> Option<&Self> {
        match &self.inside {
            SpanChildren::Nothing => None,
            SpanChildren::Table(table) => table.get(segment),
            SpanChildren::List(list) => list.get(segment.parse::<usize>().ok()?),
        }
    }
}

/// Builds a path from its segments.
pub(super) fn path(segments: &[&str]) -> Vec<String> {
    segments
        .iter()
        .map(|segment| (*segment).to_owned())
        .collect()
}
