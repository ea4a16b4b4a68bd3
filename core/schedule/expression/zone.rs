//! Time zones by their IANA names.

use chrono_tz::{TZ_VARIANTS, Tz};

use super::error::quoted;

/// A name that no zone of the IANA database has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{name}\" is not an IANA time zone; {}", advice(nearest))]
pub struct ZoneError {
    /// The name, escaped and cut to 40 characters.
    pub name: String,
    /// The names that come nearest, the best first; at most three, none when nothing is near.
    pub nearest: Vec<&'static str>,
}

/// Reads the IANA name of a time zone, `Europe/Berlin` or `UTC`. Case counts; blanks around it do
/// not.
///
/// # Errors
///
/// [`ZoneError`] with the nearest names, found also by the city alone (`berlin`, `New York`).
///
/// # Example
///
/// ```
/// assert_eq!(verger::parse_zone("Europe/Berlin")?, chrono_tz::Europe::Berlin);
/// let error = verger::parse_zone("Europe/Berlim").unwrap_err();
/// assert_eq!(error.to_string(), "\"Europe/Berlim\" is not an IANA time zone; did you mean Europe/Berlin?");
/// # Ok::<(), verger::ZoneError>(())
/// ```
pub fn parse_zone(name: &str) -> Result<Tz, ZoneError> {
    let name = name.trim();
    name.parse().map_err(|_| ZoneError { name: quoted(name), nearest: nearest(name) })
}

/// The zones whose name, or the last part of it, is a few edits away.
fn nearest(name: &str) -> Vec<&'static str> {
    const MOST_SHOWN: usize = 3;
    const LONGEST: usize = 40;
    if name.len() > LONGEST {
        return Vec::new();
    }
    let wanted = name.to_ascii_lowercase().replace(' ', "_");
    let allowed = (wanted.chars().count() / 4).max(1);
    let mut found: Vec<(usize, &'static str)> = TZ_VARIANTS
        .iter()
        .filter_map(|zone| {
            let known = zone.name();
            let lower = known.to_ascii_lowercase();
            let city = lower.rsplit('/').next().unwrap_or(&lower);
            let distance = edits(&wanted, &lower).min(edits(&wanted, city));
            (distance <= allowed).then_some((distance, known))
        })
        .collect();
    found.sort_unstable();
    // A perfect match but for case or the continent leaves nothing to guess.
    let exact = found.first().is_some_and(|(distance, _)| *distance == 0);
    found
        .into_iter()
        .filter(|(distance, _)| !exact || *distance == 0)
        .take(MOST_SHOWN)
        .map(|(_, known)| known)
        .collect()
}

/// How many characters have to be put in, taken out or changed to make `b` of `a` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let cost = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = cost;
            left = cost;
        }
        if let Some(start) = row.first_mut() {
            *start = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

fn advice(nearest: &[&str]) -> String {
    match nearest {
        [] => "names look like Europe/Berlin, America/New_York or UTC".to_owned(),
        [one] => format!("did you mean {one}?"),
        [first @ .., last] => format!("did you mean {} or {last}?", first.join(", ")),
    }
}
