//! What the objects of a set say of each other.

mod groups;
mod loops;
mod references;
mod sessions;

use std::collections::HashMap;

use super::kinds::{Identity, name_path};
use super::{Manifest, Note};

/// Checks all manifests against each other.
pub(super) fn check(manifests: &mut [Manifest<'_>]) {
    let mut found = duplicates(manifests);
    found.extend(references::check(manifests));
    found.extend(sessions::check(manifests));
    found.extend(groups::check(manifests));
    found.extend(loops::check(manifests));
    for (index, note) in found {
        manifests[index].add(note);
    }
}

fn duplicates(manifests: &[Manifest<'_>]) -> Vec<(usize, Note)> {
    let mut seen: HashMap<&Identity, &Manifest<'_>> = HashMap::new();
    let mut notes = Vec::new();
    for (index, manifest) in manifests.iter().enumerate() {
        if manifest.identity.name.is_empty() {
            continue;
        }
        match seen.get(&manifest.identity) {
            Some(first) => {
                let place = format!("{}:{}", first.file, first.first_line + 1);
                let message =
                    format!("is defined twice, first in the document at {place}: rename or remove one");
                notes.push((index, Note::error(name_path(), message)));
            }
            None => {
                seen.insert(&manifest.identity, manifest);
            }
        }
    }
    notes
}
