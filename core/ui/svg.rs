//! Positions on a drawing.

use std::fmt;

use verger::Timestamp;

/// The width of a line through values, in units of its own.
pub(crate) const WIDTH: u32 = 1_000;

/// Maps times to positions, in hundredths of the width. So a drawing is as wide as there is space,
/// and its marks and words keep their size.
pub(crate) struct Scale {
    from: i64,
    span: f64,
}

/// A share of the width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Percent(pub(crate) f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}%", self.0)
    }
}

impl Scale {
    pub(crate) fn new(from: i64, until: i64) -> Self {
        Self { from, span: (until.saturating_sub(from)).max(1) as f64 }
    }

    /// The position of an instant. If it is outside of the drawing, the position is at the edge.
    pub(crate) fn x(&self, at: i64) -> Percent {
        Percent((at.saturating_sub(self.from) as f64 / self.span * 100.0).clamp(0.0, 100.0))
    }

    /// The width of a span, wide enough to be seen, however short the span is.
    pub(crate) fn wide(&self, from: i64, until: i64) -> Percent {
        Percent((self.x(until).0 - self.x(from).0).max(0.25))
    }
}

pub(crate) fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Full hours or days in a span of time, some six of them, and their names in UTC.
pub(crate) fn ticks(from: i64, until: i64) -> Vec<(i64, String)> {
    const STEPS: [i64; 9] = [5, 10, 30, 60, 180, 360, 720, 1_440, 10_080];
    let span = until.saturating_sub(from).max(1);
    let step = STEPS.iter().map(|minutes| minutes * 60_000).find(|step| span / step <= 8);
    let step = step.unwrap_or(4 * 10_080 * 60_000);
    let first = from.div_euclid(step).saturating_add(1).saturating_mul(step);
    let mut ticks = Vec::new();
    let mut at = first;
    while at < until && ticks.len() < 16 {
        let text = Timestamp::from_millis(at).to_string();
        let name = if step >= 86_400_000 { text.get(5..10) } else { text.get(11..16) };
        ticks.push((at, name.unwrap_or_default().to_string()));
        at = at.saturating_add(step);
    }
    ticks
}

/// The path of a line through these values, in a drawing of this height whose top is `most`: a step
/// for each value, and a gap where there is none.
pub(crate) fn line(values: &[Option<u64>], most: u64, height: f64) -> String {
    let step = f64::from(WIDTH) / values.len().max(1) as f64;
    let mut path = String::new();
    let mut goes_on = false;
    for (place, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let (x, y) =
                (place as f64 * step, height - *value as f64 / most.max(1) as f64 * height);
            let (from, y, to) = (tenth(x), tenth(y), tenth(x + step));
            path.push_str(&format!("{}{from},{y}H{to}", if goes_on { 'L' } else { 'M' }));
        }
        goes_on = value.is_some();
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_inside_and_ticks_are_few() {
        let scale = Scale::new(0, 1_000);
        let at = |at| scale.x(at).to_string();
        assert_eq!(
            (at(-5), at(500), at(i64::MAX)),
            ("0.00%".into(), "50.00%".into(), "100.00%".into())
        );
        assert_eq!(scale.wide(3, 3), Percent(0.25));
        for hours in [1, 6, 24, 168, 744] {
            let ticks = ticks(1_767_225_600_000, 1_767_225_600_000 + hours * 3_600_000);
            assert!((2..=9).contains(&ticks.len()), "{hours}: {ticks:?}");
        }
        assert!(ticks(i64::MIN, i64::MAX).len() <= 16);
        assert_eq!(line(&[Some(0), None, Some(4)], 4, 100.0), "M0,100H333.3M666.7,0H1000");
        assert_eq!(line(&[Some(2), Some(4)], 4, 100.0), "M0,50H500L500,0H1000");
    }
}
