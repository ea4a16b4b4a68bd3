//! Numbers that look random and are the same for the same seed, on every machine, in every version.

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

/// What a number is drawn for. Each kind of thing has numbers of its own.
#[derive(Clone, Copy)]
pub(crate) enum Draw {
    Organization = 1,
    Invitation,
    Membership,
    Event,
    Message,
}

impl Random {
    /// The numbers of one thing. They do not depend on what was drawn for others before.
    pub(crate) fn of(seed: u64, draw: Draw, index: u64) -> Self {
        let mut kind = Self(seed ^ (draw as u64).wrapping_mul(0xd1b5_4a32_d192_ed03));
        let mut thing = Self(kind.next().wrapping_add(index));
        Self(thing.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `end`. 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// From `low` to below `high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = u64::try_from(high - low).unwrap_or(0);
        low + i64::try_from(self.below(span)).unwrap_or(0)
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub(crate) fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let place = usize::try_from(self.below(of.len() as u64)).unwrap_or(0);
        of.get(place).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_splitmix64() {
        let mut random = Random(1_234_567);
        assert_eq!(
            [random.next(), random.next(), random.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn things_draw_numbers_of_their_own() {
        let first = |draw, index| Random::of(7, draw, index).next();
        assert_eq!(first(Draw::Event, 3), first(Draw::Event, 3));
        assert_ne!(first(Draw::Event, 3), first(Draw::Event, 4));
        assert_ne!(first(Draw::Event, 3), first(Draw::Message, 3));
    }
}
