//! Organizations, and their invitations and members. Each is a function of the seed and its number.

use super::random::{Draw, Random};
use super::world::{DAY, HOUR, MINUTE, START, World};

const PLACES: [&str; 20] = [
    "Alder", "Birch", "Cedar", "Delta", "Ember", "Fjord", "Glade", "Harbor", "Island", "Juniper",
    "Kestrel", "Lagoon", "Meadow", "North", "Orchard", "Prairie", "Quarry", "River", "Summit",
    "Tundra",
];
const TRADES: [&str; 10] = [
    "Bakery",
    "Optics",
    "Logistics",
    "Press",
    "Robotics",
    "Gardens",
    "Cycles",
    "Ceramics",
    "Audio",
    "Foods",
];
const FIRST: [&str; 16] = [
    "ada", "ben", "chi", "dana", "eli", "fay", "gus", "hana", "ivo", "june", "kai", "lena", "milo",
    "nora", "omar", "pia",
];
const LAST: [&str; 16] = [
    "abbott", "bauer", "costa", "duarte", "evans", "fischer", "garcia", "haddad", "ito", "jensen",
    "kumar", "larsen", "moreau", "novak", "okafor", "petrov",
];

/// An organization.
pub(crate) struct Organization {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created_at: i64,
}

pub(crate) fn organization(world: World, index: u64) -> Organization {
    let mut random = Random::of(world.seed, Draw::Organization, index);
    let part = |words: &[&'static str], place: u64| {
        words.get(usize::try_from(place).unwrap_or(0) % words.len()).copied().unwrap_or_default()
    };
    Organization {
        id: organization_id(index),
        name: format!("{} {}", part(&PLACES, index % 20), part(&TRADES, index / 20)),
        created_at: START - random.between(200 * DAY, 900 * DAY),
    }
}

pub(crate) fn organization_id(index: u64) -> String {
    format!("org_{:03}", index + 1)
}

/// An invitation. If it is accepted while the demo runs, `will_accept` has the instant.
pub(crate) struct Invitation {
    pub(crate) id: String,
    pub(crate) organization_id: String,
    pub(crate) email: String,
    pub(crate) role: &'static str,
    pub(crate) created_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) accepted_at: Option<i64>,
    pub(crate) will_accept: Option<i64>,
}

/// How long an invitation is valid: two weeks.
const INVITATION: i64 = 14 * DAY;

pub(crate) fn invitation(world: World, index: u64) -> Invitation {
    let mut random = Random::of(world.seed, Draw::Invitation, index);
    let (mut accepted_at, mut will_accept) = (None, None);
    let organization = random.below(world.organizations());
    let email = format!("{}.{}{}@example.com", random.pick(&FIRST), random.pick(&LAST), index + 1);
    let role = if random.chance(15) { "admin" } else { "member" };
    let expires_at = match random.below(100) {
        // Accepted, long ago or lately: history, never deleted.
        0..45 => {
            let created_at = START - random.between(DAY, 400 * DAY);
            accepted_at = Some((created_at + random.between(HOUR, 10 * DAY)).min(START));
            created_at + INVITATION
        }
        // Open. A third is accepted in the days to come.
        45..55 => {
            let expires_at = START + random.between(0, INVITATION);
            will_accept = random.chance(33).then(|| START + random.between(0, expires_at - START));
            expires_at
        }
        // Expired within the retention of 30 days: some of them pass it every day.
        55..85 => START - random.between(0, 30 * DAY),
        // Nobody has ever cleaned up here.
        _ => START - random.between(30 * DAY, 150 * DAY),
    };
    Invitation {
        id: invitation_id(index),
        organization_id: organization_id(organization),
        email,
        role,
        created_at: expires_at - INVITATION,
        expires_at,
        accepted_at,
        will_accept,
    }
}

pub(crate) fn invitation_id(index: u64) -> String {
    format!("inv_{:05}", index + 1)
}

/// A membership. If it is renewed while the demo runs, `will_renew` has the instant and the new
/// expiry.
pub(crate) struct Membership {
    pub(crate) id: String,
    pub(crate) organization_id: String,
    pub(crate) user_id: String,
    pub(crate) role: &'static str,
    pub(crate) state: &'static str,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) expires_at: Option<i64>,
    pub(crate) will_renew: Option<(i64, i64)>,
}

pub(crate) fn membership(world: World, index: u64) -> Membership {
    let mut random = Random::of(world.seed, Draw::Membership, index);
    let organization = random.below(world.organizations());
    let role = if random.chance(10) { "admin" } else { "member" };
    let created_at = START - random.between(100 * DAY, 200 * DAY);
    let (fate, suspended) = (random.below(100), random.chance(12));
    let standing = if suspended { "suspended" } else { "active" };
    let mut will_renew = None;
    let (state, expires_at) = match fate {
        0..48 => (standing, None),
        48..55 => {
            ("invited", random.chance(50).then(|| START + random.between(-5 * DAY, 20 * DAY)))
        }
        55..60 => ("expired", Some(START - random.between(DAY, 90 * DAY))),
        // Expired, and nobody took note. The first sweep finds these.
        60..68 => (standing, Some(START - random.between(MINUTE, 60 * DAY))),
        _ => {
            // The first week is busy, because of a campaign a while ago.
            let within = if fate < 88 { 7 * DAY } else { 60 * DAY };
            let mut expires_at = START + random.between(1, within);
            // Three in ten are renewed in the day before, one in ten comes back some days after.
            let renewed_at = match random.below(10) {
                0..3 => Some(expires_at - random.between(MINUTE, DAY)),
                3 => Some(expires_at + random.between(HOUR, 3 * DAY)),
                _ => None,
            };
            let renewal = random.between(90 * DAY, 365 * DAY);
            match renewed_at {
                Some(at) if at <= START => expires_at += renewal,
                Some(at) => will_renew = Some((at, expires_at + renewal)),
                None => {}
            }
            (standing, Some(expires_at))
        }
    };
    Membership {
        id: membership_id(index),
        organization_id: organization_id(organization),
        user_id: format!("usr_{:05}", index + 1),
        role,
        state,
        created_at,
        updated_at: created_at,
        expires_at,
        will_renew,
    }
}

pub(crate) fn membership_id(index: u64) -> String {
    format!("mem_{:05}", index + 1)
}
