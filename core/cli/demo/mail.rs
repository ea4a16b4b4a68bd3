//! Messages handed to mail providers, and the webhook events that report on them. Each is a
//! function of the seed and its number.
//!
//! Normally the app has committed the delivery of a message before the provider reports on it. Some
//! providers are faster than that commit. Their events come first, as orphans, and some of those
//! deliveries come hours late. A few never come.

use super::people::organization_id;
use super::random::{Draw, Random};
use super::world::{DAY, HOUR, MINUTE, SECOND, SLOT, START, World, end_of_slot};

const PROVIDERS: [&str; 3] = ["northmail", "quickpost", "relaypoint"];

/// How long before the start the oldest event came. That is longer than an orphan is looked for.
const HISTORY: i64 = 10 * DAY;

/// What becomes of the delivery of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    Late,
    Never,
    /// Its events do not say which message they report on.
    Malformed,
}

/// A message handed to a provider.
pub(crate) struct Message {
    pub(crate) delivery_id: String,
    pub(crate) organization_id: String,
    pub(crate) provider: &'static str,
    pub(crate) provider_message_id: String,
    /// When the app committed the delivery. `None` for never.
    pub(crate) committed_at: Option<i64>,
    pub(crate) malformed: bool,
    kind: &'static str,
}

/// A webhook event as it came.
pub(crate) struct Report {
    pub(crate) id: String,
    pub(crate) idempotency_key: String,
    pub(crate) message: Message,
    pub(crate) kind: &'static str,
    pub(crate) occurred_at: i64,
    pub(crate) inserted_at: i64,
    pub(crate) payload: String,
    pub(crate) metadata: String,
}

impl Report {
    /// The delivery, when it was there before the event.
    pub(crate) fn delivery_id(&self) -> Option<&str> {
        let known = !self.message.malformed
            && self.message.committed_at.is_some_and(|at| at <= self.inserted_at);
        known.then_some(self.message.delivery_id.as_str())
    }
}

/// When an event comes in. Before the start the events are spread evenly. After it they are spread
/// evenly over the slots, and at random within each.
pub(crate) fn reported_at(world: World, event: u64) -> i64 {
    let mut random = Random::of(world.seed, Draw::Event, event);
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let before = world.events_before();
    if event < before {
        let step = HISTORY / signed(before).max(1);
        return START - HISTORY + signed(event) * step + random.between(0, step);
    }
    let slot = signed((event - before) * 2_016 / world.events_a_week().max(1));
    end_of_slot(slot).as_millis() + 1 + random.between(0, signed(SLOT.as_secs()) * SECOND)
}

/// The message an event reports on: a new one, or one that an earlier event said is delivered. A
/// message has the number of its first event.
pub(crate) fn message_of(world: World, event: u64) -> u64 {
    match follows(world, event) {
        Some(earlier)
            if follows(world, earlier).is_none() && message(world, earlier).kind == "delivered" =>
        {
            earlier
        }
        _ => event,
    }
}

/// The event this one would follow, if it is of that sort.
fn follows(world: World, event: u64) -> Option<u64> {
    let mut random = Random::of(world.seed, Draw::Event, event);
    random.next();
    let follows = random.chance(35);
    (follows && event > 0).then(|| event - 1 - random.below(event.min(400)))
}

pub(crate) fn message(world: World, number: u64) -> Message {
    let mut random = Random::of(world.seed, Draw::Message, number);
    let first_report = reported_at(world, number);
    let organization_id = organization_id(random.below(world.organizations()));
    let provider = random.pick(&PROVIDERS);
    let provider_message_id = format!("{:016x}", random.next());
    let kind = match random.below(100) {
        0..90 => "delivered",
        90..95 => "bounced",
        95..97 => "rejected",
        _ => "failed",
    };
    let fate = match random.below(1_000) {
        0..894 => Fate::Committed,
        894..994 => Fate::Late,
        994..998 => Fate::Never,
        _ => Fate::Malformed,
    };
    let committed_at = match fate {
        Fate::Committed => Some(first_report - random.between(2 * SECOND, 90 * SECOND)),
        Fate::Late => Some(
            first_report
                + match random.below(10) {
                    0..6 => random.between(5 * SECOND, MINUTE),
                    6..9 => random.between(MINUTE, HOUR),
                    _ => random.between(HOUR, 12 * HOUR),
                },
        ),
        Fate::Never | Fate::Malformed => None,
    };
    let delivery_id = format!("dlv_{:06}", number + 1);
    Message {
        delivery_id,
        organization_id,
        provider,
        provider_message_id,
        committed_at,
        malformed: fate == Fate::Malformed,
        kind,
    }
}

pub(crate) fn report(world: World, event: u64) -> Report {
    let number = message_of(world, event);
    let message = message(world, number);
    let inserted_at = reported_at(world, event);
    let mut random = Random::of(world.seed, Draw::Event, event);
    // The first three numbers decide when it comes and what it follows.
    for _ in 0..3 {
        random.next();
    }
    let kind = match number == event {
        true => message.kind,
        false => match random.below(100) {
            0..70 => "opened",
            70..97 => "clicked",
            _ => "complained",
        },
    };
    let ids = format!(
        "{{\"provider\":\"{}\",\"provider_message_id\":\"{}\"}}",
        message.provider, message.provider_message_id
    );
    let (payload, metadata) = match (message.malformed, random.below(10)) {
        (true, 0..5) => ("<html>502 Bad Gateway</html>".to_string(), "{}".to_string()),
        (true, _) => (format!("{{\"provider\":\"{}\"}}", message.provider), "{}".to_string()),
        (false, 0..7) => ("{}".to_string(), ids),
        (false, _) => (ids, "{}".to_string()),
    };
    Report {
        id: format!("evt_{:06}", event + 1),
        idempotency_key: format!("{}:{:06}", message.provider, event + 1),
        kind,
        occurred_at: inserted_at - random.between(200, 3 * SECOND),
        inserted_at,
        payload,
        metadata,
        message,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::super::world::{slot_of, slots};
    use super::*;

    #[test]
    fn events_come_in_their_slots_and_most_find_their_delivery() {
        let world = World { seed: 1, scale: 10 };
        let reports: Vec<Report> = (0..world.events(7)).map(|event| report(world, event)).collect();
        assert!(reports.iter().all(|report| slot_of(report.inserted_at) <= slots(7)));
        let known = reports.iter().filter(|report| report.delivery_id().is_some()).count();
        assert!((85..95).contains(&(known * 100 / reports.len())), "{known} of {}", reports.len());
        for kind in
            ["delivered", "bounced", "rejected", "failed", "opened", "clicked", "complained"]
        {
            assert!(reports.iter().any(|report| report.kind == kind), "{kind}");
        }
        assert!(reports.iter().any(|report| report.message.malformed));
    }
}
