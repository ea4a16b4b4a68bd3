//! Whose a name is. Of the dropped-in files that give themselves one name, at most one has it.
//!
//! A name is bound to the component that first had it. A file does not get it by sorting first, or
//! by being copied into the folder. The same file with new bytes is a new version. A grant for one
//! digest is the app's own word, and comes before this.

use std::collections::BTreeSet;
use std::path::Path;

use crate::plugin_error::PluginError;

/// Whose a name was when the database was last open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    /// SHA-256, in hexadecimal digits.
    pub(crate) digest: String,
    /// The path of the file.
    pub(crate) source: String,
}

/// A file that gives itself the name.
pub(crate) type Claimant = Bound;

/// What becomes of the claims to one name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// This file has it. `is_news` when that is still to be written down.
    Owner { place: usize, is_news: bool },
    /// The grant is for one digest, and none of them has it: the grant refuses them.
    NotGranted,
    /// It belongs to a file that is not among them.
    Absent,
    /// Nobody had it before, and several files that differ want it.
    Contested,
}

/// Decides whose a name is. `is_there` tells whether there is a file at a path.
pub(crate) fn decide(
    claimants: &[Claimant],
    bound: Option<&Bound>,
    granted_digest: Option<&str>,
    is_there: impl Fn(&str) -> bool,
) -> Decision {
    let with = |digest: &str| claimants.iter().position(|claimant| claimant.digest == digest);
    if let Some(digest) = granted_digest {
        return match with(digest) {
            Some(place) => Decision::Owner { place, is_news: bound.is_none() },
            None => Decision::NotGranted,
        };
    }
    let Some(bound) = bound else {
        let digests: BTreeSet<&str> =
            claimants.iter().map(|claimant| claimant.digest.as_str()).collect();
        return match digests.len() {
            1 => Decision::Owner { place: 0, is_news: true },
            _ => Decision::Contested,
        };
    };
    if let Some(place) = claimants.iter().position(|claimant| claimant == bound) {
        return Decision::Owner { place, is_news: false };
    }
    if let Some(place) = with(&bound.digest) {
        return Decision::Owner { place, is_news: !is_there(&bound.source) };
    }
    // The same file with other bytes is a new version. So is a file with its file name, once the
    // folder was moved.
    let source = |claimant: &Claimant| claimant.source == bound.source;
    if let Some(place) = claimants.iter().position(source) {
        return Decision::Owner { place, is_news: true };
    }
    let mut of_its_name = (0..claimants.len()).filter(|place| {
        claimants.get(*place).is_some_and(|it| file_name(&it.source) == file_name(&bound.source))
    });
    match (of_its_name.next(), of_its_name.next()) {
        (Some(place), None) if !is_there(&bound.source) => Decision::Owner { place, is_news: true },
        _ => Decision::Absent,
    }
}

fn file_name(path: &str) -> Option<&std::ffi::OsStr> {
    Path::new(path).file_name()
}

/// Why a claimant does not have the name. `None` for the one that has it.
pub(crate) fn refusal(
    name: &str,
    claimants: &[Claimant],
    place: usize,
    decision: &Decision,
    bound: Option<&Bound>,
) -> Option<PluginError> {
    let claimant = claimants.get(place)?;
    let owner = match decision {
        Decision::NotGranted => return None,
        Decision::Owner { place: owner, .. } if *owner == place => return None,
        Decision::Owner { place: owner, .. } => claimants.get(*owner)?,
        Decision::Absent => bound?,
        Decision::Contested => {
            let others = claimants.iter().filter(|other| *other != claimant);
            return Some(PluginError::NameContested {
                what: claimant.source.clone(),
                name: name.to_string(),
                digest: claimant.digest.clone(),
                others: others
                    .map(|other| format!("{} (SHA-256 {})", other.source, other.digest))
                    .collect::<Vec<_>>()
                    .join(", "),
            });
        }
    };
    if owner.digest == claimant.digest {
        return Some(PluginError::Copy {
            what: claimant.source.clone(),
            name: name.to_string(),
            of: owner.source.clone(),
        });
    }
    Some(PluginError::NameTaken {
        what: claimant.source.clone(),
        name: name.to_string(),
        digest: claimant.digest.clone(),
        owner: owner.source.clone(),
        owner_digest: owner.digest.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(source: &str, digest: &str) -> Bound {
        Bound { digest: digest.to_string(), source: source.to_string() }
    }

    #[test]
    fn a_name_stays_with_the_component_that_had_it_first() {
        let owner = |place, is_news| Decision::Owner { place, is_news };
        let p = file("d/p", "1");
        // Claimants, who had it, the digest of the grant, the files that are there.
        let cases = [
            (vec![file("d/p", "1")], None, None, "d/p", owner(0, true)),
            (vec![file("d/a", "2"), file("d/p", "1")], None, None, "", Decision::Contested),
            (vec![file("d/a", "1"), file("d/p", "1")], None, None, "", owner(0, true)),
            (vec![file("d/a", "2"), file("d/p", "1")], Some(&p), None, "d/p", owner(1, false)),
            // A copy does not move it; a file that moved does.
            (vec![file("d/a", "1"), file("d/p", "1")], Some(&p), None, "d/p", owner(1, false)),
            (vec![file("d/a", "1")], Some(&p), None, "d/p", owner(0, false)),
            (vec![file("d/a", "1")], Some(&p), None, "", owner(0, true)),
            // A new version, in its place or in a folder that moved.
            (vec![file("d/p", "2")], Some(&p), None, "d/p", owner(0, true)),
            (vec![file("e/p", "2")], Some(&p), None, "", owner(0, true)),
            (vec![file("e/p", "2"), file("f/p", "3")], Some(&p), None, "", Decision::Absent),
            (vec![file("e/p", "2")], Some(&p), None, "d/p", Decision::Absent),
            // Removed, or damaged: its name is no stranger's.
            (vec![file("d/a", "2")], Some(&p), None, "", Decision::Absent),
            (vec![file("d/a", "2")], Some(&p), None, "d/p", Decision::Absent),
            // The old bytes elsewhere win over new bytes in its place.
            (vec![file("d/p", "2"), file("d/q", "1")], Some(&p), None, "d/p", owner(1, false)),
            // What the app says of a digest holds.
            (vec![file("d/a", "2"), file("d/p", "1")], Some(&p), Some("2"), "", owner(0, false)),
            (vec![file("d/a", "2"), file("d/p", "1")], None, Some("1"), "", owner(1, true)),
            (vec![file("d/p", "1")], Some(&p), Some("2"), "", Decision::NotGranted),
        ];
        for (claimants, bound, granted, there, expected) in cases {
            let found = decide(&claimants, bound, granted, |path| path == there);
            assert_eq!(found, expected, "{claimants:?} {bound:?} {granted:?} {there:?}");
        }
    }
}
